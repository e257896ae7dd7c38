package openai

import (
	"context"
	"iter"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
)

// choices are the answers to one request, n of them.
type choices struct {
	replies []*dispatch.Reply
	lines   []*access.Line // the request's own, and one for each other answer
	cancel  context.CancelFunc
}

// open asks for n answers, each with a seed of its own. The caller closes them.
func (a *API) open(ctx context.Context, ask *dispatch.Ask, n int) (*choices, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &choices{cancel: cancel}
	for i := range n {
		line := access.From(ctx)
		if i > 0 {
			line = &access.Line{ID: line.ID}
		}
		one := *ask
		one.Request.Sampling.Seed += uint32(i)
		reply, err := a.dispatcher.Open(access.With(ctx, line), &one)
		if err != nil {
			cancel()
			return nil, err
		}
		c.replies, c.lines = append(c.replies, reply), append(c.lines, line)
	}
	return c, nil
}

// step is an event of one of the answers, or how it went wrong.
type step struct {
	index int
	event dispatch.Event
	err   error
}

// events gives those of all answers as they come. The first error is the last of them: it ends the other answers. So does
// leaving the range.
func (c *choices) events() iter.Seq[step] {
	return func(yield func(step) bool) {
		if len(c.replies) == 1 {
			for e, err := range c.replies[0].Events {
				if !yield(step{event: e, err: err}) {
					return
				}
			}
			return
		}
		steps := make(chan step)
		over := make(chan struct{}) // nobody receives them any more
		var running sync.WaitGroup
		for i, reply := range c.replies {
			running.Go(func() {
				for e, err := range reply.Events {
					select {
					case steps <- step{index: i, event: e, err: err}:
					case <-over:
						return
					}
				}
			})
		}
		go func() {
			running.Wait()
			close(steps)
		}()
		defer func() {
			close(over)
			c.cancel()
			for range steps { // until all are gone
			}
			for _, line := range c.lines[1:] {
				c.lines[0].Usage.GeneratedTokens += line.Usage.GeneratedTokens
				c.lines[0].Usage.DroppedTokens += line.Usage.DroppedTokens
			}
		}()
		for s := range steps {
			if !yield(s) || s.err != nil {
				return
			}
		}
	}
}

// close ends the answers that are still under way.
func (c *choices) close() { c.cancel() }

// together is the usage of all answers; their prompt counts once.
func together(answers []engine.Usage) usage {
	sum := answers[0]
	for _, u := range answers[1:] {
		sum.CachedTokens = min(sum.CachedTokens, u.CachedTokens)
		sum.GeneratedTokens += u.GeneratedTokens
	}
	return usageOf(sum)
}
