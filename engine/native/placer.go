package native

import (
	"errors"
	"fmt"

	"github.com/quipu-ai/quipu/engine"
)

var (
	_ engine.Placer   = (*Backend)(nil)
	_ engine.Threaded = (*Backend)(nil)
)

// sequence is a sequence of the engine's in the context. llama.cpp restores a state only into one of the sequences that may run,
// and empties it first; so behind those there is one more, scratch, and the engine's others follow it.
func (b *Backend) sequence(s int) int {
	if s < b.limits.Running {
		return s
	}
	return s + 1
}

func (b *Backend) scratch() int { return b.limits.Running }

// Lift copies the KV of a part of a sequence.
func (b *Backend) Lift(sequence, from, to int) (engine.State, error) {
	m := b.context.Memory()
	if err := m.Copy(b.sequence(sequence), b.scratch(), from, to); err != nil {
		return engine.State{}, err
	}
	bytes, err := b.context.SequenceState(nil, b.scratch(), 0)
	if err = errors.Join(err, m.Remove(b.scratch(), 0, -1)); err != nil {
		return engine.State{}, err
	}
	return engine.State{Bytes: bytes, From: from, N: to - from}, nil
}

// Place appends a lifted state to a sequence.
func (b *Backend) Place(s engine.State, skip, sequence, at int) error {
	m := b.context.Memory()
	if last := m.PosMax(b.sequence(sequence)); last+1 != at || skip < 0 || skip >= s.N {
		return fmt.Errorf("%d tokens without %d cannot stand at %d behind %d", s.N, skip, at, last)
	}
	state := s.Bytes
	if delta := at - skip - s.From; delta != 0 {
		if b.rotation == nil {
			return errors.New("the model's keys cannot be moved")
		}
		b.moved = append(b.moved[:0], s.Bytes...)
		if err := b.rotation.Move(b.moved, delta); err != nil {
			return err
		}
		state = b.moved
	}
	err := b.context.SetSequenceState(state, b.scratch(), 0)
	if err == nil {
		err = m.Copy(b.scratch(), b.sequence(sequence), at, at+s.N-skip)
	}
	if err == nil && m.PosMax(b.sequence(sequence)) != at+s.N-skip-1 {
		err = errors.Join(errors.New("the state has other tokens than it says"), m.Remove(b.sequence(sequence), at, -1))
	}
	return errors.Join(err, m.Remove(b.scratch(), 0, -1))
}

// Moves tells whether the model's keys can be turned to other positions.
func (b *Backend) Moves() bool { return b.rotation != nil }

// Threads is the most that compute.
func (b *Backend) Threads() int { return b.threads }

// SetThreads says how many compute the next batch, and the guesses before the one after it.
func (b *Backend) SetThreads(n int) {
	b.context.SetThreads(n, n)
	if b.draft != nil {
		b.draft.context.SetThreads(n, n)
	}
}
