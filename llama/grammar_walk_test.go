package llama

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Grammars to walk in: as schemas make them, and with everything that GBNF has.
func walkedGrammars(t testing.TB) map[string]string {
	t.Helper()
	grammars := map[string]string{
		"words":      `root ::= ("yes" | "no" | "nothing") " "? [0-9]{2}`,
		"one text":   `root ::= "only this: ünï, 漢字 and 🦙, then an end"`,
		"ranges":     `root ::= [a-a] [b-bb] [^\x00-\U0010FFFE] | "ab" [à-ü]+ "x"`,
		"any":        `root ::= . "b" [^b\n]* "b" .`,
		"nested":     `root ::= "(" (root | "x"){1,3} ")"`,
		"many ways":  `root ::= ("a" | "ab" | "abc" | "b" | "c" | "bc")+ "." | "abcabcabc!"`,
		"wide":       "root ::= [一-龯ぁ-ん]+ \"。\" | \"é\" [éè] \"ê\"",
		"tokens":     `root ::= "a" (<[5]> | "b") "c"`,
		"long space": `root ::= " "{0,40} "x"`,
	}
	for i, schema := range []string{
		`{"type":"object"}`,
		`{"type":"object","properties":{"answer":{"type":"boolean"}},"required":["answer"],"additionalProperties":false}`,
		`{"type":"array","items":{"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":0,"maximum":130}},"required":["name","age"],"additionalProperties":false},"minItems":1,"maxItems":3}`,
		`{"enum":["red","green","blue","greenish",null,12]}`,
		`{"const":{"kind":"ünïcode","list":[1,2,3]}}`,
		`{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"string","format":"date"},"c":{"type":"string","pattern":"^[A-Z]{3}-[0-9]+$"}},"required":["a","b","c"]}`,
		`{"anyOf":[{"type":"object","properties":{"kind":{"const":"first"},"x":{"type":"integer"}},"required":["kind","x"]},{"type":"object","properties":{"kind":{"const":"fifth"}},"required":["kind"]}]}`,
		`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"null"},"c":{"type":"array","items":{"type":"boolean"}}}}`,
	} {
		grammar, err := SchemaToGrammar([]byte(schema))
		must(t, err)
		grammars[fmt.Sprintf("schema %d", i)] = grammar
	}
	return grammars
}

// masked asks llama.cpp about every token.
func masked(t testing.TB, s *Sampler, c *Candidates) []Token {
	t.Helper()
	c.Reset(make([]float32, s.m.Vocab().Len()))
	must(t, s.Apply(c))
	var allowed []Token
	for _, item := range c.Items {
		if !math.IsInf(float64(item.Logit), -1) {
			allowed = append(allowed, item.ID)
		}
	}
	return allowed
}

// Along random ways through grammars, what is found by walking them is what llama.cpp allows token by token, and forced text
// is the only text that goes on.
func TestGrammarWalk(t *testing.T) {
	m := loadModel(t, chatModel)
	v := m.Vocab()
	spellings, err := v.Spellings()
	must(t, err)
	random := rand.New(rand.NewPCG(3, 4))
	for name, grammar := range walkedGrammars(t) {
		t.Run(name, func(t *testing.T) {
			steps, told, forcing := 0, 0, 0
			for range 3 {
				s := newTestSampler(t, m, Grammar(grammar, "root"))
				for range 20 {
					steps++
					var c, picked Candidates
					want := masked(t, s, &c)
					var set Set
					ok, err := s.Allowed(spellings, math.MaxInt, &set)
					must(t, err)
					if ok {
						told++
						picked.PickSet(make([]float32, v.Len()), set)
						got := make([]Token, len(picked.Items))
						for i, item := range picked.Items {
							got[i] = item.ID
						}
						if !slices.Equal(got, want) {
							t.Fatalf("allowed are %s, found %s", spelled(v, without(want, got)), spelled(v, without(got, want)))
						}
					}
					if forcing < 8 && checkForced(t, v, s, want) {
						forcing++
					}
					if again := masked(t, s, &c); !slices.Equal(again, want) {
						t.Fatal("looking changed the grammar")
					}
					next := want[random.IntN(len(want))]
					if random.IntN(3) > 0 { // short tokens go through more of the grammar
						next = slices.MinFunc(sample(random, want, 8), func(a, b Token) int { return len(piece(v, a)) - len(piece(v, b)) })
					}
					must(t, s.Accept(next))
					if v.IsEOG(next) {
						break
					}
				}
			}
			t.Logf("%d steps, %d told, %d forced", steps, told, forcing)
			if told == 0 || told < steps/2 && name != "tokens" && name != "wide" {
				t.Errorf("only %d of %d steps were told", told, steps)
			}
		})
	}
}

// checkForced holds the forced text against the tokens that are allowed, here and behind each of its characters.
func checkForced(t *testing.T, v *Vocab, s *Sampler, allowed []Token) bool {
	t.Helper()
	text, complete, err := s.Forced(1 << 10)
	must(t, err)
	first := map[rune]bool{}
	for _, token := range allowed {
		r, _ := utf8.DecodeRuneInString(piece(v, token))
		if v.IsEOG(token) {
			r = -1
		}
		first[r] = true
	}
	if text == "" {
		if len(first) == 1 && !first[-1] && !first[utf8.RuneError] {
			t.Fatalf("nothing is forced where only %s are allowed", spelled(v, allowed))
		}
		return false
	}
	if part, _, err := s.Forced(len(text) - 1); err != nil || !strings.HasPrefix(text, part) || part == text {
		t.Fatalf("of %q in less room %q, %v", text, part, err)
	}
	clone, err := s.Clone()
	must(t, err)
	defer clone.Close()
	var c Candidates
	for rest := text; rest != ""; {
		for _, token := range allowed {
			if p := piece(v, token); v.IsEOG(token) || !strings.HasPrefix(rest, p) && !strings.HasPrefix(p, rest) {
				t.Fatalf("%q is forced, and %q allowed", rest, p)
			}
		}
		shortest := slices.MinFunc(allowed, func(a, b Token) int { return len(piece(v, a)) - len(piece(v, b)) })
		must(t, clone.Accept(shortest))
		rest = rest[min(len(rest), len(piece(v, shortest))):]
		allowed = masked(t, clone, &c)
	}
	if ends := !slices.ContainsFunc(allowed, func(token Token) bool { return !v.IsEOG(token) }); ends != complete {
		t.Fatalf("behind %q complete is %v, allowed are %s", text, complete, spelled(v, allowed))
	}
	return true
}

func piece(v *Vocab, t Token) string {
	p, err := v.Piece(t, true)
	if err != nil {
		return err.Error()
	}
	return string(p)
}

func sample(random *rand.Rand, from []Token, n int) []Token {
	out := make([]Token, n)
	for i := range out {
		out[i] = from[random.IntN(len(from))]
	}
	return out
}

func without(all, some []Token) []Token {
	return slices.DeleteFunc(slices.Clone(all), func(t Token) bool { return slices.Contains(some, t) })
}

func spelled(v *Vocab, tokens []Token) string {
	var texts []string
	for _, t := range tokens[:min(len(tokens), 10)] {
		texts = append(texts, fmt.Sprintf("%d %q", t, piece(v, t)))
	}
	return fmt.Sprintf("%d: %s", len(tokens), strings.Join(texts, ", "))
}

// Where a grammar can't be walked, that is said, and the grammar goes on.
func TestGrammarWalkGivesUp(t *testing.T) {
	m := loadModel(t, chatModel)
	spellings, err := m.Vocab().Spellings()
	must(t, err)
	var set Set
	told := func(s *Sampler, budget int) bool {
		ok, err := s.Allowed(spellings, budget, &set)
		must(t, err)
		return ok
	}
	free := newTestSampler(t, m, Greedy())
	lazy := newTestSampler(t, m, LazyGrammar(`root ::= "<call>" "name" [0-9]+`, "root", Trigger{Patterns: []string{`(<call>)`}}))
	two := newTestSampler(t, m, Grammar(`root ::= "a"`, "root"), Grammar(`root ::= "a"`, "root"))
	for name, s := range map[string]*Sampler{"no grammar": free, "not begun": lazy, "two": two} {
		text, _, err := s.Forced(100)
		if told(s, math.MaxInt) || text != "" || err != nil {
			t.Errorf("%s: forced %q, %v", name, text, err)
		}
	}
	for _, tok := range mustTokens(t, m, "Well. <call>") {
		must(t, lazy.Accept(tok))
	}
	if text, _, err := lazy.Forced(100); text != "name" || err != nil || !told(lazy, math.MaxInt) {
		t.Errorf("begun: forced %q, %v", text, err)
	}
	all := newTestSampler(t, m, Grammar(`root ::= .*`, "root"))
	if told(all, 100) || !told(all, 1<<30) {
		t.Error("the budget has no effect")
	}
	inside := newTestSampler(t, m, Grammar(`root ::= "é" "x"`, "root"))
	for _, tok := range func() []Token {
		var c Candidates
		return masked(t, inside, &c)
	}() {
		if piece(m.Vocab(), tok) == "\xc3" {
			must(t, inside.Accept(tok))
			if text, _, _ := inside.Forced(100); told(inside, math.MaxInt) || text != "" {
				t.Errorf("inside a character %q is forced", text)
			}
			break
		}
	}
	closed, err := NewSampler(m, Grammar(`root ::= "a"`, "root"))
	must(t, err)
	must(t, closed.Close())
	_, err = closed.Allowed(spellings, 1, &set)
	wantError(t, err, ErrClosed)
	if _, _, err := closed.Forced(1); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
