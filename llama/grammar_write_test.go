package llama

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// writer makes random texts that obey a grammar.
type writer struct {
	g      *grammarTree
	rand   *rand.Rand
	height []int // of the lowest tree below a rule
	out    strings.Builder
}

func newWriter(g *grammarTree, seed uint64) *writer {
	w := &writer{g: g, rand: rand.New(rand.NewPCG(seed, 1)), height: make([]int, len(g.rules))}
	for i := range w.height {
		w.height[i] = endless
	}
	for changed := true; changed; {
		changed = false
		for i, r := range g.rules {
			for _, seq := range r.alts {
				if h := min(w.tall(seq)+1, endless); h < w.height[i] {
					w.height[i], changed = h, true
				}
			}
		}
	}
	return w
}

// endless tells whether no text is finite.
func (w *writer) endless() bool { return w.height[w.g.names["root"]] >= endless }

const endless = 1 << 20

func (w *writer) tall(seq []treeItem) int {
	h := 0
	for _, item := range seq {
		if item.kind == treeRef && item.min > 0 {
			h = max(h, w.height[item.ref])
		}
	}
	return h
}

// text writes one text; past the budget of steps it takes the shortest way out.
func (w *writer) text(budget int) string {
	w.out.Reset()
	w.rule(w.g.names["root"], &budget)
	return w.out.String()
}

func (w *writer) rule(rule int, budget *int) {
	alts := slices.DeleteFunc(slices.Clone(w.g.rules[rule].alts), func(seq []treeItem) bool { return w.tall(seq) >= endless })
	seq := alts[w.rand.IntN(len(alts))]
	if *budget--; *budget < 0 {
		seq = slices.MinFunc(alts, func(a, b []treeItem) int { return w.tall(a) - w.tall(b) })
	}
	for _, item := range seq {
		n := item.min
		if *budget > 0 && (item.kind != treeRef || w.height[item.ref] < endless) {
			more := 4
			if item.max >= 0 {
				more = min(more, item.max-item.min)
			}
			n += w.rand.IntN(more + 1)
		}
		for range n {
			switch item.kind {
			case treeRef:
				w.rule(item.ref, budget)
			case treeLiteral:
				w.out.WriteString(string(item.runes))
			default:
				w.out.WriteRune(w.pick(item))
			}
		}
	}
}

func (w *writer) pick(item treeItem) rune {
	if item.kind == treeClass {
		i := 2 * w.rand.IntN(len(item.runes)/2)
		for {
			r := item.runes[i] + w.rand.Int32N(item.runes[i+1]-item.runes[i]+1)
			if r < 0xD800 || r > 0xDFFF {
				return r
			}
		}
	}
	for {
		r := []rune("abc019 _-.:/@\"\\\n\tZé€\U0001F600")[w.rand.IntN(20)]
		if item.has(r) {
			return r
		}
	}
}
