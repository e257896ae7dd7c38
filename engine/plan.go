package engine

import (
	"cmp"
	"context"
	"slices"
)

// plan chooses the rows of the next batch: one token for each stream, guesses behind it while they pay, then pieces of prompts.
func (l *loop) plan(ctx context.Context) []*task {
	l.rows, l.step = l.rows[:0], Step{}
	l.rotate()
	prompts := l.prompts()
	work := l.planStreams(ctx, len(prompts) > 0)
	left := l.limits.Batch - len(l.rows)
	streams := l.streams()
	if l.config.Budget == 0 {
		left = min(left, l.cost.budget(streams, l.limits.Batch))
	} else if streams > 0 {
		left = min(left, l.config.Budget)
	}
	work = append(work, l.planPrompts(prompts, left)...)
	return slices.DeleteFunc(work, func(t *task) bool { return t.sequence < 0 }) // preempted after it was planned
}

// streams counts who decodes with the adapter of the step.
func (l *loop) streams() int {
	n := 0
	for _, t := range l.running {
		if t.decoding() && t.adapter == l.adapter {
			n++
		}
	}
	return n
}

// planStreams puts the next token of each stream into the batch, and guesses.
func (l *loop) planStreams(ctx context.Context, prompts bool) (work []*task) {
	for _, t := range slices.Clone(l.running) {
		if !t.decoding() || t.adapter != l.adapter || len(l.rows) >= l.limits.Batch || !l.extend(t) {
			continue
		}
		t.drafts = l.draft(ctx, t, prompts)
		l.step.Drafted += len(t.drafts)
		if t.byModel {
			l.step.ModelDrafted += len(t.drafts)
		}
		work = append(work, l.add(t, 1+len(t.drafts)))
	}
	return work
}

// planPrompts puts pieces of prompts into the batch, as many tokens as are left. Who has least left to compute goes first, for that
// makes the mean wait least; who has waited longest has a quarter all the same, so that nobody starves. A step that ends prompts
// takes in no more than that of those that it can't end, for it is their first tokens that wait for it.
func (l *loop) planPrompts(prompts []*task, left int) (work []*task) {
	oldest, reserve := l.oldest(prompts), left/4
	ends := false
	for _, t := range prompts {
		if left == 0 {
			break
		}
		if t.sequence < 0 {
			continue // preempted for a stream
		}
		stop := l.place(t)
		room := left
		switch {
		case t == oldest && ends:
			room, reserve = reserve, 0
		case t == oldest:
			reserve = 0
		default:
			room -= reserve
		}
		n := min(room, stop-t.computed)
		last := n == t.left()
		if n <= 0 || ends && !last && t != oldest {
			continue
		}
		ends = ends || last
		work = append(work, l.add(t, n))
		left -= n
		l.step.Prompt += n
	}
	return work
}

// prompts lists who is not decoding: whose key had least computed first, of these who has least left. The engine's own trial
// computes only beside nobody.
func (l *loop) prompts() []*task {
	var prompts []*task
	others := slices.ContainsFunc(l.running, func(t *task) bool { return t.key != trialKey })
	for _, t := range l.running {
		if !t.decoding() && t.adapter == l.adapter && (t.key != trialKey || !others) {
			prompts = append(prompts, t)
		}
	}
	slices.SortStableFunc(prompts, func(a, b *task) int {
		return cmp.Or(cmp.Compare(l.queue.tokens[a.key], l.queue.tokens[b.key]), cmp.Compare(a.left(), b.left()))
	})
	return prompts
}

func (l *loop) oldest(prompts []*task) *task {
	if len(prompts) == 0 {
		return nil
	}
	return slices.MinFunc(prompts, func(a, b *task) int { return cmp.Compare(a.admitted, b.admitted) })
}

// add puts the next n tokens of a task into the batch.
func (l *loop) add(t *task, n int) *task {
	target := t.target()
	t.rows, t.pending = t.rows[:0], n
	for i := t.computed; i < t.computed+n; i++ {
		wanted := t.wants(i)
		if wanted {
			t.rows = append(t.rows, len(l.rows))
		}
		l.rows = append(l.rows, Row{Token: target[i], Position: i, Sequence: t.sequence, Output: wanted})
	}
	return t
}

// draft guesses tokens for a stream: what its grammar forces, else what was said before, else what the draft model says. Only few
// streams guess, and only when no prompts wait for the step: then rows beside theirs cost little.
func (l *loop) draft(ctx context.Context, t *task, prompts bool) []Token {
	g := t.generation
	t.byModel = false
	if !l.config.Draft || l.limits.Whole {
		return nil
	}
	// A stream that fills the context with what it guesses stops there: it ends, or is shifted before it says more.
	most := min(draftMost, t.claim-len(t.tokens), l.config.Context-1-len(t.tokens), l.limits.Batch-len(l.rows)-1)
	if g.limit > 0 {
		most = min(most, g.limit-t.usage.GeneratedTokens-1)
	}
	if most <= 0 {
		return nil
	}
	if forced := g.forced(most); len(forced) > 0 {
		return forced
	}
	if prompts {
		return nil
	}
	streams := l.streams()
	if streams > DraftStreams {
		return nil
	}
	size := g.drafting.size(l.cost, 0, streams, most)
	if size == 0 {
		g.drafting.rest(saidAtBest)
	} else if said := look(t.tokens, size); len(said) > 0 {
		return said
	}
	return l.guessByModel(ctx, t, streams, most)
}

// extend makes sure that a stream has a cell for its next token. A stream without a limit claims as it grows; when there
// is no room, the youngest task gives way: it goes back to the queue and goes on later from where it was. A stream that has filled
// the context, and asked for it, is shifted.
func (l *loop) extend(t *task) bool {
	if t.sequence < 0 || t.full(l.config.Context) && !l.shift(t) {
		return false
	}
	for t.claim < len(t.tokens) {
		if more := min(growth, l.config.Context-t.claim); l.room(more, nil) {
			t.claim += more
			continue
		}
		if !l.giveWay(t) {
			return false
		}
	}
	return true
}

// giveWay preempts the youngest task, and reports whether that leaves t.
func (l *loop) giveWay(t *task) bool {
	youngest := slices.MaxFunc(l.running, func(a, b *task) int { return cmp.Compare(a.admitted, b.admitted) })
	l.preempt(youngest)
	return youngest != t
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
	t.computed, t.shifted, t.drafts = 0, 0, nil
	if t.scoring != nil {
		t.scoring.again()
	}
	if t.full(l.config.Context) {
		t.drop()
	}
	if t.filling != nil {
		l.pending = append(l.pending, t)
		return
	}
	l.queued.Add(1)
	l.queue.back(t)
}
