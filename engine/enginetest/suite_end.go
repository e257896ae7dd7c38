package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
)

// cancel gives streams up in every way; the others and the engine go on.
func (s Suite) cancel(t *testing.T, e *engine.Engine) {
	long := func(key string) *engine.Request { return plain("A very long story begins here:", key, 0) }
	kept, err := e.Generate(t.Context(), plain("Somebody else reads this:", "kept", 12))
	if err != nil {
		t.Fatal(err)
	}
	closed, err := e.Generate(t.Context(), long("closed"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cancelled, err := e.Generate(ctx, long("cancelled"))
	if err != nil {
		t.Fatal(err)
	}
	unread, err := e.Generate(t.Context(), plain("Nobody reads this:", "unread", 5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cancelled.Recv(t.Context()); err != nil {
		t.Errorf("before it was cancelled: %v", err)
	}
	closed.Close()
	closed.Close()
	unread.Close()
	cancel()
	for err = nil; err == nil; {
		_, err = closed.Recv(t.Context())
	}
	if !errors.Is(err, engine.ErrClosed) && !errors.Is(err, io.EOF) { // it may have been faster
		t.Errorf("a closed stream: %v", err)
	}
	for err = nil; err == nil; {
		_, err = cancelled.Recv(context.WithoutCancel(t.Context()))
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		t.Errorf("a cancelled request: %v", err)
	}
	cancelled.Close()
	if a, err := collect(t, kept); err != nil || len(a.tokens) != 12 {
		t.Errorf("the others: %d tokens, %v", len(a.tokens), err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if stream, err := e.Generate(ended, long("late")); err == nil {
		if _, err = collect(t, stream); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that had gone: %v", err)
		}
	}
	if _, err := e.Score(ended, []engine.ScoreAsk{{Prompt: []engine.Token{1, 2}, Continuation: []engine.Token{3}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a score for a caller that had gone: %v", err)
	}
	ask(t, e, plain("And it goes on:", "after", 3))
}

func (s Suite) deadline(t *testing.T, e *engine.Engine) {
	r := plain("It is too late for", "", 100)
	r.Deadline = time.Now().Add(-time.Second)
	if a := ask(t, e, r); a.last.Finish != engine.FinishDeadline || a.text != "" {
		t.Errorf("after its deadline it says %q (%s)", a.text, a.last.Finish)
	}
	r.Deadline = time.Now().Add(time.Hour)
	r.MaxTokens = 2
	if a := ask(t, e, r); a.last.Finish != engine.FinishLength {
		t.Errorf("an hour before its deadline: %s", a.last.Finish)
	}
}

func (s Suite) refusals(t *testing.T, e *engine.Engine) {
	for name, test := range map[string]struct {
		r    engine.Request
		want error
	}{
		"too long":           {engine.Request{Text: strings.Repeat("word ", e.Info().Context+1)}, engine.ErrContextOverflow},
		"too many tokens":    {engine.Request{Tokens: make([]engine.Token, e.Info().Context)}, engine.ErrContextOverflow},
		"two prompts":        {engine.Request{Text: "x", Tokens: []engine.Token{1}}, engine.ErrBadRequest},
		"a chat and a text":  {engine.Request{Text: "x", Chat: &engine.Chat{}}, engine.ErrBadRequest},
		"empty tokens":       {engine.Request{Tokens: []engine.Token{}}, engine.ErrBadRequest},
		"temperature":        {engine.Request{Text: "x", Sampling: engine.Sampling{Temperature: -1}}, engine.ErrBadRequest},
		"not a temperature":  {engine.Request{Text: "x", Sampling: engine.Sampling{Temperature: float32(math.NaN())}}, engine.ErrBadRequest},
		"top-p":              {engine.Request{Text: "x", Sampling: engine.Sampling{TopP: 1.5}}, engine.ErrBadRequest},
		"empty stop":         {engine.Request{Text: "x", Stop: []string{""}}, engine.ErrBadRequest},
		"logprobs":           {engine.Request{Text: "x", Logprobs: 21}, engine.ErrBadRequest},
		"negative limit":     {engine.Request{Text: "x", MaxTokens: -1}, engine.ErrBadRequest},
		"broken grammar":     {engine.Request{Text: "x", Grammar: "root ::= ("}, engine.ErrBadRequest},
		"broken schema":      {engine.Request{Text: "x", JSONSchema: []byte(`{"type":"text"}`)}, engine.ErrBadRequest},
		"grammar and schema": {engine.Request{Text: "x", Grammar: `root ::= "a"`, JSONSchema: []byte("{}")}, engine.ErrBadRequest},
	} {
		stream, err := e.Generate(t.Context(), &test.r)
		wantError(t, name, err, test.want)
		if err == nil {
			stream.Close()
		}
	}
	var o *engine.OverflowError
	if _, err := e.Generate(t.Context(), &engine.Request{Tokens: make([]engine.Token, e.Info().Context)}); !errors.As(err, &o) || o.Tokens != e.Info().Context || o.Limit >= o.Tokens {
		t.Errorf("an overflow: %+v", err)
	}
	ask(t, e, plain("It goes on all the same:", "", 2))
}

// closing ends what is under way.
func (s Suite) closing(t *testing.T, e *engine.Engine) {
	var streams []*engine.Stream
	for i := range 4 {
		stream, err := e.Generate(t.Context(), plain("It will not be finished:", fmt.Sprint(i), e.Info().Context/2))
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	scored := make(chan error)
	go func() {
		_, err := e.Score(context.WithoutCancel(t.Context()), []engine.ScoreAsk{{Prompt: slices.Repeat([]engine.Token{1}, e.Info().Context/2), Continuation: []engine.Token{2}}})
		scored <- err
	}()
	var wg sync.WaitGroup
	coming := make(chan struct{}, 4)
	for i := range 4 { // and others are about to begin
		wg.Go(func() {
			for n := 0; ; n++ {
				stream, err := e.Generate(context.WithoutCancel(t.Context()), plain("It comes too late:", fmt.Sprint("late", i), 2))
				if n == 0 {
					coming <- struct{}{}
				}
				switch {
				case err == nil:
					stream.Close()
				case errors.Is(err, engine.ErrQueueFull):
				case errors.Is(err, engine.ErrClosed):
					return
				default:
					t.Errorf("while it closes: %v", err)
					return
				}
			}
		})
	}
	for range 4 {
		<-coming
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for i, stream := range streams {
		if _, err := collect(t, stream); err != nil && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	if err := <-scored; err != nil && !errors.Is(err, engine.ErrClosed) && !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("score: %v", err)
	}
	_, err := e.Generate(t.Context(), plain("x", "", 1))
	wantError(t, "generate", err, engine.ErrClosed)
	_, err = e.Score(t.Context(), []engine.ScoreAsk{{Prompt: []engine.Token{1}, Continuation: []engine.Token{1}}})
	wantError(t, "score", err, engine.ErrClosed)
}
