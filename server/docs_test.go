package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server"
	"github.com/quipu-ai/quipu/server/servertest"
)

// same compares what docs/api.md names with what there is.
func same(t *testing.T, what string, documented, there []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(there)
	if !slices.Equal(documented, slices.Compact(there)) {
		t.Errorf("%s: documented\n%v, but there are\n%v", what, documented, there)
	}
}

func TestDocumentedCodes(t *testing.T) {
	var documented, there []string
	for _, row := range servertest.Documented(t, "..", "## Errors") {
		documented = append(documented, row.Words(2)...)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "fault/fault.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		constants, ok := d.(*ast.GenDecl)
		if !ok || !strings.HasPrefix(constants.Doc.Text(), "Codes of faults") {
			continue
		}
		for _, s := range constants.Specs {
			code, err := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			there = append(there, code)
		}
	}
	same(t, "codes", documented, there)
}

func TestDocumentedEndpoints(t *testing.T) {
	f := newFixture(t)
	h := f.new(t).Handler()
	for _, row := range servertest.Documented(t, "..", "# The HTTP API") {
		method, path, _ := strings.Cut(row.Words(0)[0], " ")
		body := map[string]string{"/v1/chat/completions": ask("hi"), "/v1/embeddings": `{"input":"hi"}`, "/v1/rerank": `{"query":"hi","documents":["ho"]}`}[path]
		if w := record(h, method, strings.Replace(path, "{name}", "default", 1), body); w.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
}

var metricNames = regexp.MustCompile(`(?m)^# TYPE (quipu_\w+) (\w+)$`)

func TestDocumentedMetrics(t *testing.T) {
	f := newFixture(t)
	r := f.start(t)
	r.chat(t, ask("hi", plain, `"max_tokens":2`))
	r.chat(t, ask("hi"))
	var documented, there []string
	for _, row := range servertest.Documented(t, "..", "## Metrics") {
		documented = append(documented, row.Words(0)[0]+" "+row[1])
	}
	_, body := r.do(t, http.MethodGet, "/metrics", "")
	for _, m := range metricNames.FindAllStringSubmatch(body, -1) {
		there = append(there, m[1]+" "+m[2])
	}
	same(t, "metrics", documented, there)
}

// TestLog asks for everything once and looks at the lines: each has exactly the fields that docs/api.md names for its
// kind, and none holds what was said.
func TestLog(t *testing.T) {
	documented := map[string][]string{} // by when they are there
	for _, row := range servertest.Documented(t, "..", "## The log") {
		documented[row[1]] = append(documented[row[1]], row.Words(0)...)
	}
	f := newFixture(t)
	r := f.start(t)
	const secret = "zanzibar"
	f.answerer.Deltas = []string{secret}
	always, chat, tokens, grounded, shifted, fault := "always", "chat", "tokens were read", "chat, grounded", "chat, shifted", "an error"
	model := "a model answers"
	seen := map[string]bool{}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		kinds                    []string
		values                   map[string]any
	}{
		{"plain", "POST", "/v1/chat/completions", ask(secret, plain, `"max_tokens":2`), 200, []string{model, chat, tokens},
			map[string]any{"stream": false, "grounded": false, "completion_tokens": 2.0, "prompt_tokens": 15.0, "model": "fake", "level": "info"}},
		{"streamed", "POST", "/v1/chat/completions", ask(secret, plain, `"max_tokens":2,"stream":true`), 200, []string{model, chat, tokens},
			map[string]any{"stream": true, "grounded": false, "completion_tokens": 2.0, "cached_tokens": 14.0}},
		{"shifted", "POST", "/v1/chat/completions", ask(secret, plain, `"max_tokens":300,"ignore_eos":true,"context_shift":true`), 200, []string{model, chat, tokens, shifted},
			map[string]any{"completion_tokens": 300.0, "dropped_tokens": 126.0}},
		{"grounded", "POST", "/v1/chat/completions", ask(secret), 200, []string{model, chat, tokens, grounded},
			map[string]any{"grounded": true, "abstained": false, "citations": 1.0, "queue_ms": 1.0, "retrieve_ms": 2.5, "prefill_ms": 40.0,
				"first_token_ms": 41.0, "decode_ms": 60.0, "check_ms": 12.0, "prompt_tokens": 300.0, "cached_tokens": 200.0, "completion_tokens": 20.0}},
		{"embeddings", "POST", "/v1/embeddings", `{"input":["` + secret + ` one","two"]}`, 200, []string{model, tokens},
			map[string]any{"prompt_tokens": 3.0, "model": "embedder/mini"}},
		{"rerank", "POST", "/v1/rerank", `{"query":"` + secret + `","documents":["` + secret + ` one","two"]}`, 200, []string{model, tokens},
			map[string]any{"prompt_tokens": 5.0, "model": "reranker/mini"}},
		{"models", "GET", "/v1/models/embedder/mini", "", 200, nil, map[string]any{"route": "/v1/models/*id"}},
		{"wrong", "POST", "/v1/chat/completions", `{"messages":[{"role":"` + secret + `","content":"` + secret + `"}]}`, 400, []string{fault},
			map[string]any{"code": "invalid_value", "param": "messages[0].role", "level": "info"}},
		{"no model", "POST", "/v1/chat/completions", ask(secret, `"model":"`+secret+`"`), 404, []string{chat, fault},
			map[string]any{"code": "model_not_found", "stream": false}},
		{"no route", "GET", "/" + secret, "", 404, []string{fault}, map[string]any{"route": "none", "code": "unknown_url"}},
		{"probe", "GET", "/healthz", "", 200, nil, map[string]any{"level": "debug", "bytes": 15.0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, body := r.do(t, c.method, c.path, c.body)
			if w.StatusCode != c.status {
				t.Fatalf("%d %s", w.StatusCode, body)
			}
			line := f.journal.next("request")
			want := []string{}
			for _, kind := range append(c.kinds, always) {
				want = append(want, documented[kind]...)
			}
			want = slices.DeleteFunc(want, func(field string) bool { // the logger's own, and what an error has none of
				return field == "time" || field == "param" && line["code"] == "unknown_url"
			})
			same(t, "fields", want, slices.Collect(maps.Keys(line)))
			for field, value := range c.values {
				if line[field] != value {
					t.Errorf("%s: %v, want %v", field, line[field], value)
				}
			}
			if line["request"] != w.Header.Get("X-Request-Id") || line["status"] != float64(c.status) || line["method"] != c.method {
				t.Errorf("line %v", line)
			}
			for field := range line {
				seen[field] = true
			}
		})
	}
	t.Run("internal", func(t *testing.T) {
		f.deps.Models.Chats[0].Answerer = &servertest.Answerer{Deltas: []string{secret}, Err: errUnforeseen}
		r := f.start(t)
		if w, body := r.chat(t, ask(secret)); w.StatusCode != 500 || strings.Contains(body, errUnforeseen.Error()) {
			t.Errorf("%d %s", w.StatusCode, body)
		}
		line := f.journal.next("request")
		if line["cause"] != errUnforeseen.Error() || line["level"] != "error" || line["code"] != "internal_error" || line["param"] != nil {
			t.Errorf("line %v", line)
		}
		seen["cause"] = true
	})
	for _, fields := range documented {
		for _, field := range fields {
			if !seen[field] && field != "time" {
				t.Errorf("%s is documented and nowhere", field)
			}
		}
	}
	log := f.journal.String()
	for _, said := range []string{secret, "free of charge", "guaranteed", "warranty"} {
		if strings.Contains(log, said) {
			t.Errorf("the log holds %q:\n%s", said, log)
		}
	}
}

func TestMetricsCount(t *testing.T) {
	f := newFixture(t)
	r := f.start(t)
	r.chat(t, ask("hi", plain, `"max_tokens":2`))
	r.chat(t, ask("hi"))
	f.answerer.Answer.Citations = nil
	r.chat(t, ask("hi", `"stream":true`))
	f.answerer.Answer.Abstained = true
	r.chat(t, ask("hi"))
	r.chat(t, ask("hi", `"n":17`))
	r.chat(t, ask("hi", `"model":"x"`))
	r.do(t, http.MethodPost, "/v1/embeddings", `{"input":"two words"}`)
	r.do(t, "BREW", "/v1/models", "")
	r.do(t, http.MethodGet, "/nowhere", "")
	for range 9 {
		f.journal.next("request") // counted before it is logged
	}
	_, body := r.do(t, http.MethodGet, "/metrics", "")
	for _, line := range []string{
		`quipu_http_requests_in_flight 1`,
		`quipu_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 4`,
		`quipu_http_requests_total{method="POST",route="/v1/chat/completions",status="400"} 1`,
		`quipu_http_requests_total{method="POST",route="/v1/chat/completions",status="404"} 1`,
		`quipu_http_requests_total{method="other",route="none",status="405"} 1`,
		`quipu_http_requests_total{method="GET",route="none",status="404"} 1`,
		`quipu_http_request_seconds_count{route="/v1/chat/completions"} 6`,
		`quipu_chat_stage_seconds_count{model="fake",stage="retrieve"} 3`,
		`quipu_chat_stage_seconds_sum{model="fake",stage="retrieve"} 0.0075`,
		`quipu_tokens_total{kind="prompt",model="fake"} 909`,
		`quipu_tokens_total{kind="cached",model="fake"} 600`,
		`quipu_tokens_total{kind="generated",model="fake"} 62`,
		`quipu_tokens_total{kind="prompt",model="embedder/mini"} 2`,
		`quipu_grounded_answers_total{model="fake",outcome="cited"} 1`,
		`quipu_grounded_answers_total{model="fake",outcome="uncited"} 1`,
		`quipu_grounded_answers_total{model="fake",outcome="abstained"} 1`,
	} {
		holds(t, body, line)
	}
}

func holds(t *testing.T, metrics, line string) {
	t.Helper()
	if strings.Contains(metrics, "\n"+line+"\n") {
		return
	}
	t.Errorf("no line %s", line)
	name, _, _ := strings.Cut(line, "{")
	for other := range strings.Lines(metrics) {
		if strings.HasPrefix(other, name) {
			t.Logf("but %s", other)
		}
	}
}

func TestEngineMetrics(t *testing.T) {
	f := newFixture(t)
	m := server.NewEngineMetrics("owner/model")
	f.deps.Collectors = []prometheus.Collector{m, server.NewEngineMetrics("another")}
	h := f.new(t).Handler()
	hooks := m.Hooks()
	hooks.Step(engine.Step{Rows: 10, Prompt: 8, Took: 2 * time.Second, Running: 3, Waiting: 4, Cells: 50})
	hooks.Step(engine.Step{Rows: 2, Took: time.Second, Running: 2, Cells: 40, Drafted: 9, Accepted: 5, ModelDrafted: 6, ModelAccepted: 4, Drafting: time.Second / 2})
	hooks.Done(engine.Usage{}, engine.Timings{}, nil)
	hooks.Done(engine.Usage{}, engine.Timings{}, engine.ErrClosed)
	body := record(h, http.MethodGet, "/metrics", "").Body.String()
	for _, line := range []string{
		`quipu_engine_requests_waiting{model="owner/model"} 0`,
		`quipu_engine_sequences_running{model="owner/model"} 2`,
		`quipu_engine_kv_cells_used{model="owner/model"} 40`,
		`quipu_engine_decode_seconds_sum{model="owner/model"} 3`,
		`quipu_engine_rows_total{kind="prompt",model="owner/model"} 8`,
		`quipu_engine_rows_total{kind="generated",model="owner/model"} 4`,
		`quipu_engine_guesses_total{model="owner/model",outcome="right",source="text"} 1`,
		`quipu_engine_guesses_total{model="owner/model",outcome="wrong",source="text"} 2`,
		`quipu_engine_guesses_total{model="owner/model",outcome="right",source="draft_model"} 4`,
		`quipu_engine_guesses_total{model="owner/model",outcome="wrong",source="draft_model"} 2`,
		`quipu_engine_draft_seconds_total{model="owner/model"} 0.5`,
		`quipu_engine_requests_total{model="owner/model",outcome="ok"} 1`,
		`quipu_engine_requests_total{model="owner/model",outcome="failed"} 1`,
		`quipu_engine_kv_cells_used{model="another"} 0`,
	} {
		holds(t, body, line)
	}
}
