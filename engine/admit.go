package engine

import "slices"

// growth is how many cells a generation without a limit of its own claims at a time.
const growth = 256

// worthWaiting is how many more tokens a prompt that is being computed must save a task for the task to wait for them.
const worthWaiting = 32

// worthShelving is how long a prefix must be to be put outside of the cache before it was of use to anybody.
const worthShelving = 256

// admit lets waiting tasks in while a sequence and cells for prompt and answer are there: first the passages that others wait
// for, then whose turn it is. Cells that running tasks have claimed and not filled are not available to others, so what was
// admitted never fails for room. A task whose prefix is being computed for another waits for it, and lets others pass.
func (l *loop) admit() {
	yields := l.queue.others(trialKey)
	for {
		i := slices.IndexFunc(l.pending, func(t *task) bool { return !yields || t.key != trialKey })
		if i < 0 || !l.vacant(yields) {
			break
		}
		if entered, full := l.enter(l.pending[i]); full {
			return
		} else if !entered { // its system prompt is being computed: that is soon
			break
		}
		l.pending = slices.Delete(l.pending, i, i+1)
	}
	for admitted := true; admitted; {
		admitted = false
	turns:
		for _, key := range l.queue.keys() {
			if key == trialKey && yields {
				continue
			}
			for _, t := range l.queue.lines[key] {
				if !l.vacant(yields) {
					return
				}
				if !l.gather(t) {
					continue
				}
				entered, full := l.enter(t)
				if full {
					return // whoever comes next must not starve those who need more
				}
				if entered {
					l.queue.remove(func(other *task) bool { return other == t })
					l.queued.Add(-1)
					admitted = true
					break turns
				}
			}
		}
	}
}

// vacant tells whether a sequence is free. When others are there, the engine's own trial gives up its own for them.
func (l *loop) vacant(others bool) bool {
	return len(l.idle) > 0 || others && l.stopTrial()
}

// stopTrial sends a task of the engine's own trial back, and reports whether there was one.
func (l *loop) stopTrial() bool {
	i := slices.IndexFunc(l.running, func(t *task) bool { return t.key == trialKey })
	if i >= 0 {
		l.preempt(l.running[i])
	}
	return i >= 0
}

// enter gives a task a sequence, shares what others have computed and claims cells. It does not when the task had better wait,
// and says full when there is no room.
func (l *loop) enter(t *task) (entered, full bool) {
	need := len(t.tokens) + min(t.grow, l.config.Context-len(t.tokens))
	if t.grow < 0 {
		need = min(len(t.tokens)+growth, l.config.Context)
	}
	from := l.source(t)
	if from.soon >= from.shared+worthWaiting {
		return false, false
	}
	if !l.room(need-from.inCache(), from.prefix) {
		// The shared prefix itself may be what is in the way.
		if from.prefix == nil || !l.room(need, nil) {
			return false, true
		}
		from = source{}
	}
	t.sequence = l.idle[len(l.idle)-1]
	l.idle = l.idle[:len(l.idle)-1]
	l.share(t, from)
	if t.usage.GeneratedTokens == 0 {
		t.usage.CachedTokens = t.computed
	}
	t.claim = need
	l.turn++
	t.admitted = l.turn
	l.running = append(l.running, t)
	return true, false
}

// source is where the beginning of a task's tokens is computed already.
type source struct {
	prefix   *prefix // a holder, or
	sequence int     // the sequence of a running task, or
	shelved  name    // KV outside of the cache
	onShelf  bool
	shared   int // tokens
	soon     int // tokens that a running task will have
}

// inCache is how many cells need not be claimed.
func (s source) inCache() int {
	if s.onShelf {
		return 0
	}
	return s.shared
}

// source finds the longest beginning of a task's tokens that is computed, and the longest that soon will be. Tokens before
// placed passages are computed like any others, so there everybody's are as good.
func (l *loop) source(t *task) source {
	var s source
	if l.limits.Whole {
		return s
	}
	tokens := t.tokens[:len(t.tokens)-1] // the last is computed for its logits
	l.look(t.line(), tokens, t.whole, &s)
	if len(t.passages) > 0 {
		l.look(t.plainLine(), tokens[:t.passages[0].From], t.whole, &s)
	}
	return s
}

// look improves a source by what is computed of some tokens on a line; whole says how much of it is of use.
func (l *loop) look(line string, tokens []Token, whole func(int) int, s *source) {
	if p, shared := l.tree.longest(line, tokens); whole(shared) > s.shared {
		shared = whole(shared)
		*s = source{prefix: p, sequence: p.sequence, shared: shared, soon: s.soon}
	}
	for _, other := range l.running {
		if other.line() != line {
			continue
		}
		same := whole(CommonPrefix(other.tokens, tokens))
		if now := whole(min(same, other.genuine())); now > s.shared {
			*s = source{sequence: other.sequence, shared: now, soon: s.soon}
		}
		if !other.decoding() {
			s.soon = max(s.soon, same)
		}
	}
	// Placing costs less than computing, but not nothing.
	if n, same := l.shelf.match(l.shelf.lineName(line), tokens); whole(same) > s.shared+worthWaiting {
		same = whole(same)
		if _, ok := l.shelf.get(n); ok {
			*s = source{shelved: n, onShelf: true, shared: same, soon: s.soon}
		}
	}
}

// share gives a task what its source has. What cannot be shared is computed.
func (l *loop) share(t *task, s source) {
	switch {
	case s.shared == 0:
		return
	case s.onShelf:
		state, ok := l.shelf.get(s.shelved)
		if !ok {
			return
		}
		if l.placer.Place(state, 0, t.sequence, 0) != nil {
			l.shelf.forget(s.shelved)
			return
		}
		l.cells.grow(t.sequence, state.N)
		l.cut(t.sequence, s.shared)
	default:
		if l.backend.Copy(s.sequence, t.sequence, s.shared) != nil {
			return
		}
		l.cells.share(s.sequence, t.sequence, s.shared)
		if s.prefix != nil {
			l.tree.touch(s.prefix)
			l.secure(t, s)
		}
	}
	t.computed = l.cells.len(t.sequence)
}

// room makes n cells available beyond all claims, forgetting kept prefixes, the least recently used first, but not keep. What the
// engine's own trial holds goes last, and for others only.
func (l *loop) room(n int, keep *prefix) bool {
	for l.unclaimed() < n {
		if !l.forgetOldest(keep) && (!l.queue.others(trialKey) || !l.stopTrial()) {
			return false
		}
	}
	return true
}

// forgetOldest gives up the least recently used prefix that has cells of its own; one that only shares gives none.
func (l *loop) forgetOldest(keep *prefix) bool {
	var old *prefix
	for _, p := range l.tree.held {
		if p != keep && (old == nil || p.used < old.used) && l.cells.own(p.sequence) > 0 {
			old = p
		}
	}
	if old == nil {
		// Two that share all their cells own none; giving up one makes the other own them.
		for _, p := range l.tree.held {
			if p != keep && (old == nil || p.used < old.used) {
				old = p
			}
		}
	}
	if old == nil {
		return false
	}
	l.forget(old)
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

// forget takes a prefix out of the cache; one that was of use goes to the shelf.
func (l *loop) forget(p *prefix) {
	l.shelve(p)
	l.cut(p.sequence, 0)
	l.tree.drop(p)
}

// shelve puts the KV of a prefix outside of the cache, if it was of use to somebody or is long. What was placed comes from there.
func (l *loop) shelve(p *prefix) {
	if p.placed || p.hits == 0 && len(p.tokens) < worthShelving {
		return
	}
	l.lay(p.sequence, p.line, p.tokens, p.hits > 1)
}

// secure puts what a task just took from a prefix on disk, when it is asked for a second time: it outlives a kill.
func (l *loop) secure(t *task, s source) {
	if l.shelf.writes == nil || s.prefix.hits != 2 || s.prefix.placed {
		return
	}
	l.lay(t.sequence, s.prefix.line, slices.Clone(t.tokens[:s.shared]), true)
}

// lay puts the KV of the tokens that a sequence begins with on the shelf, which keeps the tokens, if it is worth it and not there yet.
// disk says that it is worth the disk.
func (l *loop) lay(sequence int, line string, tokens []Token, disk bool) {
	if l.placer == nil || len(tokens) < worthWaiting {
		return
	}
	id := l.shelf.nameOf(line, nil, tokens)
	if _, ok := l.shelf.get(id); ok {
		return
	}
	if state, err := l.placer.Lift(sequence, 0, len(tokens)); err == nil {
		l.shelf.put(id, l.shelf.lineName(line), tokens, state, disk)
	}
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

// keep shares the tokens of an ending task with a holder sequence.
func (l *loop) keep(t *task) {
	n := t.genuine()
	if t.filling != nil {
		n = min(n, t.filling.at.From) // the passage itself goes to the shelf
	}
	if n == 0 || l.limits.Sequences == l.limits.Running {
		return
	}
	held, shared := l.tree.longest(t.line(), t.tokens[:n])
	if held != nil && shared == n {
		return // already kept
	}
	hits := 0
	if held != nil && shared == len(held.tokens) {
		hits = held.hits // the longer one holds its cells too
		l.cut(held.sequence, 0)
		l.tree.drop(held)
	}
	if len(l.tree.free) == 0 && !l.forgetOldest(nil) {
		return
	}
	p := l.tree.add(t.line(), slices.Clone(t.tokens[:n]))
	p.hits, p.placed = hits, len(t.passages) > 0
	if l.backend.Copy(t.sequence, p.sequence, n) != nil {
		l.tree.drop(p)
		return
	}
	l.cells.share(t.sequence, p.sequence, n)
	for l.cells.kept > l.limits.Cells/2 && l.forgetOldest(p) { // so that not every newcomer waits for room
	}
}

// release empties a task's sequence and frees it for another.
func (l *loop) release(t *task) {
	l.unfollow(t)
	l.cut(t.sequence, 0)
	l.idle = append(l.idle, t.sequence)
	t.sequence = -1
	l.running = slices.DeleteFunc(l.running, func(other *task) bool { return other == t })
}
