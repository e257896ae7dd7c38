package engine

import (
	"context"
	"fmt"
	"time"
)

// DraftStreams is how many streams guess at the most: with more of them, what a row more costs is what a stream costs.
const DraftStreams = 2

// Drafter is a backend with a second, small model of the same vocabulary, which guesses what the first one will say (speculative
// decoding: Leviathan et al. 2023). It belongs to the loop, but for Drafts.
type Drafter interface {
	// Drafts tells whether there is such a model. Safe for concurrent use.
	Drafts() bool
	// Guess returns up to n tokens that the small model would say behind tokens, those of a sequence so far. It computes what
	// they have beyond what it computed for the sequence before; with n = 0 that is all it does. After an error nothing is
	// left of the sequence.
	Guess(ctx context.Context, sequence int, tokens []Token, n int) ([]Token, error)
	// Forget frees what was computed for a sequence. There are never more than DraftStreams that were not forgotten.
	Forget(sequence int)
}

// Pieces of a stream's tokens that the draft model computes at a time, to catch up with it.
const (
	leastFollowed = 16
	mostFollowed  = 256
)

// guessByModel has the draft model guess for a stream, while that pays. A model that is behind catches up first, piece by piece, each of
// which takes about as long as a step; and not before the stream has said for as long as that will take, since who has said much
// will say more.
func (l *loop) guessByModel(ctx context.Context, t *task, streams, most int) []Token {
	if l.drafter == nil {
		return nil
	}
	g := t.generation
	if g.modelDrafting.hit == 0 {
		g.modelDrafting = l.modelDrafting // what streams before it found out
	}
	size := g.modelDrafting.size(l.cost, l.cost.guess, streams, most)
	if l.cost.guess == 0 {
		size = min(most, 4)
	}
	if size == 0 {
		g.modelDrafting.rest(modelAtBest)
		l.modelDrafting.rest(modelAtBest)
		l.cost.rest()
		return nil
	}
	l.makePlace(t)
	if behind := len(t.tokens) - t.followed; behind > draftMost+1 {
		if l.cost.follow*float64(behind) <= l.cost.step(streams)*float64(t.usage.GeneratedTokens) {
			l.ask(ctx, t, min(behind, l.cost.piece(streams)), 0)
		}
		return nil
	}
	guesses := l.ask(ctx, t, len(t.tokens)-t.followed, size)
	if t.byModel = len(guesses) > 0; !t.byModel {
		g.modelDrafting.learn(0, 1) // it foresees the end, or cannot follow the stream
	}
	return guesses
}

// ask has the draft model compute the next tokens of a stream and guess n behind them, and learns what that takes.
func (l *loop) ask(ctx context.Context, t *task, next, n int) []Token {
	began := time.Now()
	tokens := t.tokens[:t.followed+next]
	guesses, err := l.drafter.Guess(ctx, t.sequence, tokens, n)
	took := time.Since(began)
	if err != nil {
		if ctx.Err() == nil {
			l.undraft(err)
		}
		return nil
	}
	t.followed = len(tokens)
	l.step.Drafting += took
	if n == 0 {
		blend(&l.cost.follow, took.Seconds()/float64(next))
	} else {
		l.cost.guessed(max(1, len(guesses)), took)
	}
	return guesses
}

// undraft gives up a draft model that failed: streams go on without it.
func (l *loop) undraft(err error) {
	for _, t := range l.running {
		l.unfollow(t)
	}
	l.drafter = nil
	if l.hooks.DraftFailed != nil {
		l.hooks.DraftFailed(fmt.Errorf("the draft model failed and is not used any more: %w", err))
	}
}

// makePlace has the draft model forget a stream that cannot guess now, where it follows as many as it may without t.
func (l *loop) makePlace(t *task) {
	others, idle := 0, t
	for _, other := range l.running {
		if other == t || other.followed == 0 {
			continue
		}
		others++
		if !other.decoding() || other.adapter != l.adapter {
			idle = other
		}
	}
	if others == DraftStreams {
		l.unfollow(idle)
	}
}

// unfollow has the draft model forget a stream.
func (l *loop) unfollow(t *task) {
	if t.followed > 0 && l.drafter != nil {
		l.drafter.Forget(t.sequence)
	}
	t.followed = 0
}

// measureDrafts finds out what a guess takes. The first time is not like the others.
func (l *loop) measureDrafts(ctx context.Context) {
	for range 3 {
		if l.drafter == nil {
			return
		}
		began := time.Now()
		guesses, err := l.drafter.Guess(ctx, 0, []Token{0}, 4)
		took := time.Since(began)
		if err != nil {
			if ctx.Err() == nil {
				l.undraft(err)
			}
			return
		}
		l.drafter.Forget(0)
		l.cost.guessed(max(1, len(guesses)), took)
	}
}
