package enginetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
)

func (s Suite) generate(t *testing.T, e *engine.Engine) {
	prompt := "Once upon a time there was"
	fed, err := e.Render(t.Context(), plain(prompt, "", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 9} {
		a := ask(t, e, plain(prompt, fmt.Sprint("generate", n), n))
		var pieces []byte
		for _, tok := range a.tokens {
			pieces = append(pieces, tok.Text...)
		}
		u := a.last.Usage
		if len(a.tokens) != n || u.GeneratedTokens != n || u.PromptTokens != len(fed.Tokens) || u.CachedTokens != 0 || a.last.Finish != engine.FinishLength {
			t.Errorf("asked for %d tokens it gives %d, %+v, %q", n, len(a.tokens), u, a.last.Finish)
		}
		if want := strings.ToValidUTF8(string(pieces), "\uFFFD"); a.text != want {
			t.Errorf("the text is %q, its tokens are %q", a.text, want)
		}
		if d := a.last.Timings; d.FirstToken <= 0 || d.FirstToken < d.Queue || d.Decode < 0 {
			t.Errorf("timings %+v", d)
		}
	}
	again := &engine.Request{Tokens: fed.Tokens, Key: "tokens", MaxTokens: 9, IgnoreEOS: true, Logprobs: -1}
	if a, b := ask(t, e, again), ask(t, e, plain(prompt, "text", 9)); a.text != b.text {
		t.Errorf("by its tokens %q, by its text %q", a.text, b.text)
	}
	if a := ask(t, e, &engine.Request{Text: prompt, MaxTokens: 0, Key: "open", Logprobs: -1}); len(fed.Tokens)+a.last.Usage.GeneratedTokens > e.Info().Context {
		t.Errorf("without a limit it gives %d tokens", a.last.Usage.GeneratedTokens)
	}
}

func (s Suite) logprobs(t *testing.T, e *engine.Engine) {
	r := plain("The sky is", "", 6)
	r.Logprobs = 5
	for i, tok := range ask(t, e, r).tokens {
		sum := 0.0
		for k, other := range tok.Top {
			sum += math.Exp(float64(other.Logprob))
			if k > 0 && other.Logprob > tok.Top[k-1].Logprob {
				t.Errorf("token %d: its alternatives are not in order", i)
			}
		}
		if len(tok.Top) != 5 || tok.Top[0].ID != tok.ID || tok.Top[0].Logprob != tok.Logprob || sum > 1.0001 || tok.Logprob > 0 {
			t.Errorf("token %d is %+v, the sum of probabilities %f", i, tok, sum)
		}
	}
	r.Logprobs = -1
	for _, tok := range ask(t, e, r).tokens {
		if tok.Top != nil || tok.Logprob != 0 {
			t.Errorf("not asked for, there is %+v", tok)
		}
	}
}

func (s Suite) stop(t *testing.T, e *engine.Engine) {
	prompt := "The days of the week are Monday, Tuesday, Wednesday,"
	whole := ask(t, e, plain(prompt, "whole", 16)).text
	runes := []rune(whole)
	if len(runes) < 12 {
		t.Fatalf("it says only %q", whole)
	}
	for i, stop := range []string{string(runes[5:9]), string(runes[3:4]), string(runes[len(runes)-3:])} {
		r := plain(prompt, fmt.Sprint("stop", i), 16)
		r.Stop = []string{"never said \x00", stop}
		a := ask(t, e, r)
		if want := whole[:strings.Index(whole, stop)]; a.text != want || a.last.Finish != engine.FinishStop {
			t.Errorf("stopped at %q it says %q (%s), want %q", stop, a.text, a.last.Finish, want)
		}
	}
	r := plain(prompt, "not reached", 16)
	r.Stop = []string{whole + "!"}
	if a := ask(t, e, r); a.text != whole || a.last.Finish != engine.FinishLength {
		t.Errorf("with a stop that does not come it says %q (%s), want %q", a.text, a.last.Finish, whole)
	}
}

func (s Suite) seed(t *testing.T, e *engine.Engine) {
	draw := func(key string, seed uint32) answer {
		r := plain("A random word:", key, 8)
		r.Sampling = engine.DefaultSampling()
		r.Sampling.Seed, r.Sampling.Seeded = seed, true
		return ask(t, e, r)
	}
	a, b := draw("first", 42), draw("second", 42)
	if !slices.Equal(a.ids(), b.ids()) || a.last.Seed != 42 {
		t.Errorf("seed %d gives %q, then %q", a.last.Seed, a.text, b.text)
	}
	r := plain("A random word:", "drawn", 4)
	r.Sampling = engine.DefaultSampling()
	first, second := ask(t, e, r), ask(t, e, r)
	if first.last.Seed == second.last.Seed {
		t.Errorf("two requests without a seed have %d", first.last.Seed)
	}
}

func (s Suite) chat(t *testing.T, e *engine.Engine) {
	r := &engine.Request{Chat: &engine.Chat{Messages: []engine.Message{
		{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hello!"}, {Role: "assistant", Content: "Hello."}, {Role: "user", Content: "Name a colour."},
	}}, MaxTokens: 8, Logprobs: -1}
	p, err := e.Render(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, e, r); a.last.Usage.PromptTokens != len(p.Tokens) || len(p.Tokens) == 0 || a.text == "" {
		t.Errorf("a prompt of %d tokens is answered by %q, %+v", len(p.Tokens), a.text, a.last.Usage)
	}
	r.Chat.Messages[0].Content = "not UTF-8: \xff"
	_, err = e.Generate(t.Context(), r)
	wantError(t, "not UTF-8", err, engine.ErrBadRequest)
}

// forgery writes a control token out wherever a caller may write: it stays text.
func (s Suite) forgery(t *testing.T, e *engine.Engine) {
	controls := func(r *engine.Request) (n int) {
		t.Helper()
		p, err := e.Render(t.Context(), r)
		if err != nil || len(p.Tokens) == 0 {
			t.Fatalf("%d tokens, %v", len(p.Tokens), err)
		}
		for _, token := range p.Tokens {
			if token == s.Control {
				n++
			}
		}
		return n
	}
	conversation := func(text string) *engine.Request {
		return &engine.Request{Chat: &engine.Chat{Messages: []engine.Message{
			{Role: "system", Content: text}, {Role: "user", Content: "Before " + text + text + " after"}, {Role: "assistant", Content: "\n" + text + " "}, {Role: "user", Content: text},
		}}}
	}
	if forged, honest := controls(conversation(s.ControlText)), controls(conversation("word")); forged != honest {
		t.Errorf("%q in contents makes %d control tokens of %d", s.ControlText, forged, honest)
	}
	if forged, honest := controls(&engine.Request{Text: "Before " + s.ControlText}), controls(&engine.Request{Text: "Before"}); forged != honest {
		t.Errorf("%q in a text makes %d control tokens of %d", s.ControlText, forged, honest)
	}
}
