package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/servertest"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a log that tests read, line by line as it is written or as a whole.
type journal struct {
	lines chan map[string]any
	mu    sync.Mutex
	whole bytes.Buffer
}

func newJournal() *journal { return &journal{lines: make(chan map[string]any, 1000)} }

func (j *journal) Write(p []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	j.lines <- line
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.whole.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.whole.String()
}

// next waits for the next line with this message.
func (j *journal) next(message string) map[string]any {
	for {
		if line := <-j.lines; line["message"] == message {
			return line
		}
	}
}

// fixture is what a test serves: a real engine over the fake backend, documents and embeddings.
type fixture struct {
	config   server.Config
	deps     server.Deps
	answerer *servertest.Answerer
	journal  *journal
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{config: server.Default(), answerer: servertest.Guarantee(), journal: newJournal()}
	metrics := server.NewEngineMetrics("fake")
	e, err := engine.New(servertest.NewBackend(256), engine.DefaultConfig(), metrics.Hooks())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	f.deps = server.Deps{
		Models: dispatch.Models{Chats: []dispatch.Chat{{Generator: e, Answerer: f.answerer}}, Embedders: []dispatch.Embedder{servertest.Embedder{MaxInput: 8}},
			Rerankers: []dispatch.Reranker{servertest.Reranker{MaxInput: 8}}},
		Stores: servertest.Stores{"default": 3},
		Log:    zerolog.New(f.journal),
	}
	f.deps.Collectors = append(f.deps.Collectors, metrics)
	return f
}

func (f *fixture) new(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.New(f.config, f.deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// running is a server that listens.
type running struct {
	*server.Server
	url, address string
	client       *http.Client
	stop         func() error // ends it and waits; may be called again
}

func (f *fixture) start(t *testing.T) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return f.startOn(t, l)
}

func (f *fixture) startOn(t *testing.T, l net.Listener) *running {
	t.Helper()
	s := f.new(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	transport := &http.Transport{}
	stop := sync.OnceValue(func() error {
		cancel()
		err := <-ended
		transport.CloseIdleConnections()
		return err
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &running{s, "http://" + l.Addr().String(), l.Addr().String(), &http.Client{Transport: transport}, stop}
}

// do sends a request and reads the whole answer.
func (r *running) do(t *testing.T, method, path, body string) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w, string(b)
}

func (r *running) chat(t *testing.T, body string) (*http.Response, string) {
	t.Helper()
	return r.do(t, http.MethodPost, "/v1/chat/completions", body)
}

// ask is a chat request with more members.
func ask(prompt string, members ...string) string {
	text, err := json.Marshal(prompt)
	if err != nil {
		panic(err)
	}
	return "{" + strings.Join(append([]string{`"messages":[{"role":"user","content":` + string(text) + `}]`}, members...), ",") + "}"
}

const plain = `"quipu":{"grounded":false}`

// record sends a request to a handler without a connection.
func record(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// fault is the code of an error in OpenAI's shape.
func fault(t *testing.T, body string) (code, message string) {
	t.Helper()
	var got struct {
		Error struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Error.Message == "" || got.Error.Type == "" {
		t.Fatalf("no error of OpenAI's: %s", body)
	}
	return got.Error.Code, got.Error.Message
}
