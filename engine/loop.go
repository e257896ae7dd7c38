package engine

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// loop owns the backend. Everything in it belongs to one goroutine.
type loop struct {
	*Engine
	cells    *cells
	tree     *tree
	idle     []int // sequence ids that may run
	queue    *queue
	fillings map[name]*task // passages that are being computed
	pending  []*task        // of them, those that wait for a sequence
	running  []*task        // in the order of admission
	turn     uint64
	rows     []Row
	cost     *cost
	prefill  *tuner // nil where the backend has no threads
	decode   *tuner
	busy     time.Time // when somebody's request was there last
	step     Step      // the one under way

	drafter       Drafter  // nil where the backend is none, or it failed
	modelDrafting drafting // of all streams together; where a new one starts

	adapter string            // that computes
	stayed  int               // steps that it has computed while others waited
	served  map[string]uint64 // when each adapter computed last
}

func newLoop(e *Engine) *loop {
	l := &loop{
		Engine: e, cells: newCells(e.limits.Cells, e.limits.Running, e.limits.Sequences), tree: newTree(e.limits.Running, e.limits.Sequences),
		queue: newQueue(), fillings: map[name]*task{}, cost: newCost(e.config.Gap, e.config.Running+draftMost), served: map[string]uint64{},
		modelDrafting: drafting{hit: 0.8},
	}
	for s := e.config.Running - 1; s >= 0; s-- {
		l.idle = append(l.idle, s)
	}
	if e.threads != nil {
		l.prefill, l.decode = newTuner(e.threads.Threads()), newTuner(e.threads.Threads())
	}
	if d, ok := e.backend.(Drafter); ok && d.Drafts() && e.config.Draft {
		l.drafter = d
	}
	return l
}

// run is the engine's goroutine. The backend may keep state in its thread, so the goroutine stays on one.
func (l *loop) run(ctx context.Context) {
	runtime.LockOSThread()
	defer func() {
		l.failed = l.backend.Close()
		l.shelf.close()
		close(l.ended)
	}()
	if l.config.Measure {
		l.measure(ctx)
	}
	close(l.ready)
	for l.receive(ctx) {
		l.dismiss()
		l.admit()
		work := l.plan(ctx)
		if len(work) == 0 {
			continue
		}
		l.compute(ctx, work)
	}
	for _, t := range slices.Concat(l.queue.all(), l.pending, l.running) {
		t.fail(ErrClosed)
		t.close()
	}
	for _, p := range l.tree.held {
		l.shelve(p)
	}
}

// measure computes a few batches of nothing, so that the first requests are already planned by what steps take.
func (l *loop) measure(ctx context.Context) {
	began := time.Now()
	for _, n := range []int{1, 1, 1, 16, 32, 128} {
		if n > l.limits.Batch || n > l.limits.Cells || n > 16 && time.Since(began) > time.Second {
			break
		}
		rows := make([]Row, n)
		for i := range rows {
			rows[i] = Row{Position: i, Output: i == n-1}
		}
		if l.threads != nil {
			l.threads.SetThreads(l.threads.Threads())
		}
		start := time.Now()
		err := l.backend.Decode(ctx, rows)
		took := time.Since(start)
		_ = l.backend.Remove(0, 0)
		if err != nil {
			return
		}
		if n == 1 {
			l.cost.observe(1, 0, took)
		} else {
			l.cost.observe(0, n, took)
		}
	}
	l.measureDrafts(ctx)
}

// receive takes in what was submitted; with nothing to do it waits. It returns false when the engine closes.
func (l *loop) receive(ctx context.Context) bool {
	idle := len(l.running) == 0 && len(l.pending) == 0 && l.queue.n == 0
	var quiet <-chan time.Time
	if l.asked() {
		l.busy = time.Now()
	} else if wait := trialRest - time.Since(l.busy); !idle && wait > 0 { // only the trial is there, and rests
		timer := time.NewTimer(wait)
		defer timer.Stop()
		idle, quiet = true, timer.C
	}
	if idle {
		select {
		case t := <-l.submitted:
			l.arrive(t)
		case <-l.wake:
		case <-quiet:
		case <-ctx.Done():
		}
	}
	for {
		select {
		case t := <-l.submitted:
			l.arrive(t)
			continue
		default:
		}
		return ctx.Err() == nil
	}
}

// asked tells whether there is anything to do but the trial of placing.
func (l *loop) asked() bool {
	other := func(t *task) bool { return t.key != trialKey }
	return l.queue.others(trialKey) || slices.ContainsFunc(l.running, other) || slices.ContainsFunc(l.pending, other)
}

func (l *loop) arrive(t *task) {
	l.turn++
	t.number = l.turn
	l.queue.enter(t)
}

// dismiss ends what was cancelled or is past its deadline.
func (l *loop) dismiss() {
	over := func(t *task) bool {
		switch {
		case t.cancelled.Load():
			l.end(t, ErrClosed)
		case t.ctx.Err() != nil:
			l.end(t, t.ctx.Err())
		case !t.deadline.IsZero() && time.Now().After(t.deadline):
			if t.generation != nil {
				l.finish(t, FinishDeadline)
			} else {
				l.end(t, context.DeadlineExceeded)
			}
		default:
			return false
		}
		return true
	}
	l.queue.remove(func(t *task) bool {
		gone := over(t)
		if gone {
			l.queued.Add(-1)
		}
		return gone
	})
	for _, t := range slices.Clone(l.running) {
		over(t)
	}
}
