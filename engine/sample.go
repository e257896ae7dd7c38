package engine

import (
	"fmt"
	"slices"
	"time"
)

// sample chooses the next tokens of a stream and delivers what they make certain: one, and after each guess that was right one
// more.
func (l *loop) sample(t *task) error {
	right := 0
	for i, row := range t.rows {
		ended, err := l.choose(t, row)
		if ended || err != nil {
			l.accept(t, right)
			return err
		}
		if i == len(t.drafts) || t.tokens[len(t.tokens)-1] != t.drafts[i] {
			break
		}
		right++
	}
	if len(t.drafts) > 0 {
		l.learn(t, right)
		l.accept(t, right)
		if wrong := len(t.tokens) - 1; t.computed > wrong {
			l.cut(t.sequence, wrong)
			t.computed = l.cells.len(t.sequence)
		}
		t.drafts = nil
	}
	l.deliver(t)
	return nil
}

// learn books how many of a stream's guesses were right.
func (l *loop) learn(t *task, right int) {
	if !t.byModel {
		t.generation.drafting.learn(right, len(t.drafts))
		return
	}
	t.generation.modelDrafting.learn(right, len(t.drafts))
	l.modelDrafting.learn(right, len(t.drafts))
}

// accept counts guesses that were right.
func (l *loop) accept(t *task, right int) {
	l.step.Accepted += right
	if t.byModel {
		l.step.ModelAccepted += right
	}
}

// choose samples one token. It reports whether the stream has ended.
func (l *loop) choose(t *task, row int) (ended bool, err error) {
	g := t.generation
	logits, err := l.backend.Logits(row)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrBackend, err)
	}
	token, err := g.sampler.Sample(logits)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrBackend, err)
	}
	now := time.Now()
	if t.first.IsZero() {
		t.first = now
		for i := range t.passages {
			t.passages[i].state = State{} // if it is preempted, the shelf may still have them
		}
	}
	t.last = now
	t.usage.GeneratedTokens++
	if l.backend.Ends(token) && !g.ignoreEOS {
		l.finish(t, FinishStop)
		return true, nil
	}
	t.tokens = append(t.tokens, token)
	piece := l.backend.Piece(token, slices.Contains(g.special, token))
	g.tokens = append(g.tokens, l.tokenInfo(token, piece, logits, g.logprobs))
	stopped := g.out.push(piece)
	switch {
	case stopped:
		l.finish(t, FinishStop)
	case g.limit > 0 && t.usage.GeneratedTokens >= g.limit, g.keep == 0 && len(t.tokens) >= l.config.Context:
		l.finish(t, FinishLength)
	default:
		return false, nil
	}
	return true, nil
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
