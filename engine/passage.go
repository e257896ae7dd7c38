package engine

import "context"

// placement is a passage of a task's prompt whose KV is computed behind what stands before the first passage, once for all
// requests, and then placed: attention within it is as in a prompt of its own, and its keys are turned to their positions
// (prompt caching by modules: Gim et al. 2024, "Prompt Cache"). It belongs to the loop.
type placement struct {
	Range
	name  name
	state State // without Bytes: not there yet, or placed
	fresh bool  // it was computed for this task
}

// filling computes a passage for those who wait for it.
type filling struct {
	name name
	at   Range
}

// placements are the passages of a prompt as the engine places them; nil when it does not.
func (e *Engine) placements(t *task, passages []Range) []placement {
	tokens := t.tokens[:t.prompt]
	if !e.placing.Load() && t.key != trialKey || len(passages) == 0 || !inside(passages, len(tokens)) {
		return nil
	}
	before := tokens[:passages[0].From]
	placed := make([]placement, len(passages))
	names := make([]name, len(passages))
	for i, at := range passages {
		names[i] = e.shelf.nameOf(t.plainLine(), before, tokens[at.From:at.To])
		placed[i] = placement{Range: at, name: names[i]}
	}
	e.shelf.warm(names...)
	return placed
}

// inside tells whether passages lie in order inside a prompt, with something behind them.
func inside(passages []Range, prompt int) bool {
	end := 0
	for _, p := range passages {
		if p.From < end || p.To <= p.From || p.To >= prompt {
			return false
		}
		end = p.To
	}
	return true
}

// gather finds the passages of a task, and has those computed that nobody has yet. It reports whether all are there.
func (l *loop) gather(t *task) bool {
	if len(t.passages) == 0 {
		return true
	}
	if _, shared := l.tree.longest(t.line(), t.tokens); shared >= t.passages[len(t.passages)-1].To {
		return true // this very prompt was there before
	}
	ready := true
	for i := range t.passages {
		p := &t.passages[i]
		if p.state.Bytes != nil {
			continue
		}
		var ok bool
		if p.state, ok = l.shelf.get(p.name); ok {
			continue
		}
		ready = false
		if l.fillings[p.name] == nil {
			l.fill(t, p)
			p.fresh = true
		}
	}
	return ready
}

// fill makes the task that computes a passage.
func (l *loop) fill(t *task, p *placement) {
	from := t.passages[0].From
	tokens := append(t.tokens[:from:from], t.tokens[p.From:p.To]...)
	f := newTask(context.Background(), t.key, tokens)
	f.filling = &filling{name: p.name, at: Range{from, len(tokens)}}
	f.number, f.adapter = t.number, t.adapter
	l.fillings[p.name] = f
	l.pending = append(l.pending, f)
}

// filled takes the KV of a passage that is computed, and gives it to those who wait.
func (l *loop) filled(t *task) {
	f := t.filling
	state, err := l.placer.Lift(t.sequence, f.at.From, f.at.To)
	if err == nil {
		l.shelf.put(f.name, name{}, nil, state, true)
		l.settle(t, state)
	}
	l.end(t, err)
}

// settle ends a filling. Without a state those who wait compute their passages themselves.
func (l *loop) settle(t *task, state State) {
	delete(l.fillings, t.filling.name)
	for _, other := range l.queue.all() {
		for i := range other.passages {
			if other.passages[i].name != t.filling.name {
				continue
			}
			if state.Bytes == nil {
				other.passages = nil
				break
			}
			other.passages[i].state = state
		}
	}
}

// place puts passages whose turn it is behind what is computed of a task, and returns where computing must stop for the next.
func (l *loop) place(t *task) (stop int) {
	for i := range t.passages {
		p := &t.passages[i]
		at := p.From + min(l.config.Border, p.To-p.From)
		if p.state.Bytes == nil || t.computed > at {
			continue
		}
		if t.computed < at {
			return at
		}
		if err := l.placer.Place(p.state, at-p.From, t.sequence, at); err != nil {
			p.state = State{} // it is computed in its place
			l.shelf.forget(p.name)
			continue
		}
		l.cells.grow(t.sequence, p.To-at)
		t.computed = p.To
		if t.usage.GeneratedTokens == 0 && !p.fresh {
			t.usage.CachedTokens += p.To - at
		}
	}
	return len(t.target())
}
