package enginetest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
)

// documents are passages that a question can be answered from.
var documents = []engine.Document{
	{Title: "The mill", Text: "The mill at Harrowby was built in 1823 and ground oats until the flood of 1911."},
	{Title: "The bridge", Text: "The iron bridge carries two lanes of traffic and a path for walkers over the river Lenn."},
	{Title: "The school", Text: "The school has 240 pupils. Lessons begin at half past eight and end at three."},
	{Title: "The market", Text: "On Thursdays there is a market in the square, with cheese, cloth and live poultry."},
}

func about(key, question string, picked ...int) *engine.Request {
	chat := &engine.Chat{Messages: []engine.Message{{Role: "system", Content: "You answer briefly, from the documents alone."}, {Role: "user", Content: question}}}
	for _, i := range picked {
		chat.Documents = append(chat.Documents, documents[i])
	}
	return &engine.Request{Chat: chat, Key: key, MaxTokens: 12, IgnoreEOS: true, Logprobs: 0}
}

// passages computes each document once, whatever the order and company in which requests want it.
func (s Suite) passages(t *testing.T, e *engine.Engine) {
	rendered, err := e.Render(t.Context(), about("a", "When was the mill built?", 0, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	if len(rendered.Passages) != 3 {
		t.Fatalf("3 documents are %d passages", len(rendered.Passages))
	}
	other, err := e.Render(t.Context(), about("a", "When was the mill built?", 2, 0))
	if err != nil {
		t.Fatal(err)
	}
	tokens := func(p engine.Prompt, i int) []engine.Token { return p.Tokens[p.Passages[i].From:p.Passages[i].To] }
	if !slices.Equal(tokens(rendered, 0), tokens(other, 1)) || !slices.Equal(tokens(rendered, 2), tokens(other, 0)) {
		t.Error("a document's tokens depend on where it stands")
	}
	// One at a time, so that each is computed before it is wanted in company.
	for i := range documents {
		ask(t, e, about("a", "What is this about?", i))
	}
	first := ask(t, e, about("a", "When was the mill built?", 0, 1, 2))
	placed := rendered.Passages[2].To
	if got := first.last.Usage.CachedTokens; got < placed-5 {
		t.Errorf("%d of %d tokens before the question were there", got, placed)
	}
	again := ask(t, e, about("a", "When was the mill built?", 0, 1, 2))
	if again.last.Usage.CachedTokens < first.last.Usage.CachedTokens {
		t.Errorf("asked again %d tokens are cached, before %d", again.last.Usage.CachedTokens, first.last.Usage.CachedTokens)
	}
	s.same(t, "asked again", first, again)
	// Somebody else does not learn what was asked.
	stranger := ask(t, e, about("b", "When was the mill built?", 0, 1, 2))
	if stranger.last.Usage.CachedTokens > rendered.Passages[0].From {
		t.Errorf("another key finds %d tokens cached", stranger.last.Usage.CachedTokens)
	}
	s.same(t, "asked by another", first, stranger)
	// Many at once, in any order.
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			a := ask(t, e, about(fmt.Sprint("many", i%2), "Tell me more.", i%4, (i+1)%4, (i+3)%4))
			if a.last.Usage.GeneratedTokens != 12 {
				t.Errorf("%d tokens were generated", a.last.Usage.GeneratedTokens)
			}
		})
	}
	wg.Wait()
	// Scores see the same passages.
	asks := []engine.ScoreAsk{{Key: "a", Prompt: rendered.Tokens, Passages: rendered.Passages, Continuation: first.ids()}}
	scores, err := e.Score(t.Context(), asks)
	if err != nil {
		t.Fatal(err)
	}
	for i, token := range first.tokens {
		if d := math.Abs(float64(scores[0].Logprobs[i] - token.Logprob)); d > 5*s.Tolerance {
			t.Errorf("token %d: generated at %.3f, scored at %.3f", i, token.Logprob, scores[0].Logprobs[i])
		}
	}
	asks[0].Passages = []engine.Range{{From: 3, To: 2}}
	_, err = e.Score(t.Context(), asks)
	wantError(t, "passages upside down", err, engine.ErrBadRequest)
}

// same compares two answers of which one was computed in another way: as long as they say the same, they are as sure of it.
func (s Suite) same(t *testing.T, what string, a, b answer) {
	t.Helper()
	sum, n := 0.0, 0
	for i := range min(len(a.tokens), len(b.tokens)) {
		if a.tokens[i].ID != b.tokens[i].ID {
			break
		}
		sum += math.Abs(float64(a.tokens[i].Logprob - b.tokens[i].Logprob))
		n++
	}
	if n == 0 && s.Tolerance == 0 || n > 0 && sum/float64(n) > s.Tolerance {
		t.Errorf("%s: %q and %q, %.3f apart over %d tokens", what, a.text, b.text, sum/float64(max(n, 1)), n)
	}
}

// resume goes on from tokens that an earlier run generated, as if nothing had happened.
func (s Suite) resume(t *testing.T, e *engine.Engine) {
	whole := ask(t, e, plain("The history of the town begins", "whole", 20))
	r := plain("The history of the town begins", "resumed", 20)
	r.Generated = whole.ids()[:8]
	rest := ask(t, e, r)
	if u := rest.last.Usage; u.GeneratedTokens != 20 || len(rest.tokens) != 12 || u.PromptTokens != whole.last.Usage.PromptTokens {
		t.Errorf("resumed after 8 of 20 tokens it delivers %d, %+v", len(rest.tokens), u)
	}
	before := answer{}
	before.tokens = whole.tokens[8:]
	s.same(t, "resumed", before, rest)
	r.MaxTokens = 8
	_, err := e.Generate(t.Context(), r)
	wantError(t, "nothing left to generate", err, engine.ErrBadRequest)
}

// inFlight shares a prefix that is being computed: all but the first who ask wait for it and find it.
func (s Suite) inFlight(t *testing.T, e *engine.Engine) {
	long := ""
	for i := range 40 {
		long += fmt.Sprintf("Rule %d is that rule %d holds. ", i, i+1)
	}
	p, err := e.Tokenize(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	if most := e.Info().Context - 64; len(p) > most {
		long = long[:len(long)*most/len(p)]
		p = p[:most]
	}
	cached := make([]int, 6)
	var wg sync.WaitGroup
	for i := range cached {
		wg.Go(func() {
			a := ask(t, e, plain(fmt.Sprintf("%s\nQuestion %d:", long, i), "crowd", 6))
			cached[i] = a.last.Usage.CachedTokens
		})
	}
	wg.Wait()
	slices.Sort(cached)
	if cached[1] < len(p)*8/10 {
		t.Errorf("of %d shared tokens, %v were found computed", len(p), cached)
	}
}
