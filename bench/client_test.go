package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEvents(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   []string
		end    error
	}{
		"LF":                   {"data: a\n\ndata: b\n\n", []string{"a", "b"}, io.EOF},
		"CRLF":                 {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, io.EOF},
		"CR":                   {"data: a\r\rdata: b\r\r", []string{"a", "b"}, io.EOF},
		"no space":             {"data:a\n\n", []string{"a"}, io.EOF},
		"one space is no data": {"data:  a\n\n", []string{" a"}, io.EOF},
		"comments and fields":  {": still working\n\nevent: x\nid: 1\ndata: a\nretry: 3\n\n: more\n\n", []string{"a"}, io.EOF},
		"several lines":        {"data: a\ndata\ndata: b\n\n", []string{"a\n\nb"}, io.EOF},
		"nothing":              {"", nil, io.EOF},
		"empty lines":          {"\n\n\n", nil, io.EOF},
		"an end within":        {"data: a\n\ndata: b\n", []string{"a"}, io.ErrUnexpectedEOF},
		"an end in a line":     {"data: a\n\ndat", []string{"a"}, io.ErrUnexpectedEOF},
		"far too long":         {"data: a\n\ndata: " + strings.Repeat("x", maxEvent) + "\n\n", []string{"a"}, errLongEvent},
	} {
		for way, r := range map[string]io.Reader{"whole": strings.NewReader(test.stream), "in bytes": iotest.OneByteReader(strings.NewReader(test.stream))} {
			e := events{r: bufio.NewReader(r)}
			var got []string
			var err error
			for {
				var data []byte
				if data, err = e.next(); err != nil {
					break
				}
				got = append(got, string(data))
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) || !errors.Is(err, test.end) {
				t.Errorf("%s, %s: got %q, %v", name, way, got, err)
			}
		}
	}
}

// delta is an event with text, end the last ones of a stream.
func delta(text string) string {
	quoted, _ := json.Marshal(text)
	return `data: {"choices":[{"index":0,"delta":{"content":` + string(quoted) + `},"finish_reason":null}]}` + "\n\n"
}

const (
	role   = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}` + "\n\n"
	finish = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}` + "\n\n"
	stop   = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usage  = `data: {"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5}}}` + "\n\n"
	done   = "data: [DONE]\n\n"
)

// serve answers every request with the parts of a stream, each flushed; "" stands for a wait until the client is gone.
func serve(t *testing.T, status int, parts ...string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		for _, p := range parts {
			if p == "" {
				<-r.Context().Done()
				return
			}
			if p == "break" {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, p)
			w.(http.Flusher).Flush()
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestSend(t *testing.T) {
	stream, vectors := request{stream: true}, request{passages: 2}
	for name, test := range map[string]struct {
		request request
		status  int
		parts   []string
		want    call
		err     string
	}{
		"a stream":              {stream, 200, []string{role, delta("a"), ": comment\n\n", delta("b"), delta(""), delta("c"), finish, usage, done}, call{deltas: 3, prompt: 20, cached: 5, output: 7, finish: "length"}, ""},
		"no usage":              {stream, 200, []string{delta("a"), delta("b"), finish, done}, call{deltas: 2, output: 2, finish: "length"}, ""},
		"no DONE":               {stream, 200, []string{delta("a"), finish}, call{deltas: 1, output: 1, finish: "length"}, ""},
		"usage in every chunk":  {stream, 200, []string{delta("a"), strings.Replace(usage, "7", "1", 1), finish, usage, done}, call{deltas: 1, prompt: 20, cached: 5, output: 7, finish: "length"}, ""},
		"thoughts":              {stream, 200, []string{`data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}` + "\n\n", delta("a"), finish, done}, call{deltas: 2, output: 2, finish: "length"}, ""},
		"a tool":                {stream, 200, []string{`data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}` + "\n\n", `data: {"choices":[{"delta":{"tool_calls":null}}]}` + "\n\n", stop, done}, call{deltas: 1, output: 1, finish: "stop"}, ""},
		"cut":                   {request{stream: true, cutAfter: 2}, 200, []string{delta("a"), delta("b"), ""}, call{deltas: 2, output: 2, cut: true}, ""},
		"an object":             {request{stream: true, schema: true}, 200, []string{delta(`{"a"`), delta(`: 1}`), stop, done}, call{deltas: 2, output: 2, finish: "stop"}, ""},
		"an object without end": {request{stream: true, schema: true}, 200, []string{delta(`{"a"`), finish, done}, call{deltas: 1, output: 1, finish: "length"}, ""},
		"no object":             {request{stream: true, schema: true}, 200, []string{delta(`{"a"`), stop, done}, call{deltas: 1, output: 1, finish: "stop"}, errNotJSON.Error()},
		"no finish":             {stream, 200, []string{delta("a"), usage, done}, call{deltas: 1, prompt: 20, cached: 5, output: 7}, errNoFinish.Error()},
		"no tokens":             {stream, 200, []string{role, finish, done}, call{finish: "length"}, errNoTokens.Error()},
		"no stream":             {stream, 200, []string{"{}"}, call{}, "the stream broke off: unexpected EOF"},
		"no events":             {stream, 200, nil, call{}, errNoFinish.Error()},
		"no chunk":              {stream, 200, []string{"data: hello\n\n"}, call{}, errBadChunk.Error()},
		"an error within":       {stream, 200, []string{delta("a"), `data: {"error":{"message":"out of\nmemory","code":500}}` + "\n\n"}, call{deltas: 1, output: 1}, "out of memory"},
		"broken off":            {stream, 200, []string{delta("a"), "break"}, call{deltas: 1, output: 1}, "the stream broke off: unexpected EOF"},
		"refused":               {stream, 503, []string{`{"error":{"message":"Loading model","code":503}}`}, call{}, "503: Loading model"},
		"refused in words":      {stream, 404, []string{"not\n found"}, call{}, "404: not found"},
		"refused at length":     {stream, 500, []string{strings.Repeat("ä", 300)}, call{}, "500: " + strings.Repeat("ä", 200) + "…"},
		"vectors":               {vectors, 200, []string{`{"data":[{"embedding":[1,2]},{"embedding":[3,4]}],"usage":{"prompt_tokens":9}}`}, call{prompt: 9, passages: 2}, ""},
		"vectors in base64":     {vectors, 200, []string{`{"data":[{"embedding":"AAAA"},{"embedding":"AAAA"}]}`}, call{passages: 2}, ""},
		"a vector is missing":   {vectors, 200, []string{`{"data":[{"embedding":[1,2]}]}`}, call{}, errNoVectors.Error()},
		"a vector is empty":     {vectors, 200, []string{`{"data":[{"embedding":[1,2]},{"embedding":[]}]}`}, call{}, errNoVectors.Error()},
		"no vectors":            {vectors, 200, []string{`<html>`}, call{}, errBadVectors.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, test.status, test.parts...)
			c := newClient(Default(s.URL, "short"), s.URL)
			defer c.close()
			got := c.send(t.Context(), test.request)
			text := ""
			if got.err != nil {
				text = got.err.Error()
			}
			if text != test.err {
				t.Errorf("error %q, want %q", text, test.err)
			}
			if len(got.gaps) != max(0, got.deltas-1) || got.first.IsZero() != (got.deltas == 0) || got.end.Before(got.start) {
				t.Errorf("times %+v", got)
			}
			short := call{deltas: got.deltas, prompt: got.prompt, cached: got.cached, output: got.output, passages: got.passages, finish: got.finish, cut: got.cut}
			if fmt.Sprintf("%+v", short) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("got  %+v\nwant %+v", short, test.want)
			}
		})
	}
}

// A server that is not there, and one that says nothing.
func TestSendInVain(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := newClient(Default(gone.URL, "short"), gone.URL)
	defer c.close()
	if got := c.send(t.Context(), request{stream: true}); got.err == nil || got.err.Error() != "dial: connect: connection refused" {
		t.Errorf("got %v", got.err)
	}
	silent := serve(t, 200, delta("a"), "")
	c = newClient(Default(silent.URL, "short"), silent.URL)
	defer c.close()
	c.timeout = 50 * time.Millisecond
	if got := c.send(t.Context(), request{stream: true}); !errors.Is(got.err, errTimeout) || got.cut {
		t.Errorf("got %+v", got)
	}
}

// Times are those at which tokens arrive: between two that the server holds apart there is at least so much.
func TestTimes(t *testing.T) {
	const apart = 30 * time.Millisecond
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			time.Sleep(apart)
			fmt.Fprint(w, delta("a"))
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, finish+done)
	}))
	defer s.Close()
	c := newClient(Default(s.URL, "short"), s.URL)
	defer c.close()
	got := c.send(t.Context(), request{stream: true})
	if got.err != nil || got.first.Sub(got.start) < apart || len(got.gaps) != 2 || got.end.Sub(got.start) < 3*apart {
		t.Fatalf("got %+v", got)
	}
	if sum := got.first.Sub(got.start) + got.gaps[0] + got.gaps[1]; sum != got.last.Sub(got.start) || sum < 3*apart {
		t.Errorf("they add up to %v of %v", sum, got.last.Sub(got.start))
	}
}

// Clients keep their connections, and send their key.
func TestConnections(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, delta("a")+finish+done)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := Default(s.URL, "short")
	c.Key, c.Clients, c.Requests = "secret", 3, 60
	r, err := Run(t.Context(), c)
	if err != nil || r.Completed != 60 || r.Failed > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := opened.Load(); n > 10 { // net/http may dial one that it then doesn't need
		t.Errorf("3 clients opened %d connections for 60 requests", n)
	}
}

// A server may close a connection that it kept just when the next request is on its way: that is no failure.
func TestClosedConnection(t *testing.T) {
	type key struct{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header["Idempotency-Key"] != nil {
			t.Error("a header was sent that is none of ours")
		}
		if r.Context().Value(key{}).(*atomic.Int64).Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, delta("a")+finish+done)
	}))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, key{}, new(atomic.Int64))
	}
	s.Start()
	defer s.Close()
	c := Default(s.URL, "single")
	c.Requests = 6
	r, err := Run(t.Context(), c)
	if err != nil || r.Completed != 6 || r.Failed > 0 || r.Again != 5 || !strings.Contains(r.Table(), "\n5 sent again") {
		t.Errorf("%v, %s", err, r.Table())
	}
}
