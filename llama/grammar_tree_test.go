package llama

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// grammarTree is a parsed grammar. The first rules are the named ones in order of appearance.
type grammarTree struct {
	rules []treeRule
	names map[string]int
}

type treeRule struct {
	name    string
	defined bool
	alts    [][]treeItem
}

// treeItem is an element of a sequence and how often it may come.
type treeItem struct {
	kind     treeKind
	runes    []rune // of a literal; pairs of bounds for a class
	ref      int    // rule
	min, max int    // max < 0 is without end
}

type treeKind int

const (
	treeLiteral treeKind = iota
	treeClass
	treeNotClass
	treeAny
	treeToken
	treeRef
)

type treeParser struct {
	src string
	pos int
	g   grammarTree
}

func parseGrammar(src string) (*grammarTree, error) {
	p := &treeParser{src: src, g: grammarTree{names: map[string]int{}}}
	p.space(true)
	for p.pos < len(p.src) {
		if err := p.rule(); err != nil {
			return nil, fmt.Errorf("line %d: %w", 1+strings.Count(p.src[:min(p.pos, len(p.src))], "\n"), err)
		}
	}
	for _, r := range p.g.rules {
		if !r.defined {
			return nil, fmt.Errorf("the rule %s is used and not defined", r.name)
		}
	}
	return &p.g, nil
}

func (p *treeParser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *treeParser) space(newlines bool) {
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == '#':
			for p.pos < len(p.src) && p.src[p.pos] != '\n' && p.src[p.pos] != '\r' {
				p.pos++
			}
		case c == ' ' || c == '\t' || newlines && (c == '\n' || c == '\r'):
			p.pos++
		default:
			return
		}
	}
}

func isGrammarWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// name reads a rule's name and returns the rule.
func (p *treeParser) name() (int, error) {
	start := p.pos
	for isGrammarWord(p.peek()) {
		p.pos++
	}
	if p.pos == start {
		return 0, p.expected("a rule's name")
	}
	name := p.src[start:p.pos]
	i, ok := p.g.names[name]
	if !ok {
		i = p.add(treeRule{name: name})
		p.g.names[name] = i
	}
	return i, nil
}

func (p *treeParser) add(r treeRule) int {
	p.g.rules = append(p.g.rules, r)
	return len(p.g.rules) - 1
}

func (p *treeParser) expected(what string) error {
	if p.pos >= len(p.src) {
		return fmt.Errorf("expected %s, found the end", what)
	}
	return fmt.Errorf("expected %s, found %.20q", what, p.src[p.pos:])
}

func (p *treeParser) rule() error {
	i, err := p.name()
	if err != nil {
		return err
	}
	p.space(false)
	if !strings.HasPrefix(p.src[p.pos:], "::=") {
		return p.expected("::=")
	}
	p.pos += 3
	p.space(true)
	alts, err := p.alternatives(0)
	if err != nil {
		return err
	}
	p.g.rules[i].alts, p.g.rules[i].defined = alts, true
	if c := p.peek(); p.pos < len(p.src) && c != '\n' && c != '\r' {
		return p.expected("the end of the line")
	}
	p.space(true)
	return nil
}

func (p *treeParser) alternatives(depth int) ([][]treeItem, error) {
	var alts [][]treeItem
	for {
		seq, err := p.sequence(depth)
		if err != nil {
			return nil, err
		}
		alts = append(alts, seq)
		if p.peek() != '|' {
			return alts, nil
		}
		p.pos++
		p.space(true)
	}
}

func (p *treeParser) sequence(depth int) ([]treeItem, error) {
	var seq []treeItem
	for p.pos < len(p.src) {
		item := treeItem{min: 1, max: 1}
		var err error
		switch c := p.peek(); {
		case c == '"':
			item.kind = treeLiteral
			item.runes, err = p.literal()
		case c == '[':
			item.kind, item.runes, err = p.class()
		case c == '.':
			p.pos++
			item.kind = treeAny
		case c == '<' || c == '!':
			item.kind = treeToken
			err = p.token()
		case isGrammarWord(c):
			item.kind = treeRef
			item.ref, err = p.name()
		case c == '(':
			item.kind = treeRef
			item.ref, err = p.group(depth)
		case c == '*' || c == '+' || c == '?' || c == '{':
			if len(seq) == 0 {
				return nil, fmt.Errorf("nothing before %c", c)
			}
			if err = p.repeat(seq); err != nil {
				return nil, err
			}
			p.space(depth > 0)
			continue
		default:
			return seq, nil
		}
		if err != nil {
			return nil, err
		}
		seq = append(seq, item)
		p.space(depth > 0)
	}
	return seq, nil
}

func (p *treeParser) group(depth int) (int, error) {
	p.pos++
	p.space(true)
	i := p.add(treeRule{name: "group", defined: true})
	alts, err := p.alternatives(depth + 1)
	if err != nil {
		return 0, err
	}
	p.g.rules[i].alts = alts
	if p.peek() != ')' {
		return 0, p.expected(")")
	}
	p.pos++
	return i, nil
}

// repeat applies a repetition to the last item of a sequence.
func (p *treeParser) repeat(seq []treeItem) (err error) {
	last := &seq[len(seq)-1]
	if last.min != 1 || last.max != 1 { // a second repetition is one of the first
		i := p.add(treeRule{name: "group", defined: true, alts: [][]treeItem{{*last}}})
		*last = treeItem{kind: treeRef, ref: i}
	}
	last.min, last.max, err = p.bounds()
	return err
}

// bounds reads *, +, ? or {m,n}.
func (p *treeParser) bounds() (low, high int, err error) {
	c := p.peek()
	p.pos++
	switch c {
	case '*':
		return 0, -1, nil
	case '+':
		return 1, -1, nil
	case '?':
		return 0, 1, nil
	}
	number := func() (int, error) {
		p.space(true)
		start := p.pos
		for '0' <= p.peek() && p.peek() <= '9' {
			p.pos++
		}
		n, err := strconv.Atoi(p.src[start:p.pos])
		p.space(true)
		if p.pos == start || err != nil {
			return 0, p.expected("a number")
		}
		return n, nil
	}
	if low, err = number(); err != nil {
		return 0, 0, err
	}
	high = low
	if p.peek() == ',' {
		p.pos++
		p.space(true)
		high = -1
		if p.peek() != '}' {
			if high, err = number(); err != nil {
				return 0, 0, err
			}
		}
	}
	if p.peek() != '}' {
		return 0, 0, p.expected("}")
	}
	p.pos++
	return low, high, nil
}

func (p *treeParser) literal() ([]rune, error) {
	p.pos++
	var runes []rune
	for p.peek() != '"' {
		r, err := p.char()
		if err != nil {
			return nil, err
		}
		runes = append(runes, r)
	}
	p.pos++
	return runes, nil
}

func (p *treeParser) class() (treeKind, []rune, error) {
	kind := treeClass
	p.pos++
	if p.peek() == '^' {
		kind = treeNotClass
		p.pos++
	}
	var bounds []rune
	for p.peek() != ']' {
		low, err := p.char()
		if err != nil {
			return 0, nil, err
		}
		high := low
		if p.peek() == '-' && p.pos+1 < len(p.src) && p.src[p.pos+1] != ']' {
			p.pos++
			if high, err = p.char(); err != nil {
				return 0, nil, err
			}
		}
		bounds = append(bounds, low, high)
	}
	p.pos++
	if len(bounds) == 0 {
		return 0, nil, fmt.Errorf("a class is empty")
	}
	return kind, bounds, nil
}

// token reads <[id]> or <text>.
func (p *treeParser) token() error {
	if p.peek() == '!' {
		p.pos++
	}
	if p.peek() != '<' {
		return p.expected("<")
	}
	end := strings.IndexByte(p.src[p.pos:], '>')
	if end < 0 {
		return p.expected("a token that ends in >")
	}
	p.pos += end + 1
	return nil
}

func (p *treeParser) char() (rune, error) {
	if p.pos >= len(p.src) {
		return 0, p.expected("a character")
	}
	if p.src[p.pos] != '\\' {
		r, size := utf8.DecodeRuneInString(p.src[p.pos:])
		p.pos += size
		return r, nil
	}
	if p.pos+1 >= len(p.src) {
		return 0, p.expected("an escape")
	}
	c := p.src[p.pos+1]
	if i := strings.IndexByte(`\"[]-`, c); i >= 0 {
		p.pos += 2
		return rune(c), nil
	}
	if i := strings.IndexByte("trn", c); i >= 0 {
		p.pos += 2
		return rune("\t\r\n"[i]), nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 || p.pos+2+digits > len(p.src) {
		return 0, p.expected("a known escape")
	}
	n, err := strconv.ParseUint(p.src[p.pos+2:p.pos+2+digits], 16, 31)
	if err != nil {
		return 0, p.expected("hexadecimal digits")
	}
	p.pos += 2 + digits
	return rune(n), nil
}

// mustParse returns a grammar that is known to be good.
func mustParse(t *testing.T, grammar string) *grammarTree {
	t.Helper()
	if err := checkGrammar(grammar, "root"); err != nil {
		t.Fatalf("%v\n%s", err, grammar)
	}
	g, err := parseGrammar(grammar)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGrammarAccepts(t *testing.T) {
	g := mustParse(t, `root ::= ws "[" (num ("," num)*)? "]"
num ::= "-"? [0-9]{1,3}
ws ::= " "*`)
	for text, want := range map[string]bool{"[]": true, "  [1,-23,456]": true, "[1234]": false, "[1,]": false, "": false} {
		if got := g.accepts(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	w := newWriter(g, 1)
	for range 100 {
		if text := w.text(50); !g.accepts(text) {
			t.Errorf("wrote %q, which is not accepted", text)
		}
	}
}
