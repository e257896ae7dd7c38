package native_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/llama"
)

// requantized makes a draft model of the chat model: in another number format, without some of its layers.
func requantized(t *testing.T, format string, prune ...int) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), format+".gguf")
	to, err := llama.ParseFileType(format)
	if err == nil {
		err = llama.Quantize(modelFile(t, chatModel), out, llama.QuantizeParams{Type: to, Requantize: true, Threads: 2, PruneLayers: prune})
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func loadWith(t *testing.T, draft string) *native.Backend {
	t.Helper()
	b, err := native.Load(t.Context(), modelFile(t, chatModel), native.Options{Context: 512, Cells: 2048, Running: 4, DraftModel: draft})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The draft model's guesses are what it says greedily, whatever it computed before.
func TestGuess(t *testing.T) {
	path := requantized(t, "Q8_0")
	b := loadWith(t, path)
	alone, err := native.Load(t.Context(), path, native.Options{Context: 512, Cells: 512, Running: 1})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(alone, engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		e.Close()
		noOwners(t)
	})
	tokens, err := b.Tokenize("Count from one to ten: one, two, three,", true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Generate(t.Context(), &engine.Request{Tokens: tokens, MaxTokens: 12, Logprobs: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	said := slices.Clone(tokens)
	for {
		event, err := s.Recv(t.Context())
		if err != nil {
			break
		}
		for _, token := range event.Tokens {
			said = append(said, token.ID)
		}
	}
	if len(said) < len(tokens)+8 {
		t.Fatalf("it says only %d tokens", len(said)-len(tokens))
	}
	guess := func(sequence, upTo, n int) []engine.Token {
		t.Helper()
		guesses, err := b.Guess(t.Context(), sequence, said[:upTo], n)
		if err != nil {
			t.Fatal(err)
		}
		return guesses
	}
	first := len(tokens)
	for i, step := range []struct{ sequence, upTo, n int }{
		{0, first, 4}, {0, first, 4}, {0, first + 2, 3}, // some right guesses stay
		{3, first / 2, 0}, {3, first, 4}, // caught up in pieces, beside another
		{0, first + 1, 5}, // back
	} {
		got := guess(step.sequence, step.upTo, step.n)
		if want := said[step.upTo : step.upTo+step.n]; step.n > 0 && !slices.Equal(got, want) {
			t.Errorf("step %d: it guesses %v, alone it says %v", i, got, want)
		}
	}
	b.Forget(0)
	b.Forget(0)
	if got := guess(0, first, 4); !slices.Equal(got, said[first:first+4]) {
		t.Errorf("forgotten, it guesses %v, alone it says %v", got, said[first:first+4])
	}
	// What it cannot follow it does not guess.
	if got, err := b.Guess(t.Context(), 0, make([]engine.Token, 600), 4); len(got) > 0 || err != nil {
		t.Errorf("behind too many tokens it guesses %v, %v", got, err)
	}
	if got, err := b.Guess(t.Context(), 0, append(slices.Clone(tokens), 1<<20), 4); len(got) > 0 || err != nil {
		t.Errorf("behind a token that it does not know it guesses %v, %v", got, err)
	}
	if got := guess(0, first, 4); !slices.Equal(got, said[first:first+4]) {
		t.Errorf("afterwards it guesses %v, alone it says %v", got, said[first:first+4])
	}
	// Full to the brim: both sequences that may be followed, each as long as a request may be.
	b.Forget(3)
	long := make([]engine.Token, 512)
	for i := range long {
		long[i] = tokens[i%len(tokens)]
	}
	for sequence := range engine.DraftStreams {
		if got, err := b.Guess(t.Context(), sequence, long[:508], 16); err != nil || len(got) > 4 {
			t.Errorf("sequence %d of 508 tokens: %v, %v", sequence, got, err)
		}
	}
	// One that was stopped starts anew.
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := b.Guess(stopped, 0, said[:first], 4); err == nil {
		t.Error("it computed after its end")
	}
	if got := guess(0, first, 4); !slices.Equal(got, said[first:first+4]) {
		t.Errorf("after it was stopped it guesses %v, alone it says %v", got, said[first:first+4])
	}
}

// slow is a backend whose batches take so long that guesses pay.
type slow struct{ *native.Backend }

func (s slow) Decode(ctx context.Context, rows []engine.Row) error {
	time.Sleep(100 * time.Millisecond)
	return s.Backend.Decode(ctx, rows)
}

// Answers are the same with a draft model and without, but for choices between tokens that are about as likely: batches of
// another shape round otherwise.
func TestDraftModel(t *testing.T) {
	questions := []string{"What is the capital of France?", "Count from 1 to 12.", "Name the days of the week."}
	answers := func(b engine.Backend) (said [][]engine.TokenInfo, sum engine.Step) {
		c := engine.DefaultConfig()
		var mu sync.Mutex
		e, err := engine.New(b, c, engine.Hooks{
			Step: func(s engine.Step) {
				mu.Lock()
				defer mu.Unlock()
				sum.Rows++
				sum.ModelDrafted, sum.ModelAccepted = sum.ModelDrafted+s.ModelDrafted, sum.ModelAccepted+s.ModelAccepted
			},
			DraftFailed: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range questions {
			r := ask(q, 32)
			r.Logprobs = 2
			s, err := e.Generate(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			var tokens []engine.TokenInfo
			for {
				event, err := s.Recv(t.Context())
				if err != nil {
					break
				}
				tokens = append(tokens, event.Tokens...)
			}
			s.Close()
			said = append(said, tokens)
		}
		e.Close()
		noOwners(t)
		return said, sum
	}
	path := modelFile(t, chatModel)
	plain, err := native.Load(t.Context(), path, native.Options{Context: 512, Running: 4})
	if err != nil {
		t.Fatal(err)
	}
	alone, without := answers(plain)
	if without.ModelDrafted > 0 {
		t.Errorf("without a draft model it guessed %d tokens", without.ModelDrafted)
	}
	for name, draft := range map[string]string{
		"another format": requantized(t, "Q8_0"),
		"fewer layers":   requantized(t, "Q8_0", 12, 13, 14, 15, 16),
	} {
		t.Run(name, func(t *testing.T) {
			said, sum := answers(slow{loadWith(t, draft)})
			t.Logf("%d steps instead of %d; of %d guesses %d were right", sum.Rows, without.Rows, sum.ModelDrafted, sum.ModelAccepted)
			if sum.ModelAccepted == 0 || sum.Rows >= without.Rows {
				t.Errorf("of %d guesses %d were right, in %d steps instead of %d", sum.ModelDrafted, sum.ModelAccepted, sum.Rows, without.Rows)
			}
			same := 0
			for i := range questions {
				n := 0
				for n < min(len(said[i]), len(alone[i])) && said[i][n].ID == alone[i][n].ID {
					n++
				}
				if n == len(alone[i]) && n == len(said[i]) {
					same++
					continue
				}
				longer := alone[i] // the other may have ended
				if n == len(longer) {
					longer = said[i]
				}
				if top := longer[n].Top; top[0].Logprob-top[1].Logprob > 0.15 {
					t.Errorf("%s: answers part at token %d, where one says %q, the likeliest by far", questions[i], n, longer[n].Text)
				}
			}
			if same == 0 {
				t.Error("not one answer is the same")
			}
		})
	}
}

// A model of another vocabulary is refused, by name.
func TestDraftModelMustFit(t *testing.T) {
	const coder = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
	for _, draft := range []string{modelFile(t, coder), modelFile(t, embeddingModel)} {
		b, err := native.Load(t.Context(), modelFile(t, chatModel), native.Options{Context: 256, Cells: 256, DraftModel: draft})
		if err == nil {
			b.Close()
			t.Fatalf("%s was taken", draft)
		}
		t.Log(err)
		for _, name := range []string{filepath.Base(draft), chatModel} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q does not name %s", err, name)
			}
		}
		noOwners(t)
	}
	if _, err := native.Load(t.Context(), modelFile(t, chatModel), native.Options{DraftModel: "absent.gguf"}); err == nil || !strings.Contains(err.Error(), "absent.gguf") {
		t.Errorf("a file that is not there: %v", err)
	}
	noOwners(t)
}
