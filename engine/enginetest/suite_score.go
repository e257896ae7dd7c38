package enginetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
)

// score weighs what was generated: both ways to come to a token's probability must agree.
func (s Suite) score(t *testing.T, e *engine.Engine) {
	var asks []engine.ScoreAsk
	var wants []answer
	for _, prompt := range []string{"Water boils at", "The capital of France is"} {
		tokens, err := e.Render(t.Context(), plain(prompt, "", 1))
		if err != nil {
			t.Fatal(err)
		}
		a := ask(t, e, plain(prompt, "generated", 8))
		for _, n := range []int{8, 1, 3} { // they share a prompt
			asks = append(asks, engine.ScoreAsk{Key: "scored", Prompt: tokens.Tokens, Continuation: a.ids()[:n]})
			wants = append(wants, answer{tokens: a.tokens[:n]})
		}
	}
	asks = append(asks, engine.ScoreAsk{Prompt: asks[0].Prompt})
	scores, err := e.Score(t.Context(), asks)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range wants {
		s.wantLogprobs(t, fmt.Sprint("ask ", i), scores[i], want.tokens)
	}
	if last := scores[len(wants)]; last.Logprobs != nil || last.Mean() != 0 {
		t.Errorf("nothing is as likely as %+v", last)
	}
	_, err = e.Score(t.Context(), []engine.ScoreAsk{{Continuation: asks[0].Continuation}})
	wantError(t, "no prompt", err, engine.ErrBadRequest)
	_, err = e.Score(t.Context(), []engine.ScoreAsk{asks[0], {Prompt: slices.Repeat(asks[0].Prompt, e.Info().Context), Continuation: asks[0].Continuation}})
	wantError(t, "a long prompt", err, engine.ErrContextOverflow)
}

func (s Suite) wantLogprobs(t *testing.T, what string, got engine.Score, want []engine.TokenInfo) {
	t.Helper()
	if len(got.Logprobs) != len(want) {
		t.Errorf("%s: %d log-probabilities of %d tokens", what, len(got.Logprobs), len(want))
		return
	}
	sum := 0.0
	for i, tok := range want {
		d := math.Abs(float64(got.Logprobs[i] - tok.Logprob))
		if sum += d; !(d <= 5*s.Tolerance) {
			t.Errorf("%s: token %d of %d has %.4f, when it was generated %.4f", what, i, len(want), got.Logprobs[i], tok.Logprob)
		}
	}
	if !(sum <= s.Tolerance*float64(len(want))) {
		t.Errorf("%s: tokens have log-probabilities %.3f, when they were generated they were %.3f apart on average", what, got.Logprobs, sum/float64(len(want)))
	}
}

func (s Suite) prefix(t *testing.T, e *engine.Engine) {
	prompt := "This is a long beginning that several requests have in common, word by word, and"
	first := ask(t, e, plain(prompt, "a", 2))
	again := ask(t, e, plain(prompt, "a", 2))
	longer := ask(t, e, plain(prompt+" more of it", "a", 2))
	other := ask(t, e, plain(prompt, "b", 2))
	if n := first.last.Usage.PromptTokens - 1; first.last.Usage.CachedTokens != 0 || again.last.Usage.CachedTokens != n || longer.last.Usage.CachedTokens < n-1 || other.last.Usage.CachedTokens != 0 {
		t.Errorf("of %d tokens were cached %d, then %d, in a longer prompt %d, for somebody else %d", n+1, first.last.Usage.CachedTokens,
			again.last.Usage.CachedTokens, longer.last.Usage.CachedTokens, other.last.Usage.CachedTokens)
	}
	for _, a := range []answer{again, other} {
		if d := math.Abs(float64(a.tokens[0].Logprob - first.tokens[0].Logprob)); a.tokens[0].ID == first.tokens[0].ID && !(d <= 5*s.Tolerance) {
			t.Errorf("the first token %q has %.4f, before %.4f", a.tokens[0].Text, a.tokens[0].Logprob, first.tokens[0].Logprob)
		}
	}
}

// company asks for many things at once; each answer must be as likely after its own prompt alone.
func (s Suite) company(t *testing.T, e *engine.Engine) {
	subjects := strings.Fields("water iron music winter bread horses Rome numbers rain glass")
	asks := make([]engine.ScoreAsk, len(subjects))
	answers := make([]answer, len(subjects))
	var wg sync.WaitGroup
	for i, subject := range subjects {
		wg.Go(func() {
			prompt := strings.Repeat("Let us talk about it. ", i%3) + "A word about " + subject + ":"
			stream, err := e.Generate(t.Context(), plain(prompt, fmt.Sprint(i%2), 5+i))
			if err != nil {
				t.Error(err)
				return
			}
			if i%3 == 0 {
				time.Sleep(time.Millisecond) // a slow reader
			}
			if answers[i], err = collect(t, stream); err != nil {
				t.Error(err)
				return
			}
			tokens, err := e.Render(t.Context(), plain(prompt, "", 1))
			if err != nil {
				t.Error(err)
			}
			asks[i] = engine.ScoreAsk{Key: fmt.Sprint("alone", i), Prompt: tokens.Tokens, Continuation: answers[i].ids()}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	scores, err := e.Score(t.Context(), asks)
	if err != nil {
		t.Fatal(err)
	}
	for i, score := range scores {
		s.wantLogprobs(t, subjects[i], score, answers[i].tokens)
	}
}
