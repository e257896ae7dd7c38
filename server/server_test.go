package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/server"
	"github.com/quipu-ai/quipu/server/dispatch"
)

func TestRequestID(t *testing.T) {
	f := newFixture(t)
	h := f.new(t).Handler()
	for _, sent := range []string{"a", "Trace-01.b_c", strings.Repeat("x", 64)} {
		w := record(h, http.MethodGet, "/v1/models", "", "X-Request-Id", sent)
		if got := w.Header().Get("X-Request-Id"); got != sent {
			t.Errorf("%q became %q", sent, got)
		}
		if line := f.journal.next("request"); line["request"] != sent {
			t.Errorf("%q is logged as %v", sent, line["request"])
		}
	}
	seen := map[string]bool{}
	for _, sent := range []string{"", "a b", "ä", "a/b", `a"b`, "<b>", strings.Repeat("x", 65)} {
		w := record(h, http.MethodGet, "/v1/nothing", "", "X-Request-Id", sent)
		got := w.Header().Get("X-Request-Id")
		if !strings.HasPrefix(got, "req_") || len(got) < 20 || seen[got] {
			t.Errorf("%q became %q", sent, got)
		}
		seen[got] = true
		if line := f.journal.next("request"); line["request"] != got {
			t.Errorf("%q is logged as %v", got, line["request"])
		}
	}
}

func TestRoutes(t *testing.T) {
	f := newFixture(t)
	h := f.new(t).Handler()
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{http.MethodGet, "/", 404, "unknown_url", ""},
		{http.MethodGet, "/v1", 404, "unknown_url", ""},
		{http.MethodPost, "/v1/completions", 404, "unknown_url", ""},
		{http.MethodPost, "/v1/chat/completions/", 404, "unknown_url", ""},
		{http.MethodGet, "/v1/chat/completions", 405, "method_not_allowed", "POST"},
		{http.MethodDelete, "/v1/embeddings", 405, "method_not_allowed", "POST"},
		{http.MethodPost, "/v1/models", 405, "method_not_allowed", "GET"},
		{http.MethodPost, "/v1/models/fake", 405, "method_not_allowed", "GET"},
		{"BREW", "/metrics", 405, "method_not_allowed", "GET"},
		{http.MethodPost, "/healthz", 405, "method_not_allowed", "GET, HEAD"},
	} {
		w := record(h, c.method, c.path, "")
		code, message := fault(t, w.Body.String())
		if w.Code != c.status || code != c.code || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %s, allowed %q", c.method, c.path, w.Code, code, w.Header().Get("Allow"))
		}
		if c.allow != "" && !strings.HasSuffix(message, "allowed: "+c.allow) {
			t.Errorf("%s %s: %q", c.method, c.path, message)
		}
	}
}

func TestProbes(t *testing.T) {
	f := newFixture(t)
	var unready error
	f.deps.Ready = func(context.Context) error { return unready }
	h := f.new(t).Handler()
	check := func(path string, status int, body string) {
		t.Helper()
		if w := record(h, http.MethodGet, path, ""); w.Code != status || w.Body.String() != body {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if w := record(h, http.MethodHead, path, ""); w.Code != status {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
	}
	check("/healthz", 200, `{"status":"ok"}`)
	check("/readyz", 200, `{"status":"ok"}`)
	unready = errors.New("the record is being repaired")
	check("/healthz", 200, `{"status":"ok"}`)
	check("/readyz", 503, `{"status":"unavailable","reason":"the record is being repaired"}`)
	unready = nil
	check("/readyz", 200, `{"status":"ok"}`)
	f.deps.Ready = nil
	h = f.new(t).Handler()
	check("/readyz", 200, `{"status":"ok"}`)
}

// Until there are models, probes are answered and the rest is put off.
func TestStarting(t *testing.T) {
	f := newFixture(t)
	f.deps = server.Deps{Starting: true, Log: f.deps.Log}
	r := f.start(t)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/healthz", 200}, {"GET", "/metrics", 200}, {"GET", "/readyz", 503}, {"POST", "/v1/chat/completions", 503}, {"GET", "/v1/models", 503},
	} {
		w, body := r.do(t, c.method, c.path, "")
		if w.StatusCode != c.status || c.status == 503 && !strings.Contains(body, "the models are being loaded") {
			t.Errorf("%s: %d %s", c.path, w.StatusCode, body)
		}
		if strings.HasPrefix(c.path, "/v1") {
			if code, _ := fault(t, body); code != "unavailable" || w.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %s %v", c.path, body, w.Header)
			}
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if log := f.journal.String(); strings.Contains(log, "stopping") || !strings.Contains(log, `"code":"unavailable"`) {
		t.Errorf("log: %s", log)
	}
}

// A stream that runs when the server stops may end; nobody new comes in meanwhile.
func TestStopLetsRequestsFinish(t *testing.T) {
	f := newFixture(t)
	f.config.Drain = time.Hour
	f.answerer.Hold = make(chan struct{}, 1)
	f.answerer.Hold <- struct{}{}
	r := f.start(t)
	events, w := stream(t, r)
	until(t, events, "2 years")

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	f.journal.next("stopping: letting requests finish")
	if w := record(r.Handler(), http.MethodGet, "/readyz", ""); w.Code != 503 || w.Body.String() != `{"status":"unavailable","reason":"the server is shutting down"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := record(r.Handler(), http.MethodGet, "/healthz", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if err := refused(r.address); err != nil {
		t.Error(err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a stream open: %v", err)
	default:
	}
	f.answerer.Hold <- struct{}{}
	until(t, events, "[DONE]")
	w.Body.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// refused waits until nobody listens at an address any more.
func refused(address string) error {
	for range 1000 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
	return errors.New("it still takes connections")
}

// stream opens a streamed chat; it waits for the first event.
func stream(t *testing.T, r *running) (*bufio.Scanner, *http.Response) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(ask("hi", `"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(w.Body), w
}

// until reads a stream up to the line that holds a text.
func until(t *testing.T, events *bufio.Scanner, text string) string {
	t.Helper()
	for events.Scan() {
		if strings.Contains(events.Text(), text) {
			return events.Text()
		}
	}
	t.Fatalf("the stream ended before %q: %v", text, events.Err())
	return ""
}

// What takes longer than Drain is cancelled, and its client is told so.
func TestStopCancelsAfterDrain(t *testing.T) {
	f := newFixture(t)
	f.config.Drain = 10 * time.Millisecond
	f.answerer.Hold = make(chan struct{}, 1)
	r := f.start(t)
	f.answerer.Hold <- struct{}{}
	events, w := stream(t, r)
	defer w.Body.Close()
	until(t, events, "2 years")

	whole := make(chan error, 1)
	go func() { // one that hasn't had a byte yet
		w, err := r.client.Post(r.url+"/v1/chat/completions", "application/json", strings.NewReader(ask("hi")))
		if err != nil {
			whole <- err
			return
		}
		defer w.Body.Close()
		body, err := io.ReadAll(w.Body)
		if w.StatusCode != 503 || w.Header.Get("Retry-After") != "1" || !strings.Contains(string(body), `"code":"shutting_down"`) {
			err = fmt.Errorf("%d %s: %w", w.StatusCode, body, err)
		}
		whole <- err
	}()
	for len(f.answerer.Asked()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	until(t, events, `"code":"shutting_down"`)
	for events.Scan() {
		if events.Text() != "" {
			t.Errorf("after the error: %q", events.Text())
		}
	}
	if err := <-whole; err != nil {
		t.Error(err)
	}
	for range 2 {
		if line := f.journal.next("request"); line["status"] != 503.0 || line["code"] != "shutting_down" || line["level"] != "error" {
			t.Errorf("logged %v", line)
		}
	}
}

// Without its listener a server can't go on: Serve says so, and ends what runs.
func TestListenerFails(t *testing.T) {
	f := newFixture(t)
	f.answerer.Hold = make(chan struct{}, 1)
	f.answerer.Hold <- struct{}{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := f.new(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), l) }()
	r := &running{Server: s, url: "http://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	defer r.client.CloseIdleConnections()
	events, w := stream(t, r)
	defer w.Body.Close()
	until(t, events, "2 years")
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	until(t, events, `"code":"shutting_down"`)
}

var errUnforeseen = errors.New("nobody foresaw this")

// flood is an Answerer whose answer is more than any socket buffers.
type flood struct{ left chan struct{} }

func (f flood) Stream(context.Context, answer.Question) iter.Seq2[answer.Event, error] {
	return func(yield func(answer.Event, error) bool) {
		defer close(f.left)
		piece := strings.Repeat("x", 1<<16)
		for range 1 << 9 {
			if !yield(answer.Event{Delta: piece}, nil) {
				return
			}
		}
		yield(answer.Event{Answer: &answer.Answer{}}, nil)
	}
}

// A client that doesn't read keeps nobody else waiting, and loses its answer when its time is over. That is no error of
// the server's.
func TestSlowReader(t *testing.T) {
	for _, member := range []string{`"stream":true`, `"stream":false`} {
		t.Run(member, func(t *testing.T) {
			f := newFixture(t)
			f.config.WriteTimeout = 200 * time.Millisecond
			left := make(chan struct{})
			f.deps.Models.Chats[0].Answerer = flood{left}
			r := f.start(t)
			w, err := r.client.Post(r.url+"/v1/chat/completions", "application/json", strings.NewReader(ask("hi", member)))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			for range 3 {
				if w, body := r.chat(t, ask("hi", plain, `"max_tokens":3`)); w.StatusCode != 200 {
					t.Errorf("%d %s", w.StatusCode, body)
				}
			}
			<-left
			logged := map[any]int{}
			for range 4 {
				line := f.journal.next("request")
				logged[line["status"]]++
				if line["status"] == 499.0 && (line["code"] != "client_gone" || line["level"] != "info") {
					t.Errorf("logged %v", line)
				}
			}
			if logged[200.0] != 3 || logged[499.0] != 1 {
				t.Errorf("logged %v", logged)
			}
		})
	}
}

// A client that sends its body too slowly, or too much of it, is told in the dialect's shape.
func TestBodyLimits(t *testing.T) {
	f := newFixture(t)
	f.config.BodyTimeout = 50 * time.Millisecond
	f.config.MaxBody = 1 << 10
	r := f.start(t)
	for _, c := range []struct {
		name, body string
		length     int
		status     int
		code       string
	}{
		{"slow", `{"messages":`, 100, 408, "request_timeout"},
		{"too large", ask(strings.Repeat("x", 1<<10)), 0, 413, "request_too_large"},
		{"far too large", strings.Repeat("x", 1<<12), 1 << 30, 413, "request_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", r.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", max(c.length, len(c.body)), c.body)
			w, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			body, err := io.ReadAll(w.Body)
			if code, _ := fault(t, string(body)); err != nil || w.StatusCode != c.status || code != c.code {
				t.Errorf("%d %s %v", w.StatusCode, body, err)
			}
		})
	}
}

// panicky is an Answerer with a bug, before or after its first delta.
type panicky struct {
	late  bool
	value any
}

func (p panicky) Stream(context.Context, answer.Question) iter.Seq2[answer.Event, error] {
	return func(yield func(answer.Event, error) bool) {
		if p.late {
			yield(answer.Event{Delta: "2 years"}, nil)
		}
		panic(p.value)
	}
}

func TestPanic(t *testing.T) {
	for _, c := range []struct {
		name   string
		panics panicky
		member string
		cut    bool // the connection
		logged bool // the panic
	}{
		{"whole", panicky{value: "a bug"}, `"stream":false`, false, true},
		{"whole, late", panicky{late: true, value: errors.New("a bug")}, `"stream":false`, false, true},
		{"streamed, before the first byte", panicky{value: "a bug"}, `"stream":true`, false, true},
		{"streamed, after it", panicky{late: true, value: "a bug"}, `"stream":true`, true, true},
		{"given up", panicky{value: http.ErrAbortHandler}, `"stream":false`, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.deps.Models.Chats[0].Answerer = c.panics
			r := f.start(t)
			w, err := r.client.Post(r.url+"/v1/chat/completions", "application/json", strings.NewReader(ask("hi", c.member)))
			var body []byte
			if err == nil {
				defer w.Body.Close()
				body, err = io.ReadAll(w.Body)
			}
			switch {
			case c.cut:
				if err == nil {
					t.Errorf("the client takes it for whole: %s", body)
				}
			case err != nil:
				t.Fatal(err)
			default:
				code, message := fault(t, string(body))
				if id := w.Header.Get("X-Request-Id"); w.StatusCode != 500 || code != "internal_error" || message != "internal error (request "+id+")" {
					t.Errorf("%d %s", w.StatusCode, body)
				}
			}
			if c.logged {
				if line := f.journal.next("panic"); line["panic"] != "a bug" || !strings.Contains(fmt.Sprint(line["stack"]), "server_test.go") {
					t.Errorf("logged %v", line)
				}
				if line := f.journal.next("request"); line["status"] != 500.0 || line["level"] != "error" {
					t.Errorf("logged %v", line)
				}
			}
			if w, body := r.chat(t, ask("hi", plain, `"max_tokens":1`)); w.StatusCode != 200 {
				t.Errorf("afterwards: %d %s", w.StatusCode, body)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if n := strings.Contains(f.journal.String(), `"panic"`); n != c.logged {
				t.Errorf("log: %s", f.journal)
			}
		})
	}
}

func TestCollectorTwice(t *testing.T) {
	f := newFixture(t)
	f.deps.Collectors = append(f.deps.Collectors, f.deps.Collectors[0])
	if _, err := server.New(f.config, f.deps); err == nil {
		t.Error("the same metrics twice")
	}
}

// Many clients at once, streamed and not, over connections that are used again. For the race detector above all.
func TestManyClients(t *testing.T) {
	f := newFixture(t)
	r := f.start(t)
	const clients, each = 8, 5
	done := make(chan error)
	for i := range clients {
		go func() {
			for j := range each {
				members := []string{`"max_tokens":4`, fmt.Sprintf(`"stream":%t`, j%2 == 0)}
				if i%2 == 0 {
					members = append(members, plain)
				}
				w, err := r.client.Post(r.url+"/v1/chat/completions", "application/json", strings.NewReader(ask(fmt.Sprint(i, j), members...)))
				if err == nil {
					_, err = io.Copy(io.Discard, w.Body)
					w.Body.Close()
					if w.StatusCode != 200 {
						err = fmt.Errorf("status %d", w.StatusCode)
					}
				}
				done <- err
			}
		}()
	}
	for range clients * each {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(f.journal.String(), `"status":200`); n != clients*each {
		t.Errorf("%d lines of %d requests", n, clients*each)
	}
}

// Default is what serves when there is nothing: no models, no documents.
func TestNothingServed(t *testing.T) {
	f := newFixture(t)
	f.deps.Models, f.deps.Stores = dispatch.Models{}, nil
	h := f.new(t).Handler()
	for path, body := range map[string]string{"/v1/chat/completions": ask("hi"), "/v1/embeddings": `{"input":"hi"}`, "/v1/rerank": `{"query":"hi","documents":["ho"]}`} {
		w := record(h, http.MethodPost, path, body)
		if code, _ := fault(t, w.Body.String()); w.Code != 404 || code != "model_not_found" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
