package native_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// tokens reads a stream's tokens.
func tokens(t testing.TB, e *engine.Engine, r *engine.Request) (out []engine.TokenInfo) {
	t.Helper()
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer s.Close()
	for {
		event, err := s.Recv(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Error(err)
			return out
		}
		out = append(out, event.Tokens...)
	}
}

// A request with a seed says the same alone and in company. Batches of another shape round otherwise, so texts may part where
// the draw falls near the border between two tokens; up to there and at this place all tokens are about as likely. Guesses
// change the shape of batches too, by what steps take, so there are none.
func TestSeeds(t *testing.T) {
	const tolerance = 0.1 // of probabilities
	e := open(t, engine.Config{Queue: 16, Budget: 512}, native.Options{Running: 8, Threads: 1})
	request := func(seed uint32, key string) *engine.Request {
		r := ask("Tell me about the sea.", 24)
		r.Key, r.Logprobs = fmt.Sprint(key, seed), 5
		r.Sampling = engine.Sampling{Temperature: 0.8, TopK: 2, Seed: seed, Seeded: true} // two: few borders
		return r
	}
	const seeds = 8
	alone := make([][]engine.TokenInfo, seeds)
	texts := map[string]bool{}
	for seed := range uint32(seeds) {
		alone[seed] = tokens(t, e, request(seed, "alone"))
		if again := tokens(t, e, request(seed, "again")); part(alone[seed], again) != len(again) {
			t.Errorf("seed %d: %q, then %q", seed, spoken(alone[seed]), spoken(again))
		}
		texts[spoken(alone[seed])] = true
	}
	if len(texts) < seeds/2 {
		t.Errorf("%d seeds gave %d texts", seeds, len(texts))
	}
	company := make([][]engine.TokenInfo, seeds)
	var running sync.WaitGroup
	for seed := range uint32(seeds) {
		running.Go(func() { company[seed] = tokens(t, e, request(seed, "company")) })
	}
	running.Wait()
	same, all := 0, 0
	for seed := range seeds {
		a, b := alone[seed], company[seed]
		n := part(a, b)
		same, all = same+n, all+len(a)
		for i := range min(n+1, len(a), len(b)) {
			likely := map[engine.Token]float64{}
			for _, other := range a[i].Top {
				likely[other.ID] = math.Exp(float64(other.Logprob))
			}
			for _, other := range b[i].Top {
				p := math.Exp(float64(other.Logprob))
				if l, ok := likely[other.ID]; ok && math.Abs(l-p) > tolerance {
					t.Errorf("seed %d, token %d: %q has %.3f alone, %.3f in company", seed, i, other.Text, l, p)
				}
			}
		}
	}
	if t.Logf("%d of %d tokens are the same until the texts part", same, all); same < all/5 {
		t.Error("that is too few")
	}
}

// part is where two texts part, or the shorter one's length.
func part(a, b []engine.TokenInfo) int {
	n := 0
	for n < min(len(a), len(b)) && a[n].ID == b[n].ID {
		n++
	}
	return n
}

func spoken(tokens []engine.TokenInfo) string {
	var s strings.Builder
	for _, token := range tokens {
		s.Write(token.Text)
	}
	return s.String()
}
