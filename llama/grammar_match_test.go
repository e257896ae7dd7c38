package llama

import (
	"slices"
)

// accepts tells whether the whole text obeys the grammar.
func (g *grammarTree) accepts(text string) bool {
	m := &matcher{g: g, text: []rune(text), memo: map[[2]int][]int{}}
	return slices.Contains(m.rule(g.names["root"], 0), len(m.text))
}

// matcher finds all ends of a match, by recursive descent with a memory.
type matcher struct {
	g    *grammarTree
	text []rune
	memo map[[2]int][]int
}

func (m *matcher) rule(rule, at int) []int {
	key := [2]int{rule, at}
	if ends, ok := m.memo[key]; ok {
		return ends
	}
	var ends []int
	for _, seq := range m.g.rules[rule].alts {
		from := []int{at}
		for _, item := range seq {
			from = m.item(item, from)
		}
		ends = append(ends, from...)
	}
	slices.Sort(ends)
	m.memo[key] = slices.Compact(ends)
	return m.memo[key]
}

func (m *matcher) item(item treeItem, from []int) []int {
	seen := map[int]bool{}
	var out []int
	for n := 0; len(from) > 0 && (item.max < 0 || n <= item.max); n++ {
		var next []int
		for _, at := range from {
			if n >= item.min && !seen[at] {
				seen[at] = true
				out = append(out, at)
			} else if n >= item.min {
				continue
			}
			next = append(next, m.once(item, at)...)
		}
		slices.Sort(next)
		from = slices.Compact(next)
	}
	return out
}

func (m *matcher) once(item treeItem, at int) []int {
	switch item.kind {
	case treeRef:
		return m.rule(item.ref, at)
	case treeLiteral:
		if at+len(item.runes) <= len(m.text) && slices.Equal(m.text[at:at+len(item.runes)], item.runes) {
			return []int{at + len(item.runes)}
		}
		return nil
	}
	if at < len(m.text) && item.has(m.text[at]) {
		return []int{at + 1}
	}
	return nil
}

// has tells whether a class has a character.
func (item treeItem) has(r rune) bool {
	in := item.kind == treeAny
	for i := 0; i+1 < len(item.runes); i += 2 {
		in = in || item.runes[i] <= r && r <= item.runes[i+1]
	}
	return in != (item.kind == treeNotClass)
}
