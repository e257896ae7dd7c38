package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/servertest"
)

// Every kind of chat answer, whole and streamed.
func TestChatGolden(t *testing.T) {
	long, _ := enginetest.Continue("user: hi\n", 12)
	stop, err := json.Marshal(long[6:8])
	if err != nil {
		t.Fatal(err)
	}
	const tools = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]`
	call := func(index int, id, name, arguments string) engine.Delta {
		return engine.Delta{ToolCall: &engine.ToolCall{Index: index, ID: id, Name: name, Arguments: arguments}}
	}
	for _, c := range []struct {
		name     string
		script   []engine.Delta
		answerer dispatch.Answerer
		members  []string
	}{
		{name: "plain", members: []string{`"model":"default"`, `"max_tokens":5`}},
		{name: "stopped", members: []string{`"stop":` + string(stop)}},
		{name: "logprobs", members: []string{`"max_tokens":2`, `"logprobs":true`, `"top_logprobs":2`}},
		{name: "logprobs_no_top", members: []string{`"max_tokens":1`, `"logprobs":true`}},
		{name: "reasoning", members: []string{`"max_tokens":4`, `"ignore_eos":true`},
			script: []engine.Delta{{Reasoning: "They"}, {Reasoning: " greet."}, {Text: "Hel"}, {Text: "lo\n\"you\""}}},
		{name: "tools", members: []string{tools, `"stop":` + string(stop)}, script: []engine.Delta{
			call(0, "call_1", "weather", ""), call(0, "", "", `{"city":`), call(0, "", "", `"Oslo"}`), call(1, "call_2", "weather", `{}`)}},
		{name: "tools_and_text", members: []string{tools, `"stop":` + string(stop)}, script: []engine.Delta{
			{Text: "I'll look."}, call(0, "call_1", "weather", `{}`)}},
		{name: "grounded", answerer: servertest.Guarantee()},
		{name: "abstained", answerer: servertest.Silence()},
	} {
		b := servertest.NewBackend(128)
		b.Script = c.script
		m := fake(t, b, engine.DefaultConfig())
		m.Chats[0].Answerer = c.answerer
		h := serve(m, servertest.Stores{"default": 1}, nil)
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name+".json", chat(h, hi(c.members...)))
		})
		t.Run(c.name+" streamed", func(t *testing.T) {
			golden(t, c.name+".sse", chat(h, hi(append(c.members, `"stream":true`, `"stream_options":{"include_usage":true}`)...)))
		})
	}
	t.Run("streamed without usage", func(t *testing.T) {
		h := serve(fake(t, servertest.NewBackend(128), engine.DefaultConfig()), nil, nil)
		golden(t, "no_usage.sse", chat(h, hi(`"max_tokens":1`, `"stream":true`)))
	})
}

func TestEmbeddingsGolden(t *testing.T) {
	h := serve(fake(t, servertest.NewBackend(64), engine.DefaultConfig()), nil, nil)
	for _, c := range []struct{ name, body string }{
		{"embed_one", `{"model":"embedder/mini","input":"two words"}`},
		{"embed_many", `{"model":"default","input":["two words","one"],"encoding_format":"float","dimensions":3,"user":"u"}`},
		{"embed_base64", `{"input":["two words","one"],"encoding_format":"base64"}`},
		{"embed_truncated", `{"input":["five words are too many"],"truncate":true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name+".json", do(h, http.MethodPost, "/v1/embeddings", c.body))
		})
	}
}

func TestRerankGolden(t *testing.T) {
	h := serve(fake(t, servertest.NewBackend(64), engine.DefaultConfig()), nil, nil)
	const documents = `"documents":["a frame","the warranty of the frame","a dog",{"text":"of a dog"}]`
	for _, c := range []struct{ name, body string }{
		{"rerank", `{"query":"warranty of frame",` + documents + `}`},
		{"rerank_top", `{"model":"reranker/mini","query":"warranty of frame","top_n":2,"return_documents":true,` + documents + `}`},
		{"rerank_truncated", `{"model":"default","query":"warranty of frame","truncate":true,"top_n":9,"documents":["a b c d e frame","frame frame"]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name+".json", do(h, http.MethodPost, "/v1/rerank", c.body))
		})
	}
}

func TestModelsGolden(t *testing.T) {
	b := servertest.NewBackend(64)
	b.Name = "owner/chat"
	m := fake(t, b, engine.DefaultConfig())
	h := serve(m, nil, nil)
	for _, c := range []struct{ name, path string }{
		{"models", "/v1/models"},
		{"models", "/v1/models/"},
		{"model_chat", "/v1/models/owner/chat"},
		{"model_chat", "/v1/models/owner%2Fchat"},
		{"model_chat", "/v1/models/default"},
		{"model_embedding", "/v1/models/embedder/mini"},
		{"model_reranking", "/v1/models/reranker/mini"},
		{"model_unknown", "/v1/models/owner"},
	} {
		t.Run(c.path, func(t *testing.T) {
			golden(t, c.name+".json", do(h, http.MethodGet, c.path, ""))
		})
	}
	golden(t, "models_none.json", do(serve(dispatch.Models{}, nil, nil), http.MethodGet, "/v1/models", ""))
}

// One error of each kind that the issue names, as clients see it.
func TestErrorsGolden(t *testing.T) {
	b := servertest.NewBackend(32)
	m := fake(t, b, engine.DefaultConfig())
	m.Chats[0].Answerer = &servertest.Answerer{Err: errors.New("a secret of the server's")}
	h := serve(m, servertest.Stores{"default": 1}, nil)
	plain := `"quipu":{"grounded":false}`
	for _, c := range []struct{ name, body string }{
		{"malformed", `{"messages":[{"role":"user","content":"hi"}`},
		{"wrong_type", `{"messages":[{"role":"user","content":7}]}`},
		{"no_messages", `{"messages":[]}`},
		{"unknown_role", `{"messages":[{"role":"user","content":"hi"},{"role":"critic","content":"hm"}]}`},
		{"unknown_model", hi(`"model":"gpt-x"`)},
		{"unknown_store", hi(`"quipu":{"store":"gone"}`)},
		{"unknown_field", hi(`"temprature":1`)},
		{"overflow", `{"messages":[{"role":"user","content":"a prompt of more tokens than the context"}],` + plain + `}`},
		{"too_many_answers", hi(`"n":17`)},
		{"grounded_tools", hi(`"quipu":{"grounded":true}`, `"tools":[{"type":"function","function":{"name":"f"}}]`)},
		{"internal", hi()},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, "error_"+c.name+".json", chat(h, c.body))
		})
		// What is wrong from the start is no stream.
		t.Run(c.name+" streamed", func(t *testing.T) {
			if streamed := `{"stream":true,` + c.body[1:]; c.name != "malformed" {
				golden(t, "error_"+c.name+".json", chat(h, streamed))
			}
		})
	}
}

func TestQueueFullGolden(t *testing.T) {
	b := servertest.NewBackend(64)
	b.Gate = make(chan struct{})
	e := servertest.Engine(t, b, engine.Config{Queue: 1, Budget: 64, Running: 1})
	for taken := 0; taken < 2; { // one that runs, which may take a moment, and one that waits
		s, err := e.Generate(t.Context(), &engine.Request{Text: "waits", MaxTokens: 1, Logprobs: -1})
		if errors.Is(err, engine.ErrQueueFull) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		taken++
	}
	h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: e}}}, nil, nil)
	golden(t, "error_queue_full.json", chat(h, hi()))
}

// What goes wrong after the first byte is an event in the stream, and the stream has no other end.
func TestLateErrorsGolden(t *testing.T) {
	failing := func(after int) *servertest.Backend {
		b := servertest.NewBackend(64)
		b.Fail = func([]engine.Row) error {
			if after--; after < 0 {
				return errors.New("a secret of the model's")
			}
			return nil
		}
		return b
	}
	t.Run("model", func(t *testing.T) {
		h := serve(fake(t, failing(3), engine.DefaultConfig()), nil, nil)
		golden(t, "error_late.sse", chat(h, hi(`"max_tokens":9`, `"ignore_eos":true`, `"stream":true`)))
	})
	t.Run("model, whole", func(t *testing.T) {
		h := serve(fake(t, failing(3), engine.DefaultConfig()), nil, nil)
		golden(t, "error_model_failed.json", chat(h, hi(`"max_tokens":9`, `"ignore_eos":true`)))
	})
	t.Run("documents", func(t *testing.T) {
		m := fake(t, servertest.NewBackend(64), engine.DefaultConfig())
		m.Chats[0].Answerer = &servertest.Answerer{Deltas: []string{"2 years."}, Err: fmt.Errorf("answer: %w", answer.ErrDocumentChanged)}
		h := serve(m, servertest.Stores{"default": 1}, nil)
		golden(t, "error_late_documents.sse", chat(h, hi(`"stream":true`)))
	})
}
