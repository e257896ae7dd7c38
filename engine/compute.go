package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// compute runs the batch and takes each task a step further. A batch that fails is tried again task by task, so that one
// bad request fails alone.
func (l *loop) compute(ctx context.Context, work []*task) {
	began := time.Now()
	for _, t := range work {
		if t.start.IsZero() {
			t.start = began
		}
	}
	lane, other := l.decode, l.prefill
	if l.step.Prompt > 0 {
		lane, other = other, lane
	}
	if lane != nil {
		l.step.Threads = lane.threads()
		l.threads.SetThreads(l.step.Threads)
	}
	l.step.Rows = len(l.rows)
	err := l.backend.Decode(ctx, l.rows)
	l.step.Took = time.Since(began)
	if err == nil {
		streams := l.step.Rows - l.step.Prompt
		l.cost.observe(streams, l.step.Prompt, l.step.Took)
		// What has come over the machine is told by whoever has more steps, mostly the streams.
		if lane != nil && lane.observe(l.step.Took.Seconds()/effort(streams, l.step.Prompt)) {
			other.doubt()
		}
		for _, t := range work {
			l.advance(t)
		}
	} else if ctx.Err() == nil {
		l.salvage(ctx, work, err)
	}
	if l.hooks.Step != nil {
		l.step.Running, l.step.Waiting, l.step.Cells = len(l.running), int(l.queued.Load()), l.cells.used
		l.step.Shelf = l.shelf.size()
		l.hooks.Step(l.step)
	}
}

// effort is about how much work a step is, in steps of one stream, so that trials of threads compare like with like.
func effort(streams, prompt int) float64 {
	if streams == 0 {
		return float64(prompt) / 8
	}
	return 1 + float64(streams-1)/8 + float64(prompt)/8
}

func (l *loop) salvage(ctx context.Context, work []*task, cause error) {
	for _, t := range work {
		l.cut(t.sequence, t.computed)
		t.computed = l.cells.len(t.sequence)
		t.drafts = nil
	}
	for _, t := range work {
		if len(work) > 1 {
			l.rows = l.rows[:0]
			l.add(t, min(l.limits.Batch, l.place(t)-t.computed))
			cause = l.backend.Decode(ctx, l.rows)
		}
		switch {
		case ctx.Err() != nil:
			return
		case cause == nil:
			l.advance(t)
		default:
			l.cut(t.sequence, t.computed)
			l.end(t, fmt.Errorf("%w: %w", ErrBackend, cause))
		}
	}
}

// advance books what was computed for a task and samples or scores from its outputs.
func (l *loop) advance(t *task) {
	weight := 1.0
	if t.decoding() {
		weight = decodeWeight
	}
	l.queue.charge(t, t.pending, weight)
	l.cells.grow(t.sequence, t.pending)
	first := t.computed
	t.computed += t.pending
	if t.filling != nil && t.computed == len(t.tokens) {
		l.filled(t)
		return
	}
	if len(t.rows) == 0 {
		return
	}
	var err error
	if t.scoring != nil {
		err = l.score(t, first)
	} else {
		err = l.sample(t)
	}
	if err != nil {
		l.end(t, err)
	}
}

// end takes a task out of the loop, keeps its computed tokens as a prefix and tells its caller. Without an error a stream's
// last event is the caller's to send.
func (l *loop) end(t *task, err error) {
	if t.sequence >= 0 {
		if !errors.Is(err, ErrBackend) {
			l.keep(t)
		}
		l.release(t)
	}
	if t.filling != nil {
		if err != nil {
			l.settle(t, State{})
		}
		return
	}
	l.queue.leave(t)
	if t.scoring != nil || err != nil {
		t.fail(err)
	}
	t.close()
	if l.hooks.Done != nil {
		l.hooks.Done(t.usage, t.timings(), err)
	}
}
