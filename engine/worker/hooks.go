package worker

import (
	"context"
	"sync"

	"github.com/quipu-ai/quipu/engine"
)

// happenings wait here for the front; the engine's loop that adds them never waits itself.
type happenings struct {
	mu   sync.Mutex
	list []happening
	wake chan struct{}
}

func newHappenings() *happenings { return &happenings{wake: make(chan struct{}, 1)} }

func (h *happenings) hooks() engine.Hooks {
	return engine.Hooks{
		Step: func(s engine.Step) { h.add(happening{Step: &s}) },
		Done: func(u engine.Usage, t engine.Timings, err error) { h.add(happening{Done: &done{u, t, pack(err)}}) },
		Placing: func(t engine.Trial) {
			failed := pack(t.Err)
			t.Err = nil
			h.add(happening{Placing: &trial{t, failed}})
		},
		DraftFailed: func(err error) { h.add(happening{DraftFailed: pack(err)}) },
	}
}

func (h *happenings) add(one happening) {
	h.mu.Lock()
	h.list = append(h.list, one)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// next waits for happenings and takes them all.
func (h *happenings) next(ctx context.Context) ([]happening, error) {
	for {
		h.mu.Lock()
		list := h.list
		h.list = nil
		h.mu.Unlock()
		if len(list) > 0 {
			return list, nil
		}
		select {
		case <-h.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tell calls the front's hooks.
func tell(h engine.Hooks, list []happening) {
	for _, one := range list {
		if one.Step != nil && h.Step != nil {
			h.Step(*one.Step)
		}
		if one.Done != nil && h.Done != nil {
			h.Done(one.Done.Usage, one.Done.Timings, one.Done.Error.unpack())
		}
		if one.Placing != nil && h.Placing != nil {
			t := one.Placing.Trial
			t.Err = one.Placing.Error.unpack()
			h.Placing(t)
		}
		if one.DraftFailed != nil && h.DraftFailed != nil {
			h.DraftFailed(one.DraftFailed.unpack())
		}
	}
}
