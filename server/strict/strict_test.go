package strict_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// order is a body with every kind of member that our wire types have.
type order struct {
	Name   string           `json:"name"`
	Count  int              `json:"count"`
	Limit  *int             `json:"limit"`
	Share  float64          `json:"share"`
	Gift   bool             `json:"gift"`
	Lines  []line           `json:"lines"`
	Labels map[string]int64 `json:"labels"`
	Size   size             `json:"size"`
	Raw    jsontext.Value   `json:"raw"`
}

type line struct {
	Text string `json:"text"`
	Box  *struct {
		Weight float64 `json:"weight"`
	} `json:"box"`
}

// size is read by a method of its own.
type size string

func (s *size) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindString {
		return strict.Reject(d, fault.InvalidType, "expected a size")
	}
	return json.UnmarshalDecode(d, (*string)(s))
}

func TestDecodeRefuses(t *testing.T) {
	nested := func(n int) string { return `{"raw":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for name, c := range map[string]struct{ body, code, param, message string }{
		"empty":              {"", fault.InvalidJSON, "", "empty"},
		"blank":              {" \n", fault.InvalidJSON, "", "ends too early"},
		"null":               {"null", fault.InvalidType, "", "expected an object, got null"},
		"array":              {"[]", fault.InvalidType, "", "expected an object, got an array"},
		"string":             {`"x"`, fault.InvalidType, "", "expected an object, got a string"},
		"cut":                {`{"lines":[{"text":"x"`, fault.InvalidJSON, "lines[0]", "ends too early"},
		"no JSON":            {"name=x", fault.InvalidJSON, "", "malformed JSON at byte"},
		"comment":            {`{/* x */}`, fault.InvalidJSON, "", "malformed JSON at byte 1"},
		"trailing comma":     {`{"name":"x",}`, fault.InvalidJSON, "", "malformed JSON at byte"},
		"trailing value":     {`{"name":"x"} {}`, fault.InvalidJSON, "", "malformed JSON at byte 13"},
		"trailing text":      {`{"name":"x"}x`, fault.InvalidJSON, "", "malformed JSON at byte 12"},
		"unknown":            {`{"nmae":"x"}`, fault.Unknown, "nmae", "no such field"},
		"other case":         {`{"Name":"x"}`, fault.Unknown, "Name", "no such field"},
		"unknown in a list":  {`{"lines":[{},{"txt":1}]}`, fault.Unknown, "lines[1].txt", "no such field"},
		"unknown deep":       {`{"lines":[{"box":{"wight":1}}]}`, fault.Unknown, "lines[0].box.wight", "no such field"},
		"long unknown":       {`{"` + strings.Repeat("é", 300) + `":1}`, fault.Unknown, strings.Repeat("é", 100) + "…", "no such field"},
		"twice":              {`{"name":"x","name":"y"}`, fault.InvalidJSON, "name", "given twice"},
		"twice in a list":    {`{"lines":[{"text":"x","text":"x"}]}`, fault.InvalidJSON, "lines[0].text", "given twice"},
		"twice in a map":     {`{"labels":{"a":1,"a":1}}`, fault.InvalidJSON, "labels.a", "given twice"},
		"twice unread":       {`{"raw":{"a":1,"a":1}}`, fault.InvalidJSON, "raw.a", "given twice"},
		"number for text":    {`{"name":7}`, fault.InvalidType, "name", "expected a string, got a number"},
		"object for text":    {`{"lines":[{"text":{}}]}`, fault.InvalidType, "lines[0].text", "expected a string, got an object"},
		"text for integer":   {`{"count":"7"}`, fault.InvalidType, "count", "expected an integer, got a string"},
		"fraction":           {`{"limit":1.5}`, fault.InvalidType, "limit", "expected an integer, got 1.5"},
		"too large a number": {`{"count":9223372036854775808}`, fault.InvalidType, "count", "expected an integer, got 9223372036854775808"},
		"endless number":     {`{"count":` + strings.Repeat("9", 99) + `}`, fault.InvalidType, "count", "expected an integer, got a number"},
		"text for number":    {`{"share":"half"}`, fault.InvalidType, "share", "expected a number, got a string"},
		"infinite":           {`{"share":1e999}`, fault.InvalidType, "share", "expected a number, got 1e999"},
		"text for boolean":   {`{"gift":"yes"}`, fault.InvalidType, "gift", "expected true or false, got a string"},
		"object for array":   {`{"lines":{}}`, fault.InvalidType, "lines", "expected an array, got an object"},
		"text in an array":   {`{"lines":["x"]}`, fault.InvalidType, "lines[0]", "expected an object, got a string"},
		"array for object":   {`{"lines":[{"box":[]}]}`, fault.InvalidType, "lines[0].box", "expected an object, got an array"},
		"text in a map":      {`{"labels":{"a":"x"}}`, fault.InvalidType, "labels.a", "expected an integer, got a string"},
		"own method":         {`{"size":{"deep":[1,2]}}`, fault.InvalidType, "size", "expected a size"},
		"invalid UTF-8":      {"{\"name\":\"\xff\"}", fault.InvalidJSON, "name", "invalid UTF-8"},
		"half a surrogate":   {`{"name":"\ud800"}`, fault.InvalidJSON, "name", "malformed JSON at byte"},
		"too deep":           {nested(strict.MaxDepth + 1), fault.InvalidJSON, "", "deeper than 100"},
		"far too deep":       {strings.Repeat("[", 1<<20), fault.InvalidJSON, "", "deeper than 100"},
	} {
		t.Run(name, func(t *testing.T) {
			f := refusal(t, strict.Decode([]byte(c.body), new(order)))
			if f.Status != http.StatusBadRequest || f.Type != fault.InvalidRequest || f.Code != c.code || f.Param != c.param {
				t.Errorf("got %d %s %s %q", f.Status, f.Type, f.Code, f.Param)
			}
			if !strings.Contains(f.Message, c.message) {
				t.Errorf("message %q, want %q in it", f.Message, c.message)
			}
		})
	}
	if err := strict.Decode([]byte(nested(strict.MaxDepth)), new(order)); err != nil {
		t.Errorf("as deep as allowed: %v", err)
	}
	if err := strict.Decode([]byte(`{"name":"[[[[\"{{{{`+strings.Repeat("[", 200)+`"}`), new(order)); err != nil {
		t.Errorf("brackets in a string: %v", err)
	}
}

func refusal(t *testing.T, err error) *fault.Fault {
	t.Helper()
	f, ok := errors.AsType[*fault.Fault](err)
	if !ok {
		t.Fatalf("got %v, want a fault", err)
	}
	return f
}

func TestNullIsAbsent(t *testing.T) {
	var got order
	err := strict.Decode([]byte(`{"name":null,"count":null,"limit":null,"share":null,"gift":null,"lines":null,"labels":null,"raw":null}`), &got)
	got.Raw = nil // keeps the null; its reader decides
	if err != nil || !reflect.DeepEqual(got, order{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// receive serves one body after the other and reports what Body made of it.
func receive(t *testing.T, limits strict.Limits) (address string, outcome chan error) {
	t.Helper()
	outcome = make(chan error, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := strict.Body(w, r, limits, new(order))
		outcome <- err
		if f, ok := errors.AsType[*fault.Fault](err); ok {
			w.WriteHeader(f.Status)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), outcome
}

// post sends a request of its own making over a bare connection, and reads the status.
func post(t *testing.T, address, head, body string) (status int) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n%s", head, body)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

func TestBody(t *testing.T) {
	const whole = `{"name":"0123456789"}`
	for name, c := range map[string]struct {
		head, body string
		code       string
		status     int
	}{
		"whole":            {"Content-Length: 21\r\n", whole, "", 200},
		"chunked":          {"Transfer-Encoding: chunked\r\n", "15\r\n" + whole + "\r\n0\r\n\r\n", "", 200},
		"plain":            {"Content-Length: 21\r\nContent-Encoding: Identity\r\n", whole, "", 200},
		"compressed":       {"Content-Length: 21\r\nContent-Encoding: gzip\r\n", whole, fault.Encoding, 415},
		"none":             {"", "", fault.InvalidJSON, 400},
		"too large":        {"Content-Length: 22\r\n", whole + " ", fault.TooLarge, 413},
		"too large asked":  {"Content-Length: 22\r\nExpect: 100-continue\r\n", "", fault.TooLarge, 413}, // and not sent
		"too large unsaid": {"Transfer-Encoding: chunked\r\n", "16\r\n" + whole + " \r\n0\r\n\r\n", fault.TooLarge, 413},
		"slow":             {"Content-Length: 21\r\n", whole[:7], fault.Timeout, 408},
		"slow unsaid":      {"Transfer-Encoding: chunked\r\n", "15\r\n" + whole[:7], fault.Timeout, 408},
		"broken framing":   {"Transfer-Encoding: chunked\r\n", "zz\r\n", fault.InvalidJSON, 400},
	} {
		t.Run(name, func(t *testing.T) {
			limits := strict.Limits{Bytes: int64(len(whole)), Time: time.Minute}
			if c.code == fault.Timeout {
				limits.Time = 50 * time.Millisecond
			}
			address, outcome := receive(t, limits)
			if got := post(t, address, c.head, c.body); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			err := <-outcome
			if c.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := refusal(t, err); f.Code != c.code || f.Status != c.status {
				t.Errorf("got %d %s", f.Status, f.Code)
			}
		})
	}
}

// A client that leaves while it sends is no error of ours, and its cause is kept for the log.
func TestBodyBreaksOff(t *testing.T) {
	address, outcome := receive(t, strict.Limits{Bytes: 1 << 10, Time: time.Minute})
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{\"na")
	c.Close()
	if f := refusal(t, <-outcome); f.Code != fault.InvalidJSON || f.Cause == nil {
		t.Errorf("got %s, cause %v", f.Code, f.Cause)
	}
}

// The deadline is for the body alone: a handler that works for longer still notices that its client leaves.
func TestDeadlineEndsWithTheBody(t *testing.T) {
	const limit = 50 * time.Millisecond
	read, left := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := strict.Body(w, r, strict.Limits{Bytes: 1 << 10, Time: limit}, new(order)); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
			t.Error("the client was taken for gone when the body's time was over")
		case <-time.After(4 * limit):
		}
		close(read)
		<-r.Context().Done()
		close(left)
	}))
	defer s.Close()
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-read; leave() }()
	if _, err := s.Client().Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-left
}

// Whatever arrives, Decode gives a fault that a client can read, or an object that it could have sent.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"name":"x","count":1,"limit":null,"share":0.5,"gift":true}`, `{"lines":[{"text":"x","box":{"weight":1e3}}]}`,
		`{"labels":{"a":1},"raw":[{"b":[]}],"size":"m"}`, `{"size":{}}`, `{"name":"\ud800"}`, `{"a":"\\\"[["}`, `{"lines":[{"txt":1}]}`, "{\"\xff\":1}",
		`{"0":{"1":2}}`, strings.Repeat("[", 101), `{"name":1}{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first order
		if err := strict.Decode(data, &first); err != nil {
			f := refusal(t, err)
			if f.Status != http.StatusBadRequest || f.Code == "" || f.Message == "" || len(f.Param) > 210 {
				t.Errorf("a fault that helps nobody: %+v", f)
			}
			return
		}
		again, err := json.Marshal(&first)
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		if first.Size == "" { // which refuses null, and is written as a string
			return
		}
		var second order
		if err := strict.Decode(again, &second); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
