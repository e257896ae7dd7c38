package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
)

func TestMeeting(t *testing.T) {
	for w, want := range map[words]engine.Info{
		openAI: {Name: "m", Context: defaultContext}, vLLM: {Name: "m", Context: 100},
		llamaServer: {Name: "m", Context: 200, ContextTrain: 4000, Parameters: 134000000, SizeBytes: 90000000},
	} {
		p := newPeer(t, w)
		u := connect(t, p)
		if u.Info() != want || u.words != w || u.Tokenizes() != (w != openAI) {
			t.Errorf("met %+v, which speaks %d", u.Info(), u.words)
		}
		if _, header := p.last(); header.Get("Authorization") != "Bearer secret" {
			t.Errorf("it came with %v", header)
		}
	}
	p := newPeer(t, openAI)
	u, err := New(t.Context(), Config{URL: p.URL + "/v1/", Context: 50})
	if err != nil || u.Info().Name != "other" || u.Info().Context != 50 {
		t.Errorf("got %v, %v", u, err)
	}
	u.Close()
	if _, header := p.last(); header.Get("Authorization") != "" {
		t.Errorf("it came with %v", header)
	}
	for address, want := range map[string]string{
		"nonsense": `"nonsense" is no address`, "ftp://host": "is no address", "http://": "is no address", "http://me:secret@host": "me:xxxxx@host",
		"http://host?key=1": "is no address", "http://127.0.0.1:1": "refused",
	} {
		_, err := New(t.Context(), Config{URL: address, Key: "secret"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for models, want := range map[string]string{
		`{"data": []}`: `has no model "m", but none`, `{"data": [{"id": "a"}, {"id": "b"}]}`: "but a, b", `<html>`: "invalid character",
	} {
		p.models = models
		if _, err := New(t.Context(), Config{URL: p.URL, Model: "m"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", models, err)
		}
	}
}

func TestChat(t *testing.T) {
	p := newPeer(t, llamaServer,
		`{"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}, "finish_reason": null}]}`,
		`{"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}`,
		`{"choices": [{"index": 0, "delta": {"content": "Grü"}, "logprobs": {"content": [{"id": 7, "token": "Gr", "logprob": -0.5, "bytes": [71, 114], "top_logprobs": [
			{"id": 7, "token": "Gr", "logprob": -0.5, "bytes": [71, 114]}, {"id": 8, "token": "x", "logprob": -2}]}, {"token": "ü", "logprob": -1}]}}]}`,
		`{"choices": [{"index": 0, "delta": {"content": "ße"}}]}`,
		`{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}, {"index": 1, "id": "c2", "function": {"name": "g"}}]}}]}`,
		`{"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}`,
		`{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}}`, `[DONE]`)
	u := connect(t, p)
	r := user("hello")
	r.ID, r.Logprobs, r.Sampling.Seed, r.Sampling.Seeded = "r1", 1, 5, true
	s, err := u.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	events, text, err := read(t.Context(), s)
	if err != nil || text != "Grüße" || len(events) != 5 {
		t.Fatalf("got %q, %+v, %v", text, events, err)
	}
	tokens := []engine.TokenInfo{{ID: 7, Text: []byte("Gr"), Logprob: -0.5, Top: []engine.TokenInfo{{ID: 7, Text: []byte("Gr"), Logprob: -0.5}, {ID: 8, Text: []byte("x"), Logprob: -2}}},
		{ID: unknownID, Text: []byte("ü"), Logprob: -1}}
	calls := []engine.ToolCall{{Index: 0, ID: "c1", Name: "f", Arguments: "{"}, {Index: 1, ID: "c2", Name: "g"}}
	last := events[4]
	if events[0].Reasoning != "Hm." || !reflect.DeepEqual(events[1].Tokens, tokens) || !reflect.DeepEqual(events[3].ToolCalls, calls) {
		t.Errorf("got %+v", events)
	}
	if last.Finish != engine.FinishToolCalls || last.Usage != (engine.Usage{PromptTokens: 9, CachedTokens: 3, GeneratedTokens: 4}) || last.Seed != 5 || last.Timings.FirstToken <= 0 {
		t.Errorf("at the end: %+v", last)
	}
	if asked, header := p.last(); asked["path"] != "/v1/chat/completions" || header.Get("X-Request-Id") != "r1" {
		t.Errorf("asked %v, %v", asked, header)
	}
}

func TestCompletion(t *testing.T) {
	p := newPeer(t, vLLM, `{"choices": [{"text": "a b", "logprobs": {"tokens": ["a", " b"], "token_logprobs": [-1, -2], "top_logprobs": [{"c": -3, "a": -1}, {" b": -2}]}, "token_ids": [11, 12]}]}`,
		`{"choices": [{"text": "", "finish_reason": "length"}]}`) // and no word of an end
	u := connect(t, p)
	s, err := u.Generate(t.Context(), &engine.Request{Text: "x", Logprobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	events, text, err := read(t.Context(), s)
	want := []engine.TokenInfo{{ID: 11, Text: []byte("a"), Logprob: -1, Top: []engine.TokenInfo{{ID: unknownID, Text: []byte("a"), Logprob: -1}, {ID: unknownID, Text: []byte("c"), Logprob: -3}}},
		{ID: 12, Text: []byte(" b"), Logprob: -2, Top: []engine.TokenInfo{{ID: unknownID, Text: []byte(" b"), Logprob: -2}}}}
	if err != nil || text != "a b" || !reflect.DeepEqual(events[0].Tokens, want) || events[1].Finish != engine.FinishLength {
		t.Errorf("got %q, %+v, %v", text, events, err)
	}
	if asked, _ := p.last(); asked["path"] != "/v1/completions" || asked["max_tokens"] != 96. { // the context without the prompt
		t.Errorf("asked %v", asked)
	}
	_, err = connect(t, newPeer(t, openAI)).Generate(t.Context(), &engine.Request{Text: "x", Logprobs: -1})
	if f, ok := errors.AsType[*engine.FieldError](err); !ok || f.Field != "MaxTokens" {
		t.Errorf("without a limit: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		status  int
		body    string
		want    error
		mention string
	}{
		{400, `{"error": {"message": "no such thing", "param": "stop", "code": 400}}`, engine.ErrBadRequest, "stop: the upstream server refuses it: no such thing"},
		{400, `{"object": "error", "message": "bare", "type": "BadRequestError", "code": 400}`, engine.ErrBadRequest, "bare"},
		{400, `{"error": {"type": "exceed_context_size_error", "message": "m", "n_prompt_tokens": 300, "n_ctx": 200}}`, engine.ErrContextOverflow, "300 tokens"},
		{400, `{"error": {"code": "context_length_exceeded", "message": "m"}}`, engine.ErrContextOverflow, ""},
		{429, `{"error": {"message": "slow down"}}`, engine.ErrQueueFull, "slow down"},
		{401, `{"error": {"message": "who are you"}}`, engine.ErrBackend, "status 401: who are you"},
		{503, `<html>busy</html>`, engine.ErrBackend, "busy"},
		{502, ``, engine.ErrBackend, "Bad Gateway"},
	} {
		p := newPeer(t, openAI)
		p.reply = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}
		_, err := connect(t, p).Generate(t.Context(), user("x"))
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.mention) {
			t.Errorf("%d %s: %v", test.status, test.body, err)
		}
	}
}

// What breaks after the first event is the stream's error.
func TestBrokenStreams(t *testing.T) {
	const a = `{"choices": [{"delta": {"content": "a"}}]}`
	for _, test := range []struct {
		events  []string
		mention string
	}{
		{[]string{a}, "unexpected EOF"}, {[]string{a, "[DONE]"}, "unexpected EOF"}, {[]string{a, "{"}, "JSON"},
		{[]string{a, `{"error": {"message": "out of order"}}`}, "out of order"},
		{[]string{a, `{"choices": [{"delta": {}, "finish_reason": "content_filter"}]}`}, "content_filter"},
	} {
		s, err := connect(t, newPeer(t, openAI, test.events...)).Generate(t.Context(), user("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, text, err := read(t.Context(), s); text != "a" || !errors.Is(err, engine.ErrBackend) || !strings.Contains(err.Error(), test.mention) {
			t.Errorf("%s: %q, %v", test.events, text, err)
		}
	}
}

// A request that meets the closing of a connection that was kept is sent again on another one.
func TestKeptConnections(t *testing.T) {
	p := newPeer(t, openAI, `{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}`, "[DONE]")
	answer := p.reply
	var from []string
	p.reply = func(w http.ResponseWriter, r *http.Request) {
		if from = append(from, r.RemoteAddr); len(from) > 1 {
			answer(w, r)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}
	s, err := connect(t, p).Generate(t.Context(), user("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, text, err := read(t.Context(), s); text != "a" || err != nil || len(from) != 2 || from[0] == from[1] {
		t.Errorf("%q, %v, by connections from %v", text, err, from)
	}
	if _, header := p.last(); header.Values("Idempotency-Key") != nil {
		t.Errorf("what only net/http is to know was sent: %v", header)
	}
}

// A stream that does not end by itself ends with its caller, its deadline or the Upstream, and so does it at the server.
func TestEnds(t *testing.T) {
	left := make(chan struct{}, 10)
	p := newPeer(t, openAI)
	p.reply = func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "data: {\"choices\": [{\"delta\": {\"content\": \"a\"}}]}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		left <- struct{}{}
	}
	u := connect(t, p)
	open := func(ctx context.Context, r *engine.Request) *engine.Stream {
		s, err := u.Generate(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := s.Recv(t.Context()); err != nil || e.Text != "a" {
			t.Fatalf("got %+v, %v", e, err)
		}
		return s
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := open(ctx, user("x"))
	cancel()
	if _, err := s.Recv(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	<-left
	open(t.Context(), user("x")).Close()
	<-left
	late := user("x")
	late.Deadline = time.Now().Add(100 * time.Millisecond)
	if e, err := open(t.Context(), late).Recv(t.Context()); err != nil || e.Finish != engine.FinishDeadline {
		t.Errorf("at its deadline: %+v, %v", e, err)
	}
	<-left
	late.Deadline = time.Now().Add(-time.Second)
	s, err := u.Generate(t.Context(), late)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Recv(t.Context()); err != nil || e.Finish != engine.FinishDeadline {
		t.Errorf("after its deadline: %+v, %v", e, err)
	}
	s = open(t.Context(), user("x"))
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Recv(t.Context()); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	<-left
	if _, err := u.Generate(t.Context(), user("x")); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}

func TestTokens(t *testing.T) {
	four := []engine.Token{5, 6, 7, 8}
	for w, test := range map[words]struct{ text, chat map[string]any }{
		vLLM: {map[string]any{"path": "/tokenize", "model": "m", "prompt": "x", "add_special_tokens": false},
			map[string]any{"path": "/tokenize", "model": "m", "messages": []any{map[string]any{"role": "user", "content": "x"}}}},
		llamaServer: {map[string]any{"path": "/tokenize", "content": "x", "add_special": false, "parse_special": false},
			map[string]any{"path": "/tokenize", "content": "<s>four", "add_special": true, "parse_special": true}},
	} {
		p := newPeer(t, w)
		u := connect(t, p)
		got, err := u.Tokenize(t.Context(), "x")
		if asked, _ := p.last(); err != nil || !reflect.DeepEqual(got, four) || !reflect.DeepEqual(asked, test.text) {
			t.Errorf("tokenized %v, %v, asking %v", got, err, asked)
		}
		prompt, err := u.Render(t.Context(), user("x"))
		if asked, _ := p.last(); err != nil || !reflect.DeepEqual(prompt.Tokens, four) || !reflect.DeepEqual(asked, test.chat) {
			t.Errorf("rendered %v, %v, asking %v", prompt, err, asked)
		}
	}
	u := connect(t, newPeer(t, openAI))
	if got, err := u.Render(t.Context(), &engine.Request{Tokens: four}); err != nil || !reflect.DeepEqual(got.Tokens, four) {
		t.Errorf("tokens are rendered as %v, %v", got, err)
	}
	_, err := u.Tokenize(t.Context(), "x")
	_, err2 := u.Render(t.Context(), user("x"))
	_, err3 := u.Score(t.Context(), nil)
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
}
