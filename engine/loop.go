package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// growth is how many cells a generation without a limit of its own claims at a time.
const growth = 256

// loop owns the backend. Everything in it belongs to one goroutine.
type loop struct {
	*Engine
	cells    *cells
	prefixes *prefixes
	idle     []int   // sequence ids that may run
	waiting  []*task // in the order of arrival
	running  []*task // in the order of admission
	turn     uint64
	rows     []Row
}

func newLoop(e *Engine) *loop {
	l := &loop{Engine: e, cells: newCells(e.limits.Cells, e.limits.Sequences), prefixes: newPrefixes(e.limits.Running, e.limits.Sequences)}
	for s := e.config.Running - 1; s >= 0; s-- {
		l.idle = append(l.idle, s)
	}
	return l
}

// run is the engine's goroutine. The backend may keep state in its thread, so the goroutine stays on one.
func (l *loop) run(ctx context.Context) {
	runtime.LockOSThread()
	defer func() {
		l.failed = l.backend.Close()
		close(l.ended)
	}()
	for l.receive(ctx) {
		l.dismiss()
		l.admit()
		work := l.plan()
		if len(work) == 0 {
			continue
		}
		l.compute(ctx, work)
	}
	for _, t := range append(l.waiting, l.running...) {
		t.fail(ErrClosed)
		t.close()
	}
}

// receive takes in what was submitted; with nothing to do it waits. It returns false when the engine closes.
func (l *loop) receive(ctx context.Context) bool {
	if len(l.running) == 0 && len(l.waiting) == 0 {
		select {
		case t := <-l.submitted:
			l.waiting = append(l.waiting, t)
		case <-l.wake:
		case <-ctx.Done():
		}
	}
	for {
		select {
		case t := <-l.submitted:
			l.waiting = append(l.waiting, t)
			continue
		default:
		}
		return ctx.Err() == nil
	}
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
	l.waiting = slices.DeleteFunc(l.waiting, func(t *task) bool {
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

// admit lets waiting tasks in, in order of arrival, while a sequence and cells for prompt and answer are there. Cells that
// running tasks have claimed and not filled are not available to others, so what was admitted never fails for room.
func (l *loop) admit() {
	for len(l.waiting) > 0 && len(l.idle) > 0 {
		t := l.waiting[0]
		need := len(t.tokens) + min(t.grow, l.config.Context-len(t.tokens))
		if t.grow < 0 {
			need = min(len(t.tokens)+growth, l.config.Context)
		}
		holder, shared := l.prefixes.longest(t.key, t.tokens[:len(t.tokens)-1])
		if !l.room(need-shared, holder) {
			// The shared prefix itself may be what is in the way.
			if holder == nil || !l.room(need, nil) {
				return
			}
			shared = 0
		}
		l.waiting = l.waiting[1:]
		l.queued.Add(-1)
		t.sequence = l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		if shared > 0 && l.backend.Copy(holder.sequence, t.sequence, shared) == nil {
			l.cells.share(holder.sequence, t.sequence, shared)
			t.computed = shared
		}
		if t.usage.GeneratedTokens == 0 {
			t.usage.CachedTokens = t.computed
		}
		t.claim = need
		l.turn++
		t.admitted = l.turn
		l.running = append(l.running, t)
	}
}

// room makes n cells available beyond all claims, forgetting kept prefixes, the least recently used first, but not keep.
func (l *loop) room(n int, keep *prefix) bool {
	for l.unclaimed() < n {
		var old *prefix
		for _, h := range l.prefixes.held {
			if h != keep && (old == nil || h.used < old.used) {
				old = h
			}
		}
		if old == nil {
			return false
		}
		l.forget(old)
	}
	return true
}

// unclaimed counts the cells that are neither filled nor claimed.
func (l *loop) unclaimed() int {
	n := l.cells.available()
	for _, t := range l.running {
		n -= max(0, t.claim-l.cells.len(t.sequence))
	}
	return n
}

func (l *loop) forget(h *prefix) {
	l.cut(h.sequence, 0)
	l.prefixes.drop(h)
}

// cut forgets a sequence's tokens from position n on, here and in the backend.
func (l *loop) cut(sequence, n int) {
	l.cells.cut(sequence, n)
	// A backend that cannot remove a part can always remove the whole; what is then missing is computed again.
	if err := l.backend.Remove(sequence, n); err != nil && n > 0 {
		l.cells.cut(sequence, 0)
		_ = l.backend.Remove(sequence, 0)
	}
}

// plan chooses the rows of the next batch: one token for each stream, then pieces of prompts, oldest first.
func (l *loop) plan() []*task {
	l.rows = l.rows[:0]
	var work []*task
	for _, t := range slices.Clone(l.running) {
		if t.decoding() && len(l.rows) < l.limits.Batch && l.extend(t) {
			work = append(work, l.add(t, 1))
		}
	}
	budget := l.limits.Batch
	if len(work) > 0 {
		budget = min(budget, len(l.rows)+l.config.Budget)
	}
	for _, t := range l.running {
		if t.decoding() || len(l.rows) >= budget {
			continue
		}
		work = append(work, l.add(t, min(budget-len(l.rows), len(t.target())-t.computed)))
	}
	return slices.DeleteFunc(work, func(t *task) bool { return t.sequence < 0 }) // preempted after it was planned
}

// add puts the next n tokens of a task into the batch.
func (l *loop) add(t *task, n int) *task {
	target := t.target()
	t.rows, t.pending = t.rows[:0], n
	for i := t.computed; i < t.computed+n; i++ {
		// A generation needs the logits behind its last token, a scoring those behind the prompt and each token after it.
		wanted := i == len(target)-1 || t.scoring != nil && i >= t.prompt-1
		if wanted {
			t.rows = append(t.rows, len(l.rows))
		}
		l.rows = append(l.rows, Row{Token: target[i], Position: i, Sequence: t.sequence, Output: wanted})
	}
	return t
}

// extend makes sure that a stream has a cell for its next token. A stream without a limit claims as it grows; when there
// is no room, the youngest task gives way: it goes back to the queue and goes on later from where it was.
func (l *loop) extend(t *task) bool {
	if t.sequence < 0 {
		return false
	}
	for t.claim < len(t.tokens) {
		if more := min(growth, l.config.Context-t.claim); l.room(more, nil) {
			t.claim += more
			continue
		}
		youngest := slices.MaxFunc(l.running, func(a, b *task) int { return int(a.admitted) - int(b.admitted) })
		l.preempt(youngest)
		if youngest == t {
			return false
		}
	}
	return true
}

func (l *loop) preempt(t *task) {
	// Rows that were already planned for it would be computed for nothing, and into a sequence that is free.
	l.rows = slices.DeleteFunc(l.rows, func(r Row) bool { return r.Sequence == t.sequence })
	for _, other := range l.running {
		other.rows = other.rows[:0]
		for i, r := range l.rows {
			if r.Sequence == other.sequence && r.Output {
				other.rows = append(other.rows, i)
			}
		}
	}
	l.release(t)
	t.computed = 0
	l.queued.Add(1)
	l.waiting = append([]*task{t}, l.waiting...)
}

// compute runs the batch and takes each task a step further. A batch that fails is tried again task by task, so that one
// bad request fails alone.
func (l *loop) compute(ctx context.Context, work []*task) {
	began := time.Now()
	prompt := 0
	for _, t := range work {
		if t.start.IsZero() {
			t.start = began
		}
		if !t.decoding() {
			prompt += t.pending
		}
	}
	rows := len(l.rows)
	err := l.backend.Decode(ctx, l.rows)
	took := time.Since(began)
	if err == nil {
		for _, t := range work {
			l.advance(t)
		}
	} else if ctx.Err() == nil {
		l.salvage(ctx, work, err)
	}
	if l.hooks.Step != nil {
		l.hooks.Step(Step{Rows: rows, Prompt: prompt, Took: took, Running: len(l.running), Waiting: int(l.queued.Load()), Cells: l.cells.used})
	}
}

func (l *loop) salvage(ctx context.Context, work []*task, cause error) {
	for _, t := range work {
		l.cut(t.sequence, t.computed)
		t.computed = l.cells.len(t.sequence)
	}
	for _, t := range work {
		if len(work) > 1 {
			l.rows = l.rows[:0]
			l.add(t, min(l.limits.Batch, len(t.target())-t.computed))
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
	l.cells.grow(t.sequence, t.pending)
	first := t.computed
	t.computed += t.pending
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

// sample chooses the next token of a stream and delivers what it makes certain.
func (l *loop) sample(t *task) error {
	g := t.generation
	logits, err := l.backend.Logits(t.rows[0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackend, err)
	}
	token, err := g.sampler.Sample(logits)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackend, err)
	}
	now := time.Now()
	if t.first.IsZero() {
		t.first = now
	}
	t.last = now
	t.usage.GeneratedTokens++
	if l.backend.Ends(token) && !g.ignoreEOS {
		l.finish(t, FinishStop)
		return nil
	}
	t.tokens = append(t.tokens, token)
	piece := l.backend.Piece(token, slices.Contains(g.special, token))
	g.tokens = append(g.tokens, l.tokenInfo(token, piece, logits, g.logprobs))
	stopped := g.out.push(piece)
	switch {
	case stopped:
		l.finish(t, FinishStop)
	case g.limit > 0 && t.usage.GeneratedTokens >= g.limit, len(t.tokens) >= l.config.Context:
		l.finish(t, FinishLength)
	default:
		l.deliver(t)
	}
	return nil
}

func (l *loop) tokenInfo(token Token, piece []byte, logits []float32, top int) TokenInfo {
	info := TokenInfo{ID: token, Text: piece}
	if top < 0 {
		return info
	}
	norm := logNorm(logits)
	info.Logprob = float32(float64(logits[token]) - norm)
	for _, other := range likeliest(logits, top) {
		info.Top = append(info.Top, TokenInfo{ID: other, Text: l.backend.Piece(other, true), Logprob: float32(float64(logits[other]) - norm)})
	}
	return info
}

// deliver sends what became certain, if anything did. It never waits for the reader.
func (l *loop) deliver(t *task) {
	g := t.generation
	event := g.out.take(false)
	if event.Text == "" && event.Reasoning == "" && len(event.ToolCalls) == 0 {
		return
	}
	event.Tokens, g.tokens = g.tokens, nil
	event.Usage, event.Timings = t.usage, t.timings()
	g.sink.Send(event)
}

// finish ends a stream well: the last event carries the rest of the text and the figures.
func (l *loop) finish(t *task, reason FinishReason) {
	g := t.generation
	event := g.out.take(true)
	if g.out.calls && reason == FinishStop {
		reason = FinishToolCalls
	}
	event.Tokens, event.Finish = g.tokens, reason
	event.Usage, event.Timings, event.Seed = t.usage, t.timings(), g.seed
	l.end(t, nil)
	g.sink.Send(event)
}

// score books the log-probabilities that the outputs of a scoring give, from position first on.
func (l *loop) score(t *task, first int) error {
	s := t.scoring
	for i, row := range t.rows {
		logits, err := l.backend.Logits(row)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackend, err)
		}
		norm := logNorm(logits)
		weigh := func(continuation int, at int) {
			next := s.continuations[continuation][at]
			s.scores[continuation].Logprobs = append(s.scores[continuation].Logprobs, float32(float64(logits[next])-norm))
		}
		if position := max(first, t.prompt-1) + i; position > t.prompt-1 {
			weigh(s.current, position-t.prompt+1)
			continue
		}
		for c := range s.continuations { // all continuations begin behind the prompt's last token
			if len(s.scores[c].Logprobs) == 0 {
				weigh(c, 0)
			}
		}
	}
	before := s.current
	for s.current < len(s.continuations) && len(s.scores[s.current].Logprobs) == len(s.continuations[s.current]) {
		s.current++
	}
	if s.current == len(s.continuations) {
		l.end(t, nil)
		return nil
	}
	if s.current != before && t.computed > t.prompt {
		l.cut(t.sequence, t.prompt) // the next continuation starts behind the prompt again
		t.computed = l.cells.len(t.sequence)
	}
	return nil
}

// end takes a task out of the loop, keeps its computed tokens as a prefix and tells its caller. Without an error a stream's
// last event is the caller's to send.
func (l *loop) end(t *task, err error) {
	if t.sequence >= 0 {
		if err == nil || !errors.Is(err, ErrBackend) {
			l.keep(t)
		}
		l.release(t)
	}
	if t.scoring != nil {
		t.scoring.done <- err
	} else if err != nil {
		t.fail(err)
	}
	t.close()
	if l.hooks.Done != nil {
		l.hooks.Done(t.usage, t.timings(), err)
	}
}

// keep shares the tokens of an ending task with a holder sequence.
func (l *loop) keep(t *task) {
	n := min(t.computed, len(t.tokens))
	if n == 0 || l.limits.Sequences == l.limits.Running {
		return
	}
	holder, shared := l.prefixes.longest(t.key, t.tokens[:n])
	if holder != nil && shared == n {
		return // already kept
	}
	if holder != nil && shared == len(holder.tokens) {
		l.forget(holder) // the longer one holds its cells too
	}
	if len(l.prefixes.free) == 0 {
		l.forget(l.prefixes.oldest())
	}
	h := l.prefixes.add(t.key, slices.Clone(t.tokens[:n]))
	if l.backend.Copy(t.sequence, h.sequence, n) != nil {
		l.prefixes.drop(h)
		return
	}
	l.cells.share(t.sequence, h.sequence, n)
}

// release empties a task's sequence and frees it for another.
func (l *loop) release(t *task) {
	l.cut(t.sequence, 0)
	l.idle = append(l.idle, t.sequence)
	t.sequence = -1
	l.running = slices.DeleteFunc(l.running, func(other *task) bool { return other == t })
}
