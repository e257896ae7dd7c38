package openai_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/quipu-ai/quipu/server/servertest"
	"github.com/quipu-ai/quipu/server/strict"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

// serve gives the dialect's routes over some models and stores. Each request's line goes to lines, if that is not nil.
func serve(m dispatch.Models, s dispatch.Stores, lines chan<- *access.Line) http.Handler {
	r := gin.New()
	r.Use(func(c *gin.Context) {
		line := &access.Line{ID: "req_test"}
		c.Request = c.Request.WithContext(access.With(c.Request.Context(), line))
		c.Next()
		if lines != nil {
			lines <- line
		}
	})
	openai.New(dispatch.New(m, s, dispatch.Auto), m, strict.Limits{Bytes: 1 << 20, Time: time.Minute}, time.Minute).Routes(r)
	return r
}

// fake serves a real engine over a fake backend, an embedding model and a reranking model.
func fake(t *testing.T, b *servertest.Backend, c engine.Config) dispatch.Models {
	return dispatch.Models{Chats: []dispatch.Chat{{Generator: servertest.Engine(t, b, c)}}, Embedders: []dispatch.Embedder{servertest.Embedder{MaxInput: 4}},
		Rerankers: []dispatch.Reranker{servertest.Reranker{MaxInput: 8}}}
}

func do(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func chat(h http.Handler, body string) *httptest.ResponseRecorder {
	return do(h, http.MethodPost, "/v1/chat/completions", body)
}

// hi is a request with more members.
func hi(members ...string) string {
	return "{" + strings.Join(append([]string{`"messages":[{"role":"user","content":"hi"}]`}, members...), ",") + "}"
}

var (
	completionIDs = regexp.MustCompile(`"id": ?"chatcmpl-[A-Z2-7]{26}"`)
	created       = regexp.MustCompile(`"created": ?[1-9]\d{9}\b`)
)

// golden compares a response with testdata/NAME: status, the headers that matter, and the body without what changes from
// run to run.
func golden(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	body := w.Body.Bytes()
	if ids := completionIDs.FindAllString(w.Body.String(), -1); len(ids) > 0 {
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("%s and %s in one answer", ids[0], id)
			}
		}
		body = completionIDs.ReplaceAll(body, []byte(`"id":"chatcmpl-ID"`))
	}
	body = created.ReplaceAll(body, []byte(`"created":0`))
	if w.Header().Get("Content-Type") == "application/json" {
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		b.WriteByte('\n')
		body = b.Bytes()
	}
	var got bytes.Buffer
	fmt.Fprintf(&got, "%d\n", w.Code)
	for _, h := range []string{"Content-Type", "Retry-After"} {
		if v := w.Header().Get(h); v != "" {
			fmt.Fprintf(&got, "%s: %s\n", h, v)
		}
	}
	fmt.Fprintf(&got, "\n%s", body)

	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: write it with -update", err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", path, got.Bytes(), want)
	}
}
