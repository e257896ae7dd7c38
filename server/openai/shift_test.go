package openai_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/servertest"
)

// shiftedChoice is what a client sees of an answer whose context was shifted, in one piece or in the last chunk of a stream.
type shiftedChoice struct {
	Index   int
	Message struct{ Content string }
	Delta   struct{ Content string }
	Finish  string `json:"finish_reason"`
	Dropped *int   `json:"dropped_tokens"`
}

func TestContextShift(t *testing.T) {
	const size, max = 64, 150
	prompt := "user: hi\n"
	var bytes []engine.Token
	for _, b := range []byte(prompt) {
		bytes = append(bytes, engine.Token(b))
	}
	want, _, dropped := enginetest.ContinueShifted("", bytes, max, size, len(prompt))
	lines := make(chan *access.Line, 1)
	h := serve(fake(t, servertest.NewBackend(size), engine.DefaultConfig()), nil, lines)
	members := []string{`"context_shift":true`, `"n_keep":-1`, `"max_tokens":150`, `"ignore_eos":true`, `"temperature":0`}

	w := chat(h, hi(append(members, `"n":2`)...))
	var whole struct {
		Choices []shiftedChoice
		Usage   struct {
			Completion int `json:"completion_tokens"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &whole); err != nil || w.Code != http.StatusOK || len(whole.Choices) != 2 {
		t.Fatalf("%d %s, %v", w.Code, w.Body, err)
	}
	for _, c := range whole.Choices {
		if c.Message.Content != want || c.Finish != "length" || c.Dropped == nil || *c.Dropped != dropped {
			t.Errorf("got %+v, want %q, %d", c, want, dropped)
		}
	}
	if whole.Usage.Completion != 2*max {
		t.Errorf("usage %+v", whole.Usage)
	}
	if u := (<-lines).Usage; u.DroppedTokens != 2*dropped || u.GeneratedTokens != 2*max {
		t.Errorf("noted %+v", u)
	}

	w = chat(h, hi(append(members, `"stream":true`)...))
	<-lines
	text := ""
	var last shiftedChoice
	for s := bufio.NewScanner(w.Body); s.Scan(); {
		data, ok := strings.CutPrefix(s.Text(), "data: {")
		if !ok {
			continue
		}
		var chunk struct{ Choices []shiftedChoice }
		if err := json.Unmarshal([]byte("{"+data), &chunk); err != nil {
			t.Fatal(err)
		}
		if last.Dropped != nil {
			t.Error("the number of dropped tokens is not in the last chunk")
		}
		last = chunk.Choices[0]
		text += last.Delta.Content
	}
	if text != want || last.Finish != "length" || last.Dropped == nil || *last.Dropped != dropped {
		t.Errorf("streamed %q, %+v", text, last)
	}

	// Without it an answer ends with the context, and nothing is said of dropped tokens.
	w = chat(h, hi(`"max_tokens":150`, `"ignore_eos":true`))
	<-lines
	if strings.Contains(w.Body.String(), "dropped_tokens") || !strings.Contains(w.Body.String(), `"completion_tokens":55`) {
		t.Errorf("without a shift: %s", w.Body)
	}
}

func TestContextShiftRefused(t *testing.T) {
	fixed := servertest.NewBackend(64)
	fixed.Fixed = true
	for _, c := range []struct {
		name    string
		backend *servertest.Backend
		members []string
		param   string
	}{
		{"the model's keys stay where they are", fixed, []string{`"context_shift":true`, `"max_tokens":9`}, "context_shift"},
		{"endless", servertest.NewBackend(64), []string{`"context_shift":true`}, "max_completion_tokens"},
		{"keep too many", servertest.NewBackend(64), []string{`"context_shift":true`, `"max_tokens":9`, `"n_keep":60`}, "n_keep"},
	} {
		w := chat(serve(fake(t, c.backend, engine.DefaultConfig()), nil, nil), hi(c.members...))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		refusal(t, w.Code, w.Body.Bytes(), c.param, "invalid_value")
	}
}
