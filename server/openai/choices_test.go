package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
)

// several is a model whose answers say which seed they have. They come one after the other, so that streams have an order.
type several struct {
	fail uint32 // this seed's answer goes wrong

	mu     sync.Mutex
	seeds  []uint32
	opened int
	closed int
}

func (*several) Info() engine.Info { return engine.Info{Name: "several"} }

func (m *several) Generate(_ context.Context, q *engine.Request) (*engine.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seeds = append(m.seeds, q.Sampling.Seed)
	m.opened++
	stream, sink := engine.NewStream(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.closed++
	})
	seed := q.Sampling.Seed
	if m.fail != 0 && seed != m.fail {
		return stream, nil // never ends by itself
	}
	for _, text := range []string{"seed ", string('0' + rune(seed))} {
		sink.Send(engine.Event{Text: text, Tokens: []engine.TokenInfo{{ID: 1, Text: []byte(text), Logprob: -1}}})
	}
	if seed == m.fail {
		sink.Fail(errors.New("a secret of the model's"))
		return stream, nil
	}
	sink.Send(engine.Event{Finish: engine.FinishStop, Usage: engine.Usage{PromptTokens: 5, CachedTokens: int(seed), GeneratedTokens: 2}})
	return stream, nil
}

// Several answers share one prompt and have seeds of their own.
func TestSeveralAnswers(t *testing.T) {
	model, lines := &several{}, make(chan *access.Line, 1)
	h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model}}}, nil, lines)
	golden(t, "several.json", chat(h, hi(`"n":3`, `"seed":4`, `"logprobs":true`)))
	slices.Sort(model.seeds)
	if !slices.Equal(model.seeds, []uint32{4, 5, 6}) {
		t.Errorf("the seeds were %v", model.seeds)
	}
	if u := (<-lines).Usage; u.PromptTokens != 5 || u.GeneratedTokens != 6 {
		t.Errorf("the line has %+v", u)
	}

	// Streams of several answers come in any order, but each in its own.
	w := chat(h, hi(`"n":3`, `"seed":4`, `"stream":true`, `"stream_options":{"include_usage":true}`))
	<-lines
	texts, roles, finished := map[int]string{}, map[int]int{}, map[int]int{}
	events := strings.Split(strings.TrimSpace(w.Body.String()), "\n\n")
	for i, event := range events {
		data := strings.TrimPrefix(event, "data: ")
		if i == len(events)-1 {
			if data != "[DONE]" {
				t.Errorf("the last event is %s", data)
			}
			continue
		}
		var c struct {
			Choices []struct {
				Index  int
				Delta  struct{ Role, Content string }
				Finish string `json:"finish_reason"`
			}
			Usage *struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatal(err)
		}
		if (c.Usage != nil) != (i == len(events)-2) || c.Usage != nil && (c.Usage.Prompt != 5 || c.Usage.Completion != 6) {
			t.Errorf("event %d: %s", i, data)
		}
		for _, one := range c.Choices {
			if one.Delta.Role != "" {
				roles[one.Index]++
			}
			if one.Finish != "" {
				finished[one.Index]++
			} else if finished[one.Index] > 0 {
				t.Errorf("answer %d goes on after its end", one.Index)
			}
			texts[one.Index] += one.Delta.Content
		}
	}
	for i, want := range []string{"seed 4", "seed 5", "seed 6"} {
		if texts[i] != want || roles[i] != 1 || finished[i] != 1 {
			t.Errorf("answer %d: %q, %d roles, %d ends", i, texts[i], roles[i], finished[i])
		}
	}
}

// What goes wrong with one answer ends them all.
func TestOneOfSeveralFails(t *testing.T) {
	for _, streamed := range []string{`"stream":false`, `"stream":true`} {
		model := &several{fail: 6}
		h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model}}}, nil, nil)
		w := chat(h, hi(`"n":3`, `"seed":4`, streamed))
		if body := w.Body.String(); !strings.Contains(body, "internal_error") || strings.Contains(body, "[DONE]") || strings.Contains(body, "secret") {
			t.Errorf("%d %s", w.Code, body)
		}
		if model.opened != 3 || model.closed != 3 {
			t.Errorf("%d answers were begun, %d ended", model.opened, model.closed)
		}
	}
	// A refusal is an ordinary error.
	if w := chat(serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &full{}}}}, nil, nil), hi(`"n":3`, `"stream":true`)); w.Code != http.StatusTooManyRequests {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// full is a model whose queue is full.
type full struct{ recorder }

func (*full) Generate(context.Context, *engine.Request) (*engine.Stream, error) {
	return nil, engine.ErrQueueFull
}
