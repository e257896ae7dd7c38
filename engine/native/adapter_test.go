package native_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// Requests with and without an adapter run beside each other, share nothing, and each says what it says alone.
func TestAdapters(t *testing.T) {
	lora := filepath.FromSlash("../../../shared/models/lora-smollm2-135m-random-r4-s0.3.gguf")
	if shared := os.Getenv("QUIPU_TEST_SHARED"); shared != "" {
		lora = filepath.Join(shared, "models", filepath.Base(lora))
	}
	if _, err := os.Stat(lora); err != nil {
		t.Skipf("the adapter is missing: %v", err)
	}
	c := engine.DefaultConfig()
	c.Placing, c.Draft = engine.PlaceNever, false
	e := open(t, c, native.Options{Adapters: []native.Adapter{{Name: "random", Path: lora}}})
	cached := func(adapter string) int {
		r := ask("Name three colours of the rainbow.", 4)
		r.Adapter, r.Key = adapter, "a"
		s, err := e.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		_, last := read(t, s)
		return last.Usage.CachedTokens
	}
	cached("")
	if n := cached("random"); n != 0 {
		t.Errorf("%d tokens that were computed without the adapter were shared", n)
	}
	if n := cached("random"); n == 0 {
		t.Error("what was computed with the adapter was computed again")
	}

	prompt, err := e.Render(t.Context(), ask("Name three colours of the rainbow.", 1))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.Tokenize(t.Context(), "Red, orange and yellow.")
	if err != nil {
		t.Fatal(err)
	}
	weigh := func(adapter, key string) float64 {
		scores, err := e.Score(t.Context(), []engine.ScoreAsk{{Key: key, Adapter: adapter, Prompt: prompt.Tokens, Continuation: answer}})
		if err != nil {
			t.Error(err)
			return 0
		}
		return scores[0].Mean()
	}
	// Floats differ a little in company, but by far less than the adapter makes.
	base, adapted := weigh("", "c"), weigh("random", "c")
	tolerance := math.Abs(base-adapted) / 8
	if tolerance < 0.02 {
		t.Fatalf("with the adapter %.3f nats a token, without %.3f: the test would prove nothing", adapted, base)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		adapter, want := "", base
		if i%2 == 1 {
			adapter, want = "random", adapted
		}
		wg.Go(func() {
			if got := weigh(adapter, fmt.Sprint("d", i/4)); math.Abs(got-want) > tolerance {
				t.Errorf("adapter %q: in company %.3f nats a token, alone %.3f", adapter, got, want)
			}
		})
	}
	wg.Wait()
	_, err = e.Generate(t.Context(), &engine.Request{Text: "x", Adapter: "nobody", Logprobs: -1})
	if err == nil {
		t.Error("an adapter that is not there was taken")
	}
}
