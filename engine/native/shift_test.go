package native_test

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// whole generates to the end and gives all tokens.
func whole(t *testing.T, e *engine.Engine, r *engine.Request) (tokens []engine.TokenInfo, last engine.Event) {
	t.Helper()
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Error(err)
		return nil, last
	}
	defer s.Close()
	for last.Finish == "" {
		if last, err = s.Recv(t.Context()); err != nil {
			t.Error(err)
			return tokens, last
		}
		tokens = append(tokens, last.Tokens...)
	}
	return tokens, last
}

func ids(tokens []engine.TokenInfo) []engine.Token {
	var out []engine.Token
	for _, t := range tokens {
		out = append(out, t.ID)
	}
	return out
}

// apart is how far two streams' log-probabilities lie apart on average, as long as they say the same.
func apart(a, b []engine.TokenInfo) (mean float64, n int) {
	for n < min(len(a), len(b)) && a[n].ID == b[n].ID {
		mean += math.Abs(float64(a[n].Logprob - b[n].Logprob))
		n++
	}
	return mean / float64(max(n, 1)), n
}

// A stream fills its context several times and goes on, about as sure of what it says as if what is left of the text were computed
// anew. Those beside it, who share its prompt, notice nothing.
func TestShift(t *testing.T) {
	const size, max = 256, 600
	e := open(t, engine.DefaultConfig(), native.Options{Context: size, Cells: 2048, Running: 4, Threads: 1})
	story := func(key, end string, n int) *engine.Request {
		return &engine.Request{Key: key, MaxTokens: n, IgnoreEOS: true, Logprobs: 0, Chat: &engine.Chat{Messages: []engine.Message{
			{Role: "system", Content: "You tell long stories about the sea, in simple words."},
			{Role: "user", Content: "Tell me the story of the old lighthouse and its keeper." + end}}}}
	}
	ends := []string{"", " Begin with a storm.", " Let there be a whale."}
	alone := make([][]engine.TokenInfo, len(ends))
	for i, end := range ends {
		alone[i], _ = whole(t, e, story("alone", end, 100))
	}
	long := story("company", "", max)
	long.Shift = true
	prompt, err := e.Render(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []engine.TokenInfo
	var last engine.Event
	var wg sync.WaitGroup
	wg.Go(func() { tokens, last = whole(t, e, long) })
	wg.Go(func() {
		for range 3 { // before, during and after its shifts
			for i, end := range ends {
				beside, _ := whole(t, e, story("company", end, 100))
				if mean, n := apart(alone[i], beside); n == 0 || mean > 0.15 {
					t.Errorf("%q: alone and in company %.3f apart over %d tokens", end, mean, n)
				}
			}
		}
	})
	wg.Wait()
	if last.Finish != engine.FinishLength || len(tokens) != max || last.Usage.GeneratedTokens != max {
		t.Fatalf("%q after %+v", last.Finish, last.Usage)
	}
	if u := last.Usage; u.DroppedTokens < u.PromptTokens+max-size {
		t.Errorf("a context of %d cannot hold what is left: %+v", size, u)
	}
	t.Logf("%d tokens dropped", last.Usage.DroppedTokens)

	// After the first shift: what the model would say of the rest, computed anew.
	chat := story("", "", 1).Chat
	chat.Messages[1].Content = "B" // as the engine finds the end of the system message
	other, err := e.Render(t.Context(), &engine.Request{Chat: chat})
	if err != nil {
		t.Fatal(err)
	}
	keep := 0
	for prompt.Tokens[keep] == other.Tokens[keep] {
		keep++
	}
	first := size - len(prompt.Tokens) // tokens generated before the first shift
	all := slices.Concat(prompt.Tokens, ids(tokens[:first]))
	left := slices.Concat(all[:keep], all[keep+(size-keep)/2:])
	scores, err := e.Score(t.Context(), []engine.ScoreAsk{{Prompt: left, Continuation: ids(tokens[first : first+50])}})
	if err != nil {
		t.Fatal(err)
	}
	moved := 0.0
	for i, token := range tokens[first : first+50] {
		moved += float64(token.Logprob-scores[0].Logprobs[i]) / 50
	}
	t.Logf("of the 50 tokens behind the first shift the moved KV is %.3f nats a token surer than computed anew (%.3f)", moved, scores[0].Mean())
	if math.Abs(moved) > 0.5 {
		t.Errorf("%.3f nats a token apart from what is computed anew", moved)
	}
}
