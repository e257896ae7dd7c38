package llama

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// llama.cpp's grammar parser recurses with the text, expands repetitions without looking at their size, loops on {5,3},
// and looks for left recursion along every path, of which there can be exponentially many. It tells about errors on
// stderr only. So a grammar is read here first, into the same rules, and refused with its place when it is wrong or
// would be too much.
const (
	maxGrammarBytes    = 1 << 20
	maxGrammarDepth    = 128     // of parentheses
	maxGrammarRepeat   = 2000    // llama.cpp's own limit
	maxGrammarElements = 1 << 20 // of all rules, repetitions expanded
	maxGrammarChain    = 4000    // of rules that begin with one another
	maxGrammarPaths    = 1 << 22 // along such chains
)

// element is what a rule consists of, as far as left recursion cares.
type element int32

const (
	elementAlt  element = -1 // ends an alternative
	elementChar element = -2 // characters, or a token
	// from 0 on: the number of another rule
)

// gbnf reads a grammar. It panics with an *Error, which checkGrammar returns.
type gbnf struct {
	text     string
	at       int
	depth    int
	ids      map[string]int
	rules    [][]element
	defined  []bool
	elements int
}

// checkGrammar returns ErrGrammar, with the line, for what llama.cpp refuses or would not survive.
func checkGrammar(grammar, root string) (err error) {
	const op = "grammar"
	switch {
	case strings.TrimSpace(grammar) == "":
		return fail(op, ErrGrammar, "it is empty")
	case len(grammar) > maxGrammarBytes:
		return fail(op, ErrGrammar, "it has %d bytes; at most %d", len(grammar), maxGrammarBytes)
	case !utf8.ValidString(grammar):
		return fail(op, ErrGrammar, "it is not UTF-8")
	case strings.ContainsRune(grammar, 0) || strings.ContainsRune(root, 0):
		return fail(op, ErrGrammar, "it has a NUL byte")
	case strings.HasPrefix(strings.TrimSpace(grammar), "%llguidance"):
		return fail(op, ErrGrammar, "only GBNF is understood, not llguidance")
	}
	p := &gbnf{text: grammar, ids: map[string]int{}}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	p.space(true)
	for p.at < len(p.text) {
		p.rule()
	}
	if _, ok := p.ids[root]; !ok {
		return fail(op, ErrGrammar, "it has no rule %q", root)
	}
	for name, id := range p.ids {
		if !p.defined[id] {
			return fail(op, ErrGrammar, "rule %q is not defined", name)
		}
	}
	return p.checkRecursion()
}

func (p *gbnf) fail(format string, args ...any) {
	line := 1 + strings.Count(p.text[:p.at], "\n")
	column := p.at - strings.LastIndexByte(p.text[:p.at], '\n')
	args = append([]any{line, column}, args...)
	panic(fail("grammar", ErrGrammar, "line %d, column %d: "+format, args...))
}

// peek returns the byte n ahead, 0 at the end.
func (p *gbnf) peek(n int) byte {
	if p.at+n < len(p.text) {
		return p.text[p.at+n]
	}
	return 0
}

func (p *gbnf) space(newlines bool) {
	for {
		switch c := p.peek(0); {
		case c == '#':
			for c := p.peek(0); c != 0 && c != '\r' && c != '\n'; c = p.peek(0) {
				p.at++
			}
		case c == ' ' || c == '\t' || newlines && (c == '\r' || c == '\n'):
			p.at++
		default:
			return
		}
	}
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
}

func (p *gbnf) name() string {
	start := p.at
	for isNameByte(p.peek(0)) {
		p.at++
	}
	if p.at == start {
		p.fail("expected a rule's name: letters, digits and -")
	}
	return p.text[start:p.at]
}

func (p *gbnf) id(name string) int {
	id, ok := p.ids[name]
	if !ok {
		id = p.newRule()
		p.ids[name] = id
	}
	return id
}

func (p *gbnf) newRule() int {
	p.rules = append(p.rules, nil)
	p.defined = append(p.defined, false)
	return len(p.rules) - 1
}

func (p *gbnf) define(id int, rule []element) {
	p.rules[id], p.defined[id] = rule, true
}

func (p *gbnf) rule() {
	id := p.id(p.name())
	p.space(false)
	if p.peek(0) != ':' || p.peek(1) != ':' || p.peek(2) != '=' {
		p.fail("expected ::=")
	}
	p.at += 3
	p.space(true)
	p.define(id, p.alternatives(false))
	if c := p.peek(0); c != 0 && c != '\r' && c != '\n' {
		p.fail("expected the end of the rule, not %q", c)
	}
	p.space(true)
}

func (p *gbnf) alternatives(nested bool) []element {
	p.depth++
	if p.depth > maxGrammarDepth {
		p.fail("more than %d parentheses inside each other", maxGrammarDepth)
	}
	rule := p.sequence(nil, nested)
	for p.peek(0) == '|' {
		p.at++
		p.space(true)
		rule = p.sequence(p.add(rule, elementAlt), nested)
	}
	p.depth--
	return p.add(rule, elementAlt)
}

func (p *gbnf) add(rule []element, more ...element) []element {
	p.elements += len(more)
	if p.elements > maxGrammarElements {
		p.fail("more than %d elements, with repetitions written out", maxGrammarElements)
	}
	return append(rule, more...)
}

func (p *gbnf) sequence(rule []element, nested bool) []element {
	last := len(rule) // where the symbol begins that a repetition repeats
	weight := 1       // how many rules it stands for
	for {
		switch c := p.peek(0); {
		case c == '"':
			last, weight = len(rule), 1
			p.at++
			for p.peek(0) != '"' {
				p.char()
				rule = p.add(rule, elementChar)
			}
			p.at++
		case c == '[':
			last, weight = len(rule), 1
			if p.class() {
				rule = p.add(rule, elementChar)
			}
		case c == '.':
			last, weight = len(rule), 1
			p.at++
			rule = p.add(rule, elementChar)
		case c == '<' || c == '!':
			last, weight = len(rule), 1
			p.token()
			rule = p.add(rule, elementChar)
		case isNameByte(c):
			last, weight = len(rule), 1
			rule = p.add(rule, element(p.id(p.name())))
		case c == '(':
			before := len(p.rules)
			p.at++
			p.space(true)
			id := p.newRule()
			p.define(id, p.alternatives(true))
			if p.peek(0) != ')' {
				p.fail("expected )")
			}
			p.at++
			last, weight = len(rule), max(1, len(p.rules)-before)
			rule = p.add(rule, element(id))
		case c == '*' || c == '+' || c == '?' || c == '{':
			low, high := p.repetition()
			if last == len(rule) {
				p.fail("there is nothing to repeat")
			}
			rule, weight = p.repeat(rule, last, weight, low, high)
		default:
			return rule
		}
		p.space(nested)
	}
}

// char reads a character of a string or class, escaped or not.
func (p *gbnf) char() {
	digits := 0
	switch c := p.peek(0); c {
	case 0:
		p.fail("the grammar ends inside a string or class")
	case '\\':
		p.at++
		switch p.peek(0) {
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case 't', 'r', 'n', '\\', '"', '[', ']', '-':
		default:
			p.fail("unknown escape")
		}
		p.at++
	default:
		for p.at++; p.peek(0)&0xc0 == 0x80; {
			p.at++
		}
	}
	for range digits {
		if c := p.peek(0); !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			p.fail("expected %d hexadecimal digits", digits)
		}
		p.at++
	}
}

// class reads [a-z] or [^a-z] and tells whether there is anything in it.
func (p *gbnf) class() bool {
	p.at++
	if p.peek(0) == '^' {
		p.at++
	}
	any := false
	for p.peek(0) != ']' {
		p.char()
		any = true
		if p.peek(0) == '-' && p.peek(1) != ']' {
			p.at++
			p.char()
		}
	}
	p.at++
	return any
}

// token reads <[id]> or <text>, also with ! before it; llama.cpp looks it up.
func (p *gbnf) token() {
	if p.peek(0) == '!' {
		p.at++
	}
	end := strings.IndexByte(p.text[p.at:], '>')
	if p.peek(0) != '<' || end < 0 {
		p.fail("expected a token like <[1000]> or <think>")
	}
	p.at += end + 1
}

const unbounded = math.MaxInt

// repetition reads *, +, ?, {n}, {n,} or {n,m}.
func (p *gbnf) repetition() (low, high int) {
	c := p.peek(0)
	p.at++
	switch c {
	case '*':
		return 0, unbounded
	case '+':
		return 1, unbounded
	case '?':
		return 0, 1
	}
	p.space(true)
	low = p.number()
	high = low
	p.space(true)
	if p.peek(0) == ',' {
		p.at++
		p.space(true)
		high = unbounded
		if p.peek(0) != '}' {
			high = p.number()
			p.space(true)
		}
	}
	if p.peek(0) != '}' {
		p.fail("expected }")
	}
	p.at++
	switch {
	case low > maxGrammarRepeat:
		p.fail("more than %d repetitions", maxGrammarRepeat)
	case high < low:
		p.fail("a repetition of %d to %d", low, high)
	case high > maxGrammarRepeat:
		high = unbounded // as llama.cpp does
	}
	return low, high
}

func (p *gbnf) number() int {
	start := p.at
	for c := p.peek(0); c >= '0' && c <= '9'; c = p.peek(0) {
		p.at++
	}
	n, err := strconv.Atoi(p.text[start:p.at])
	if err != nil {
		p.fail("expected a number")
	}
	return n
}

// repeat writes a repetition out as llama.cpp does: the symbol as often as it must be there, then rules
// s(n) = symbol s(n-1) | nothing for the rest.
func (p *gbnf) repeat(rule []element, last, weight, low, high int) ([]element, int) {
	symbol := append([]element(nil), rule[last:]...)
	total := 1
	if high != unbounded && high > 0 {
		total = high
	} else if low > 0 {
		total = low
	}
	if weight*total > maxGrammarRepeat {
		p.fail("more than %d rules after writing the repetition out", maxGrammarRepeat)
	}
	if low == 0 {
		rule = rule[:last]
	}
	for i := 1; i < low; i++ {
		rule = p.add(rule, symbol...)
	}
	optional := 1
	if high != unbounded {
		optional = high - low
	}
	next := -1
	for i := range optional {
		id := p.newRule()
		more := p.add(nil, symbol...)
		if high == unbounded {
			more = p.add(more, element(id))
		} else if i > 0 {
			more = p.add(more, element(next))
		}
		p.define(id, p.add(more, elementAlt, elementAlt))
		next = id
	}
	if optional > 0 {
		rule = p.add(rule, element(next))
	}
	return rule, weight * total
}

// checkRecursion follows from each rule those that it can begin with.
func (p *gbnf) checkRecursion() error {
	const op = "grammar"
	empty := make([]bool, len(p.rules)) // has an empty alternative
	for id, rule := range p.rules {
		start := true
		for _, e := range rule {
			if e == elementAlt && start {
				empty[id] = true
				break
			}
			start = e == elementAlt
		}
	}
	type visit struct{ chain, paths int }
	done := make([]visit, len(p.rules))
	active := make([]bool, len(p.rules))
	var follow func(id, depth int) error
	follow = func(id, depth int) error {
		switch {
		case active[id]:
			return fail(op, ErrGrammar, "rule %q begins with itself (left recursion)", p.nameOf(id))
		case depth > maxGrammarChain:
			return fail(op, ErrGrammar, "more than %d rules that begin with one another", maxGrammarChain)
		case done[id].chain > 0:
			return nil
		}
		active[id] = true
		v := visit{1, 1}
		begins := true
		for _, e := range p.rules[id] {
			switch {
			case e == elementAlt:
				begins = true
			case e >= 0 && begins:
				if err := follow(int(e), depth+1); err != nil {
					return err
				}
				v.chain = max(v.chain, 1+done[e].chain)
				v.paths = min(v.paths+done[e].paths, maxGrammarPaths+1)
				begins = empty[e]
			default:
				begins = false
			}
		}
		active[id] = false
		done[id] = v
		if v.paths > maxGrammarPaths || v.chain > maxGrammarChain {
			return fail(op, ErrGrammar, "rule %q can begin in too many ways", p.nameOf(id))
		}
		return nil
	}
	for id := range p.rules {
		if err := follow(id, 0); err != nil {
			return err
		}
	}
	return nil
}

func (p *gbnf) nameOf(id int) string {
	for name, i := range p.ids {
		if i == id {
			return name
		}
	}
	return "(…)"
}
