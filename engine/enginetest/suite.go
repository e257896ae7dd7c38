package enginetest

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/engine"
)

// Suite is what every engine must do, whatever its backend.
type Suite struct {
	// Open starts an engine with this configuration. The test that asks for it closes it.
	Open func(t *testing.T, c engine.Config) *engine.Engine
	// Control is a control token and ControlText how it is written.
	Control     engine.Token
	ControlText string
	// Tolerance is how far log-probabilities of the same tokens may lie apart on average, and a fifth of how far at most,
	// when they are computed in batches of another shape: 0 for exact arithmetic.
	Tolerance float64
	// Closed is called after each engine was closed: nothing may be left of it.
	Closed func(t *testing.T)
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, e *engine.Engine)
	}{
		{"Generate", s.generate}, {"Logprobs", s.logprobs}, {"Score", s.score}, {"Prefix", s.prefix}, {"Company", s.company},
		{"Stop", s.stop}, {"Seed", s.seed}, {"Chat", s.chat}, {"Passages", s.passages}, {"Resume", s.resume}, {"InFlight", s.inFlight}, {"Forgery", s.forgery}, {"Cancel", s.cancel}, {"Deadline", s.deadline}, {"Refusals", s.refusals}, {"Close", s.closing},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := engine.DefaultConfig()
			c.Placing = engine.PlaceAlways
			e := s.Open(t, c)
			test.run(t, e)
			if err := errors.Join(e.Close(), e.Close()); err != nil {
				t.Errorf("close: %v", err)
			}
			if s.Closed != nil {
				s.Closed(t)
			}
		})
	}
}

// answer is a stream that was read to its end.
type answer struct {
	text   string
	tokens []engine.TokenInfo
	last   engine.Event
	events int
}

func (a answer) ids() []engine.Token {
	var ids []engine.Token
	for _, t := range a.tokens {
		ids = append(ids, t.ID)
	}
	return ids
}

// ask generates and reads to the end.
func ask(t *testing.T, e *engine.Engine, r *engine.Request) answer {
	t.Helper()
	stream, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	a, err := collect(t, stream)
	if err != nil {
		t.Fatalf("%v after %q", err, a.text)
	}
	return a
}

func collect(t *testing.T, stream *engine.Stream) (a answer, err error) {
	t.Helper()
	defer stream.Close()
	var text strings.Builder
	for {
		event, err := stream.Recv(t.Context())
		switch {
		case errors.Is(err, io.EOF):
			if a.last.Finish == "" {
				t.Error("the last event has no reason")
			}
			a.text = text.String()
			return a, nil
		case err != nil:
			a.text = text.String()
			return a, err
		case a.last.Finish != "":
			t.Errorf("after the last event came %+v", event)
		case !utf8.ValidString(event.Text):
			t.Errorf("an event holds %q", event.Text)
		}
		text.WriteString(event.Text)
		a.tokens = append(a.tokens, event.Tokens...)
		a.last = event
		a.events++
	}
}

// plain asks for n tokens after a text, no matter whether the model would end before.
func plain(text, key string, n int) *engine.Request {
	return &engine.Request{Text: text, Key: key, MaxTokens: n, IgnoreEOS: true, Logprobs: 0}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
