package llama

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestTokenize(t *testing.T) {
	for _, name := range []string{chatModel, rerankModel} {
		t.Run(name, func(t *testing.T) {
			m := loadModel(t, name, func(p *ModelParams) { p.VocabOnly = true })
			v := m.Vocab()
			t.Log(v, v.Specials())
			for _, text := range []string{
				"", " ", "Hello, world!", "naïve café — 東京, Привет, 👩‍👩‍👧‍👦", "func main() {\n\tfmt.Println(\"x\")\n}", "a\x00b\x00", strings.Repeat("long ", 1000),
				"\xff\xfe broken \xc3", "<|im_start|>", "\r\n\r\n", "\u200b\u00a0", strings.Repeat("ab", 3000),
			} {
				tokens, err := v.Tokenize(text, false, false)
				must(t, err)
				back, err := v.Detokenize(tokens, false, true)
				must(t, err)
				want := text
				if !utf8.ValidString(want) {
					want = validUTF8(want)
				}
				if v.Type() == VocabBPE && back != want {
					t.Errorf("%.40q came back as %.40q", text, back)
				}
				var pieces []byte
				for _, tok := range tokens {
					pieces, err = v.AppendPiece(pieces, tok, true)
					must(t, err)
				}
				if v.Type() == VocabBPE && string(pieces) != back {
					t.Errorf("%.40q: pieces %.40q", text, pieces)
				}
			}
		})
	}
}

func TestSpecialTokens(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	v := m.Vocab()
	parsed, err := v.Tokenize("<|im_start|>", false, true)
	must(t, err)
	plain, err := v.Tokenize("<|im_start|>", false, false)
	must(t, err)
	if len(parsed) != 1 || !v.IsControl(parsed[0]) || len(plain) < 2 {
		t.Errorf("parsed %v, as text %v", parsed, plain)
	}
	if text, err := v.Text(parsed[0]); err != nil || text != "<|im_start|>" {
		t.Errorf("%q, %v", text, err)
	}
	if piece, err := v.Piece(parsed[0], false); err != nil || len(piece) != 0 {
		t.Errorf("%q, %v", piece, err)
	}
	if !v.IsEOG(v.Specials().EOS) || v.IsEOG(plain[0]) || v.IsControl(plain[0]) {
		t.Error("ends and controls")
	}
	for _, tok := range []Token{-1, Token(v.Len()), 1 << 30} {
		_, err := v.Piece(tok, true)
		wantError(t, err, ErrToken)
		_, err = v.Text(tok)
		wantError(t, err, ErrToken)
		_, err = v.Score(tok)
		wantError(t, err, ErrToken)
		_, err = v.Detokenize([]Token{1, tok}, false, false)
		wantError(t, err, ErrToken)
		if v.IsEOG(tok) || v.IsControl(tok) {
			t.Errorf("token %d has properties", tok)
		}
	}
}

func TestControls(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	v := m.Vocab()
	controls, err := v.Controls()
	must(t, err)
	for token := range Token(v.Len()) {
		if listed := slices.Contains(controls, token); listed != v.IsControl(token) { // its unknown token is one too
			t.Errorf("token %d is listed: %v", token, listed)
		}
	}
	if len(controls) < 3 {
		t.Errorf("there are %v", controls)
	}
}

// A text in pieces has no spaces that it has not as a whole, and a control token's text is text, also where SentencePiece could
// put the token together.
func TestPiecewise(t *testing.T) {
	spm := tiny("gemma2")
	tokens := spm.get(ggufTokens).([]string)
	for old, pair := range map[string]string{"r": "<", "d": ">", "u": "<s"} {
		tokens[slices.Index(tokens, old)] = pair
	}
	for name, m := range map[string]*tinyModel{"spm": spm, "bpe": tiny("llama")} {
		t.Run(name, func(t *testing.T) {
			v := m.load(t).Vocab()
			whole := "the hell\n\U0010FFFFé"
			want, err := v.Tokenize(whole, true, false)
			must(t, err)
			read, err := v.Detokenize(want, false, false)
			must(t, err)
			for _, cut := range []int{3, 4, 8, 9} {
				got, err := v.Tokenize(whole[:cut], true, false)
				must(t, err)
				got, err = v.AppendContinued(got, whole[cut:], false)
				must(t, err)
				if text, err := v.Detokenize(got, false, false); err != nil || text != read {
					t.Errorf("cut at %d it reads %q, %v; whole %q", cut, text, err, read)
				}
			}
			if got, err := v.AppendContinued(nil, "", true); err != nil || len(got) > 0 {
				t.Errorf("nothing is %v, %v", got, err)
			}
			controls, err := v.Controls()
			must(t, err)
			for _, token := range controls {
				text, err := v.Text(token)
				must(t, err)
				got, err := v.AppendLiteral([]Token{want[0]}, text)
				must(t, err)
				back, err := v.Detokenize(got[1:], false, false)
				if must(t, err); slices.ContainsFunc(got[1:], v.IsControl) || back != text {
					t.Errorf("%q is %v, reads %q", text, got[1:], back)
				}
			}
		})
	}
}

func TestTokenizeConcurrently(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	texts := []string{"The quick brown fox", "jumps over", strings.Repeat("the lazy dog ", 50), "東京 123", strings.Repeat("a", 9000)}
	var want [][]Token
	for _, text := range texts {
		tokens, err := m.Vocab().Tokenize(text, true, true)
		must(t, err)
		want = append(want, tokens)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 40 {
				n := (g + i) % len(texts)
				tokens, err := m.Vocab().Tokenize(texts[n], true, true)
				if err != nil || !slices.Equal(tokens, want[n]) {
					t.Errorf("text %d: %v, %v", n, tokens, err)
				}
				if _, err := m.Vocab().Detokenize(tokens, false, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Pre-tokenizers made of std::regex overflow an ordinary stack at 26,000 equal characters.
func TestLongRuns(t *testing.T) {
	regex := withPreTokenizer(t, modelFile(t, chatModel), "gpt-4o")
	words := withPreTokenizer(t, modelFile(t, chatModel), "exaone-moe")
	for _, test := range []struct{ path, text, times, goroutines string }{
		{regex, "a", "200000", "1"}, {regex, "中", "100000", "1"}, {regex, "!\n", "50000", "1"},
		{regex, "a", "40000", "6"}, {regex, " ", "40000", "6"}, {regex, "7", "40000", "6"}, {words, "word ", "20000", "4"},
	} {
		out, err := exec.Command(os.Args[0], "run-child", test.path, test.text, test.times, test.goroutines).CombinedOutput()
		if err != nil {
			t.Errorf("%s times %q in %s goroutines: %v: %s", test.times, test.text, test.goroutines, err, head(string(out), 5))
		}
	}
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	var wg sync.WaitGroup
	for _, text := range []string{strings.Repeat("a", 1<<20), strings.Repeat(" ", 1<<20), strings.Repeat("7", 1<<20), strings.Repeat("\n", maxRun+1), strings.Repeat("a ", MaxTokenizeBytes)} {
		for range 4 {
			wg.Go(func() {
				if _, err := m.Vocab().Tokenize(text, false, false); !errors.Is(err, ErrTextTooLong) {
					t.Errorf("%d bytes: %v", len(text), err)
				}
			})
		}
	}
	wg.Wait()
	for text, want := range map[string]int{
		strings.Repeat("ab c ", 4000):                                        3,
		strings.Repeat("x", 5000):                                            5000,
		strings.Repeat("x", 5000) + strings.Repeat("\n", 100) + "yy":         5100,
		strings.Repeat("日本", 3000) + "\u3000\u3000" + strings.Repeat("x", 7): 6002,
	} {
		if got := longestRun(text, false); got != want {
			t.Errorf("%.10q…: %d, want %d", text, got, want)
		}
	}
}
