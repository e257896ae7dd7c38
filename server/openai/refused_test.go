package openai_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/quipu-ai/quipu/server/servertest"
)

func TestEmbeddingsRefused(t *testing.T) {
	h := serve(dispatch.Models{Embedders: []dispatch.Embedder{servertest.Embedder{MaxInput: 4}}}, nil, nil)
	allRefused(t, h, "/v1/embeddings", openai.EmbeddingRequest, []refusedBody{
		{`{}`, "input", "missing_required_parameter"},
		{`{"input":null}`, "input", "missing_required_parameter"},
		{`{"input":[]}`, "input", "missing_required_parameter"},
		{`{"input":""}`, "input[0]", "invalid_value"},
		{`{"input":["one"," "]}`, "input[1]", "invalid_value"},
		{`{"input":7}`, "input", "invalid_type"},
		{`{"input":{}}`, "input", "invalid_type"},
		{`{"input":[1,2]}`, "input[0]", "unsupported_parameter"},
		{`{"input":[[1,2],[3]]}`, "input[0]", "unsupported_parameter"},
		{`{"input":["one",null]}`, "input[1]", "invalid_type"},
		{`{"input":["one",true]}`, "input[1]", "invalid_type"},
		{`{"input":["one"` + strings.Repeat(`,"one"`, 2048) + `]}`, "input", "invalid_value"},
		{`{"input":["one","five words are too many"]}`, "input[1]", "input_too_long"},
		{`{"input":"one","dimensions":2}`, "dimensions", "unsupported_parameter"},
		{`{"input":"one","dimensions":"3"}`, "dimensions", "invalid_type"},
		{`{"input":"one","encoding_format":"hex"}`, "encoding_format", "invalid_value"},
		{`{"input":"one","model":"recorder"}`, "model", "model_not_found"},
		{`{"input":"one","user":"u","truncate":"END"}`, "truncate", "invalid_type"},
		{`{"input":"one","truncation":true}`, "truncation", "unknown_parameter"},
	})
}

func TestRerankRefused(t *testing.T) {
	h := serve(dispatch.Models{Rerankers: []dispatch.Reranker{servertest.Reranker{MaxInput: 6}}}, nil, nil)
	allRefused(t, h, "/v1/rerank", openai.RerankRequest, []refusedBody{
		{`{}`, "query", "missing_required_parameter"},
		{`{"query":" ","documents":["one"]}`, "query", "missing_required_parameter"},
		{`{"query":["one"],"documents":["one"]}`, "query", "invalid_type"},
		{`{"query":"one"}`, "documents", "missing_required_parameter"},
		{`{"query":"one","documents":[]}`, "documents", "missing_required_parameter"},
		{`{"query":"one","documents":"one"}`, "documents", "invalid_type"},
		{`{"query":"one","documents":["one",""]}`, "documents[1]", "invalid_value"},
		{`{"query":"one","documents":["one",{}]}`, "documents[1]", "invalid_value"},
		{`{"query":"one","documents":["one",7]}`, "documents[1]", "invalid_type"},
		{`{"query":"one","documents":[{"text":"one","title":"x"}]}`, "documents[0].title", "unknown_parameter"},
		{`{"query":"one","documents":["one"` + strings.Repeat(`,"one"`, 1000) + `]}`, "documents", "invalid_value"},
		{`{"query":"one","documents":["one","six words of a long text"]}`, "documents[1]", "input_too_long"},
		{`{"query":"six words of a long query","documents":["one"],"truncate":true}`, "query", "invalid_value"},
		{`{"query":"one","documents":["one"],"top_n":0}`, "top_n", "invalid_value"},
		{`{"query":"one","documents":["one"],"return_documents":1}`, "return_documents", "invalid_type"},
		{`{"query":"one","documents":["one"],"max_tokens_per_doc":9}`, "max_tokens_per_doc", "unknown_parameter"},
		{`{"query":"one","documents":["one"],"model":"recorder"}`, "model", "model_not_found"},
	})
}

type refusedBody struct{ body, param, code string }

// allRefused sends bodies that are refused, and looks that they try every field.
func allRefused(t *testing.T, h http.Handler, path string, wire reflect.Type, bodies []refusedBody) {
	tested := map[string]bool{}
	for _, c := range bodies {
		t.Run(c.body[:min(len(c.body), 60)], func(t *testing.T) {
			w := do(h, http.MethodPost, path, c.body)
			refusal(t, w.Code, w.Body.Bytes(), c.param, c.code)
		})
		var members map[string]any
		if err := json.Unmarshal([]byte(c.body), &members); err != nil {
			t.Fatal(err)
		}
		for name := range members {
			tested[name] = true
		}
	}
	for field := range wire.Fields() {
		if name := field.Tag.Get("json"); !tested[name] {
			t.Errorf("%s is in no test", name)
		}
	}
}
