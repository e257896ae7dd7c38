package llama

import (
	"errors"
	"os"
	"strings"
	"testing"
)

const jsonGrammar = `# any JSON value
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
`

var goodGrammars = []string{
	jsonGrammar, `root ::= "a"`, "root ::= [^\n] | \"\\u00e4\"\n", `root ::= .`, "root ::= a b?\na ::= \"x\"{2,3}\nb ::= [a-z-]{2,}",
	"root ::= \"ünï\" [中-龥]", "root ::=\n  (\n \"a\"\n | \"b\" )\n", "root ::= <[5]> !<[6]>", `root ::= "x"{0}  "y"`, "root ::= a\r\na ::= \"b\"\r\n",
}

var badGrammars = []string{
	"", " \n", "root", "root ::=", "rot ::= \"a\"", "root ::= b", "root ::= (", "root ::= \"a", "root ::= [a", "root ::= \"\\q\"", "root ::= \"\\x4\"",
	"root ::= * \"a\"", "root ::= \"a\"{5,3}", "root ::= \"a\"{3001}", "root ::= \"a\"{99999999999999999999}", "root ::= root \"a\"", "root ::= a\na ::= b \"x\"\nb ::= a",
	"%llguidance {}\nstart: /a/", "root ::= \"a\" )", "root ::= \"\xff\"", "root ::= \"\x00\"", "root ::= <token", "root ::= \"a\"{2,", "root ::= ()*",
	"root ::= " + strings.Repeat("(", 500) + "\"a\"" + strings.Repeat(")", 500),
	"root ::= \"" + strings.Repeat("a", 10000) + "\"{2000}",
	exponentialGrammar(60),
}

// exponentialGrammar begins in 2^n ways.
func exponentialGrammar(n int) string {
	var b strings.Builder
	b.WriteString("root ::= r0\n")
	for i := range n {
		b.WriteString("r" + letters(i) + " ::= r" + letters(i+1) + " | r" + letters(i+1) + "\n")
	}
	b.WriteString("r" + letters(n) + " ::= \"a\"\n")
	return strings.Replace(b.String(), "r0", "r"+letters(0), 1)
}

func letters(i int) string { return string([]byte{byte('a' + i/26), byte('a' + i%26)}) }

func TestCheckGrammar(t *testing.T) {
	for _, g := range goodGrammars {
		if err := checkGrammar(g, "root"); err != nil {
			t.Errorf("%.60q: %v", g, err)
		}
	}
	for _, g := range badGrammars {
		err := checkGrammar(g, "root")
		if !errors.Is(err, ErrGrammar) && g != "root ::=" { // an empty alternative is a grammar
			t.Errorf("%.60q: %v", g, err)
		}
	}
	if err := checkGrammar("root ::= \"a\"\nb ::= \"c", "root"); !strings.Contains(err.Error(), "line 2, column 9") {
		t.Errorf("it does not say where: %v", err)
	}
}

// llama.cpp must agree with what is let through.
func TestGrammarsParse(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	for _, g := range append(goodGrammars, badGrammars...) {
		s, err := NewSampler(m, Grammar(g, "root"))
		if refused := checkGrammar(g, "root"); (refused == nil) != (err == nil) {
			t.Errorf("%.60q: checked %v, llama.cpp %v", g, refused, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// Tokens in a grammar are looked up in the vocabulary, whatever is written there.
func TestGrammarTokens(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	for text, ok := range map[string]bool{
		"<[5]>": true, "<|im_end|>": true, "!<[5]>": true, "<[999999999]>": true, "<[-1]>": false, "<[]>": false, "<>": false, "<no such token>": false,
		"<[99999999999999999999]>": false, "<[4294967297]>": true, "<[5": false,
	} {
		s, err := NewSampler(m, Grammar("root ::= "+text+" | \"a\"", "root"), Greedy())
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrGrammar) {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil {
			continue
		}
		var c Candidates
		c.Reset(make([]float32, m.Vocab().Len()))
		must(t, s.Apply(&c))
		must(t, s.Accept(c.Token()))
		s.Close()
	}
}

func FuzzGrammar(f *testing.F) {
	for _, g := range append(goodGrammars, badGrammars...) {
		if len(g) < 2000 {
			f.Add(g)
		}
	}
	var m *Model
	if models := os.Getenv("QUIPU_TEST_MODELS"); models != "" {
		m = loadModel(f, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	}
	f.Fuzz(func(t *testing.T, g string) {
		err := checkGrammar(g, "root")
		if err == nil && m != nil {
			if s, err := NewSampler(m, Grammar(g, "root")); err == nil {
				s.Close()
			}
		}
	})
}
