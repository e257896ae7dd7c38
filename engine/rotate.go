package engine

import (
	"context"
	"fmt"
	"slices"
)

// adapterSteps is how many steps an adapter computes before another that waits has its turn.
const adapterSteps = 16

// rotate chooses the adapter of the next step: adapters never share a batch, so those that have tasks take turns, the one that
// computed longest ago first.
func (l *loop) rotate() {
	if l.adapted == nil {
		return
	}
	mine, found, next := false, false, ""
	for _, t := range l.running {
		switch {
		case t.adapter == l.adapter:
			mine = true
		case !found || l.served[t.adapter] < l.served[next]:
			found, next = true, t.adapter
		}
	}
	l.turn++
	l.served[l.adapter] = l.turn
	if !found || mine && l.stayed < adapterSteps {
		if found {
			l.stayed++
		}
		return
	}
	l.stayed = 0
	err := l.adapted.Adapt(next)
	if err == nil {
		l.adapter = next
		return
	}
	for _, t := range slices.Clone(l.running) {
		if t.adapter == next {
			l.end(t, fmt.Errorf("%w: adapter %s: %w", ErrBackend, next, err))
		}
	}
}

// WithAdapter is a Generator whose requests are computed with an adapter of another, under the adapter's name.
func WithAdapter(g Generator, adapter string) Generator { return withAdapter{g, adapter} }

type withAdapter struct {
	Generator
	adapter string
}

func (w withAdapter) Info() Info {
	info := w.Generator.Info()
	info.Name = w.adapter
	return info
}

func (w withAdapter) Generate(ctx context.Context, r *Request) (*Stream, error) {
	adapted := *r
	adapted.Adapter = w.adapter
	return w.Generator.Generate(ctx, &adapted)
}

func (w withAdapter) Score(ctx context.Context, asks []ScoreAsk) ([]Score, error) {
	asks = slices.Clone(asks)
	for i := range asks {
		asks[i].Adapter = w.adapter
	}
	return w.Generator.Score(ctx, asks)
}
