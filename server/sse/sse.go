// Package sse writes server-sent events.
package sse

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quipu-ai/quipu/server/fault"
)

// ErrLineBreak: an event's data holds a line break, which would end it. JSON never does.
var ErrLineBreak = errors.New("an event's data holds a line break")

// Writer writes a stream of events, and a comment whenever nothing was sent for a while, so that no proxy takes the
// connection for dead. The response begins with the first of either: until then the caller may still answer otherwise.
//
// One goroutine writes; the comments come from a timer, which Stop ends. A Writer must be stopped before its handler
// returns.
type Writer struct {
	w     http.ResponseWriter
	every time.Duration

	mu      sync.Mutex // guards what follows and the writing itself
	timer   *time.Timer
	begun   bool
	stopped bool
	err     error
}

// New starts a stream with a heartbeat; nothing is sent yet.
func New(w http.ResponseWriter, heartbeat time.Duration) *Writer {
	s := &Writer{w: w, every: heartbeat}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(heartbeat, s.beat)
	return s
}

// Data sends one event and flushes it. It fails with fault.ErrGone when the client takes no more, and then for good.
func (s *Writer) Data(data []byte) error {
	if bytes.ContainsAny(data, "\r\n") {
		return ErrLineBreak
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.timer.Reset(s.every)
	}
	return s.write(slices.Concat([]byte("data: "), data, []byte("\n\n")))
}

// Stop ends the heartbeat and reports whether the response has begun. It may be called again.
func (s *Writer) Stop() (begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.timer.Stop()
	return s.begun
}

func (s *Writer) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	if s.write([]byte(": still working\n\n")) == nil {
		s.timer.Reset(s.every)
	}
}

func (s *Writer) write(event []byte) error {
	if s.err != nil {
		return s.err
	}
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // proxies must not hold events back
		s.w.WriteHeader(http.StatusOK)
	}
	_, err := s.w.Write(event)
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	if err != nil {
		s.err = fmt.Errorf("%w: %w", fault.ErrGone, err)
	}
	return s.err
}
