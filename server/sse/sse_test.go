package sse_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/sse"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const heartbeat = 15 * time.Second

func send(t *testing.T, w *sse.Writer, data string) {
	t.Helper()
	if err := w.Data([]byte(data)); err != nil {
		t.Fatal(err)
	}
}

// A comment comes after each silence, counted from the last event, and none once the stream is stopped.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := httptest.NewRecorder()
		w := sse.New(r, heartbeat)
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		wait(heartbeat - 1)
		send(t, w, "1")
		wait(heartbeat - 1)
		send(t, w, "2")
		wait(2 * heartbeat)
		send(t, w, "3")
		if !w.Stop() {
			t.Error("Stop says that nothing was sent")
		}
		wait(3 * heartbeat)
		const beat = ": still working\n\n"
		if got, want := r.Body.String(), "data: 1\n\ndata: 2\n\n"+beat+beat+"data: 3\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Until something is sent the response is still the caller's; a heartbeat begins it as an event does.
func TestBegun(t *testing.T) {
	for name, c := range map[string]struct {
		act   func(t *testing.T, w *sse.Writer)
		begun bool
	}{
		"nothing":    {func(*testing.T, *sse.Writer) {}, false},
		"line break": {func(_ *testing.T, w *sse.Writer) { _ = w.Data([]byte("a\nb")) }, false},
		"event":      {func(t *testing.T, w *sse.Writer) { send(t, w, "{}") }, true},
		"heartbeat":  {func(*testing.T, *sse.Writer) { time.Sleep(heartbeat) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := httptest.NewRecorder()
				w := sse.New(r, heartbeat)
				c.act(t, w)
				synctest.Wait()
				for range 2 { // Stop may be called again
					if got := w.Stop(); got != c.begun {
						t.Errorf("begun %v", got)
					}
				}
				if c.begun {
					if h := r.Header(); r.Code != http.StatusOK || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-cache" || !r.Flushed {
						t.Errorf("%d %v, flushed %v", r.Code, h, r.Flushed)
					}
				} else if r.Body.Len() > 0 || len(r.Header()) > 0 {
					t.Errorf("sent %q %v", r.Body, r.Header())
				}
			})
		})
	}
}

// An error in the stream is sent when its heart has already stopped.
func TestDataAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := httptest.NewRecorder()
		w := sse.New(r, heartbeat)
		w.Stop()
		send(t, w, "last")
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		if got := r.Body.String(); got != "data: last\n\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestLineBreaksAreRefused(t *testing.T) {
	r := httptest.NewRecorder()
	w := sse.New(r, heartbeat)
	defer w.Stop()
	for _, data := range []string{"a\nb", "\n", "a\r", "a\r\nb", "data: x\n\ndata: y"} {
		if err := w.Data([]byte(data)); !errors.Is(err, sse.ErrLineBreak) {
			t.Errorf("%q: got %v", data, err)
		}
	}
	send(t, w, "fine")
	if got := r.Body.String(); got != "data: fine\n\n" {
		t.Errorf("got %q", got)
	}
}

// broken takes so many bytes and then fails.
type broken struct {
	*httptest.ResponseRecorder
	left   int
	writes int
}

var errGone = errors.New("gone")

func (b *broken) Write(p []byte) (int, error) {
	b.writes++
	if len(p) > b.left {
		return 0, errGone
	}
	b.left -= len(p)
	return b.ResponseRecorder.Write(p)
}

func TestFailingWriterFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &broken{ResponseRecorder: httptest.NewRecorder(), left: len("data: 1\n\n")}
		w := sse.New(r, heartbeat)
		send(t, w, "1")
		for range 2 {
			if err := w.Data([]byte("2")); !errors.Is(err, fault.ErrGone) || !errors.Is(err, errGone) {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(5 * heartbeat)
		synctest.Wait()
		if r.writes != 2 {
			t.Errorf("%d writes: what failed was tried again", r.writes)
		}
		if !w.Stop() {
			t.Error("Stop says that nothing was sent")
		}
	})
}

// A client that left during a silence shows at the next event.
func TestFailingHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sse.New(&broken{ResponseRecorder: httptest.NewRecorder()}, heartbeat)
		defer w.Stop()
		time.Sleep(heartbeat)
		synctest.Wait()
		if err := w.Data([]byte("1")); !errors.Is(err, fault.ErrGone) {
			t.Errorf("got %v", err)
		}
	})
}

// What can't be flushed hasn't been sent.
type unflushable struct{ *httptest.ResponseRecorder }

func (unflushable) FlushError() error { return errGone }

func TestFailingFlush(t *testing.T) {
	w := sse.New(unflushable{httptest.NewRecorder()}, heartbeat)
	defer w.Stop()
	if err := w.Data([]byte("1")); !errors.Is(err, fault.ErrGone) || !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}

// Events and heartbeats race for the connection, but never inside each other. For the race detector above all.
func TestHeartbeatsBetweenEvents(t *testing.T) {
	r := httptest.NewRecorder()
	w := sse.New(r, time.Microsecond)
	var stop sync.WaitGroup
	for range 500 {
		send(t, w, "{}")
	}
	for range 4 {
		stop.Go(func() { w.Stop() })
	}
	stop.Wait()
	whole := r.Body.String()
	for event := range strings.SplitSeq(strings.TrimSuffix(whole, "\n\n"), "\n\n") {
		if event != "data: {}" && event != ": still working" {
			t.Fatalf("an event broken up: %q", event)
		}
	}
	if n := strings.Count(whole, "data: {}\n\n"); n != 500 {
		t.Errorf("%d events", n)
	}
}
