package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a server that says what it was told to, and remembers what it was asked.
type peer struct {
	*httptest.Server
	models string
	reply  http.HandlerFunc // to what generates

	mu     sync.Mutex
	asked  map[string]any
	header http.Header
}

var models = map[words]string{
	openAI:      `{"object": "list", "data": [{"id": "other"}, {"id": "m", "owned_by": "somebody"}]}`,
	vLLM:        `{"object": "list", "data": [{"id": "m", "owned_by": "vllm", "root": "org/m", "max_model_len": 100}]}`,
	llamaServer: `{"models": [], "object": "list", "data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 4000, "n_params": 134000000, "size": 90000000}}]}`,
}

func newPeer(t *testing.T, w words, events ...string) *peer {
	t.Helper()
	p := &peer{models: models[w]}
	p.reply = func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range events {
			fmt.Fprintf(w, "data: %s\n\n", strings.ReplaceAll(e, "\n", " "))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		p.note(r)
		_, _ = io.WriteString(w, p.models)
	})
	mux.HandleFunc("GET /props", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"default_generation_settings": {"n_ctx": 200}}`)
	})
	for _, route := range []string{"/v1/chat/completions", "/v1/completions"} {
		mux.HandleFunc("POST "+route, func(w http.ResponseWriter, r *http.Request) {
			p.note(r)
			p.reply(w, r)
		})
	}
	mux.HandleFunc("POST /apply-template", func(w http.ResponseWriter, r *http.Request) {
		p.note(r)
		_, _ = io.WriteString(w, `{"prompt": "<s>four"}`)
	})
	mux.HandleFunc("POST /tokenize", func(w http.ResponseWriter, r *http.Request) {
		p.note(r)
		_, _ = io.WriteString(w, `{"count": 4, "max_model_len": 100, "tokens": [5, 6, 7, 8]}`)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *peer) note(r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.header, p.asked = r.Header, nil
	_ = json.Unmarshal(text, &p.asked) // of a GET there is none
	if p.asked != nil {
		p.asked["path"] = r.URL.Path
	}
}

func (p *peer) last() (map[string]any, http.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.header
}

func connect(t *testing.T, p *peer) *Upstream {
	t.Helper()
	u, err := New(t.Context(), Config{URL: p.URL, Model: "m", Key: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(u.Close(), u.Close()); err != nil {
			t.Error(err)
		}
	})
	return u
}

func user(text string) *engine.Request {
	return &engine.Request{Chat: &engine.Chat{Messages: []engine.Message{{Role: "user", Content: text}}}, Logprobs: -1}
}

func read(ctx context.Context, s *engine.Stream) (events []engine.Event, text string, err error) {
	defer s.Close()
	var b strings.Builder
	for {
		e, err := s.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return events, b.String(), nil
		}
		if err != nil {
			return events, b.String(), err
		}
		b.WriteString(e.Text)
		events = append(events, e)
	}
}
