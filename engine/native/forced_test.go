package native_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// compact is a grammar without blanks, which forces much.
const compact = `root ::= "{\"answer\":" ("true" | "false") ",\"reason\":\"" [a-z ]{1,20} "\",\"sources\":[" [0-9] ("," [0-9]){0,2} "]}"`

func text(t testing.TB, b *native.Backend, tokens []engine.Token) string {
	t.Helper()
	var s strings.Builder
	for _, token := range tokens {
		s.Write(b.Piece(token, true))
	}
	return s.String()
}

// What is forced is what comes, whatever the logits are.
func TestForced(t *testing.T) {
	for _, model := range []string{chatModel, coderModel} {
		t.Run(model, func(t *testing.T) {
			b := load(t, model)
			random := rand.New(rand.NewPCG(7, 8))
			logits := make([]float32, native.VocabSize(b))
			constraints := map[string]engine.Constraint{"compact": {Grammar: compact}, "schema": constraint(t, b, listOfPeople)}
			for name, c := range constraints {
				forced, steps := 0, 0
				for seed := range uint32(3) {
					s, err := b.NewSampler(engine.Sampling{Temperature: 1}, seed, c)
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					said := ""
					type claim struct {
						at   int
						text string
					}
					var claims []claim
					for range 60 {
						for i := range logits {
							logits[i] = float32(random.NormFloat64())
						}
						tokens := s.(engine.Forcer).Forced(16)
						if !slices.Equal(tokens, s.(engine.Forcer).Forced(16)) {
							t.Fatal("looking changed what is forced")
						}
						if first := s.(engine.Forcer).Forced(1); len(tokens) > 0 && !slices.Equal(first, tokens[:1]) {
							t.Fatalf("of %d one is %d", tokens, first)
						}
						steps++
						if len(tokens) > 0 {
							forced++
							claims = append(claims, claim{len(said), text(t, b, tokens)})
						}
						token, err := s.Sample(logits)
						if err != nil {
							t.Fatal(err)
						}
						if b.Ends(token) {
							break
						}
						said += string(b.Piece(token, true))
					}
					for _, c := range claims {
						came := said[c.at:]
						if n := min(len(came), len(c.text)); came[:n] != c.text[:n] {
							t.Fatalf("%q was forced, %q came", c.text, came)
						}
					}
				}
				t.Logf("%s: %d of %d steps were forced", name, forced, steps)
				if forced == 0 {
					t.Errorf("%s: nothing was forced", name)
				}
			}
		})
	}
}

// The tokens that are forced can be accepted, the whole text at once where nothing follows.
func TestForcedTokens(t *testing.T) {
	b := load(t, chatModel)
	for grammar, want := range map[string]string{
		`root ::= "{\"answer\":" [0-9]`:      `{"answer`, // what follows may be spelled with the last token
		`root ::= "The end of it all."`:      `The end of it all.`,
		`root ::= "The end of it all." "!"?`: `The end of it all`,
		`root ::= "a" | "b"`:                 ``,
		`root ::= "a"?`:                      ``,
		`root ::= [0-9]`:                     ``,
	} {
		s, err := b.NewSampler(engine.Sampling{}, 1, engine.Constraint{Grammar: grammar})
		if err != nil {
			t.Fatal(err)
		}
		tokens := s.(engine.Forcer).Forced(20)
		if got := text(t, b, tokens); got != want {
			t.Errorf("%s forces %q, want %q", grammar, got, want)
		}
		if none := s.(engine.Forcer).Forced(0); none != nil {
			t.Errorf("%d of no tokens", none)
		}
		for _, token := range tokens {
			if err := s.Accept(token); err != nil {
				t.Fatalf("%s: %v", grammar, err)
			}
		}
		s.Close()
	}
	free, err := b.NewSampler(engine.Sampling{}, 1, engine.Constraint{})
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	if tokens := free.(engine.Forcer).Forced(8); tokens != nil {
		t.Errorf("%d without a grammar", tokens)
	}
}

func BenchmarkForced(bench *testing.B) {
	b := load(bench, coderModel)
	for name, grammar := range map[string]string{"forced": compact, "choice": `root ::= [0-9] | "a"`, "string": `root ::= [^"]* "\""`} {
		s, err := b.NewSampler(engine.Sampling{}, 1, engine.Constraint{Grammar: grammar})
		if err != nil {
			bench.Fatal(err)
		}
		bench.Run(name, func(bench *testing.B) {
			for bench.Loop() {
				s.(engine.Forcer).Forced(8)
			}
		})
		s.Close()
	}
}
