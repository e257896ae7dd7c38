package enginetest

import (
	"context"
	"fmt"

	"github.com/quipu-ai/quipu/engine"
)

var _ engine.Drafter = (*Fake)(nil)

// Drafts tells whether Small is set.
func (f *Fake) Drafts() bool { return f.Small != nil }

// Guess asks Small. It books what a draft model would have to compute, and refuses what would be too many sequences for it.
func (f *Fake) Guess(_ context.Context, sequence int, tokens []engine.Token, n int) ([]engine.Token, error) {
	if f.small == nil {
		f.small = map[int][]engine.Token{}
	}
	same := engine.CommonPrefix(f.small[sequence], tokens)
	delete(f.small, sequence)
	f.followed.Store(int64(len(f.small)))
	switch {
	case len(f.small) == engine.DraftStreams:
		return nil, fmt.Errorf("the draft model follows %d sequences already", len(f.small))
	case len(tokens) == 0:
		return nil, fmt.Errorf("the draft model is to follow no tokens")
	}
	f.longest.Store(max(f.longest.Load(), int64(len(tokens)-same)))
	var guesses []engine.Token
	if n > 0 {
		var err error
		if guesses, err = f.Small(tokens, n); err != nil {
			return nil, err
		}
	}
	f.small[sequence] = append(tokens[:len(tokens):len(tokens)], guesses...)
	f.followed.Store(int64(len(f.small)))
	return guesses, nil
}

// Forget forgets a sequence.
func (f *Fake) Forget(sequence int) {
	delete(f.small, sequence)
	f.followed.Store(int64(len(f.small)))
}

// Followed is how many sequences the draft model holds; safe from any goroutine.
func (f *Fake) Followed() int { return int(f.followed.Load()) }

// LongestFollowed is the most tokens that the draft model computed at a time before it guessed; safe from any goroutine.
func (f *Fake) LongestFollowed() int { return int(f.longest.Load()) }

// Foresee is a Small that is always right: the next n tokens, but not the end.
func (f *Fake) Foresee(tokens []engine.Token, n int) ([]engine.Token, error) {
	tokens = append([]engine.Token(nil), tokens...)
	first := len(tokens)
	for range n {
		next := greedy(logitsAfter(f.adapter, tokens))
		if next == End {
			break
		}
		tokens = append(tokens, next)
	}
	return tokens[first:], nil
}
