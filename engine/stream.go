package engine

import (
	"context"
	"io"
	"sync"
)

// Stream is the reader's end of a generation. One goroutine reads it; Close may be called from any.
//
// Between the two ends stands a queue that grows with the events not yet read, at most one for each generated token, so
// the loop never waits for a reader and a slow reader costs memory only as far as MaxTokens reaches.
type Stream struct {
	q      *eventQueue
	cancel func()
	once   sync.Once
}

// Sink is the writer's end of a Stream. One goroutine writes it.
type Sink struct{ q *eventQueue }

type eventQueue struct {
	mu     sync.Mutex
	events []Event
	err    error // why there will be no more events; io.EOF after the last
	wake   chan struct{}
}

// NewStream returns the two ends of a stream. cancel is called once, when the reader closes the stream, also after its
// end; it must not block. Implementations of Generator use it.
func NewStream(cancel func()) (*Stream, *Sink) {
	q := &eventQueue{wake: make(chan struct{}, 1)}
	return &Stream{q: q, cancel: cancel}, &Sink{q: q}
}

// Recv returns the next event. It returns io.EOF after the last event (the one with Finish), ctx.Err() when ctx ends
// first, and any other error when generation failed; then nothing follows.
func (s *Stream) Recv(ctx context.Context) (Event, error) {
	for {
		s.q.mu.Lock()
		if len(s.q.events) > 0 {
			e := s.q.events[0]
			s.q.events = s.q.events[1:]
			s.q.mu.Unlock()
			return e, nil
		}
		err := s.q.err
		s.q.mu.Unlock()
		if err != nil {
			return Event{}, err
		}
		select {
		case <-s.q.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Close gives the stream up: generation is cancelled if it still runs. It never blocks, and may be called again.
func (s *Stream) Close() {
	s.once.Do(func() {
		s.q.end(ErrClosed)
		if s.cancel != nil {
			s.cancel()
		}
	})
}

// Send delivers an event. Events after the end are dropped.
func (k *Sink) Send(e Event) {
	k.q.mu.Lock()
	if k.q.err == nil {
		k.q.events = append(k.q.events, e)
		if e.Finish != "" {
			k.q.err = io.EOF
		}
	}
	k.q.mu.Unlock()
	k.q.signal()
}

// Fail ends the stream with an error; a stream that has ended stays as it is.
func (k *Sink) Fail(err error) { k.q.end(err) }

// Pending is the number of events not yet read.
func (k *Sink) Pending() int {
	k.q.mu.Lock()
	defer k.q.mu.Unlock()
	return len(k.q.events)
}

func (q *eventQueue) end(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
