package openai_test

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/quipu-ai/quipu/server/servertest"
)

// The tables of docs/api.md name the fields that the requests have, and no others; what they call refused is refused.
func TestDocumentedFields(t *testing.T) {
	h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &recorder{}}}}, nil, nil)
	for heading, wire := range map[string]reflect.Type{"### Request fields": openai.ChatRequest, "## Embeddings": openai.EmbeddingRequest, "## Reranking": openai.RerankRequest} {
		fields := map[string]bool{}
		for _, f := range reflect.VisibleFields(wire) {
			if !f.Anonymous {
				fields[f.Tag.Get("json")] = true
			}
		}
		for _, row := range servertest.Documented(t, "../..", heading) {
			for _, name := range row.Words(0) {
				status := row[1]
				switch status {
				case "refused":
					w := chat(h, hi(`"`+name+`":{}`))
					refusal(t, w.Code, w.Body.Bytes(), name, "unknown_parameter")
					continue
				case "supported", "no effect":
				default:
					t.Errorf("%s: the status %q", name, status)
				}
				if !fields[name] {
					t.Errorf("%s: no such field", name)
				}
				delete(fields, name)
				if status == "no effect" && wire == openai.ChatRequest {
					for _, value := range []string{`"x"`, `{"a":1}`, `true`} {
						if w := chat(h, hi(`"`+name+`":`+value)); w.Code != http.StatusOK {
							t.Errorf("%s has an effect: %s", name, w.Body)
						}
					}
				}
			}
		}
		for name := range fields {
			t.Errorf("%s stands nowhere under %q", name, heading)
		}
	}
}

// The defaults that the page tells are those that are used.
func TestDocumentedDefaults(t *testing.T) {
	grounded, plain := answer.Default(), engine.DefaultSampling()
	want := map[string]string{
		"max_tokens":  fmt.Sprintf("from the documents after %d tokens", grounded.MaxTokens),
		"quipu":       fmt.Sprintf("1 to 200, default %d", grounded.TopK),
		"temperature": fmt.Sprintf("without it %v, and 0 from the documents", plain.Temperature),
		"top_p":       fmt.Sprintf("default %v", plain.TopP),
		"top_k":       fmt.Sprintf("default %v", plain.TopK),
		"min_p":       fmt.Sprintf("default %v", plain.MinP),
	}
	for _, row := range servertest.Documented(t, "../..", "### Request fields") {
		if name := strings.Trim(row[0], "`"); !strings.Contains(row[2], want[name]) {
			t.Errorf("%s: %q, want %q in it", name, row[2], want[name])
		}
	}
}

// The page names what a grounded answer carries, and nothing else.
func TestDocumentedAnswer(t *testing.T) {
	var documented []string
	for _, row := range servertest.Documented(t, "../..", "### What an answer rests on") {
		documented = append(documented, row.Words(0)...)
	}
	fields := map[string]bool{}
	collect(reflect.TypeFor[answer.Answer](), "", fields)
	delete(fields, "timings") // its parts are there
	slices.Sort(documented)
	if want := slices.Sorted(maps.Keys(fields)); !slices.Equal(documented, want) {
		t.Errorf("documented\n%v, but there are\n%v", documented, want)
	}
}

func collect(t reflect.Type, path string, into map[string]bool) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		into[path+name] = true
		switch {
		case f.Type.Kind() == reflect.Struct:
			collect(f.Type, path+name+".", into)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			collect(f.Type.Elem(), path+name+"[].", into)
		}
	}
}
