package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A request that was in a process when it died goes on in the next, together with all the others: mostly it was none of
// them. After a second death that request is tried alone, until it has got further than it was; who takes a process along
// alone is the culprit and fails. No request is carried past so many deaths:
const lives = 5

// flight is a call on its way through one process after the other.
type flight struct {
	deaths int // since it last got on
	total  int
}

// errLost says that the process of a call is gone.
var errLost = errors.New("the worker is gone")

// carry takes a call through as many processes as it needs. run makes the call in one of them, reports when it got on, and
// returns what broken made of an error of gRPC's.
func (w *Worker) carry(ctx context.Context, run func(ctx context.Context, conn *grpc.ClientConn, on func()) error) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return engine.ErrClosed
	}
	w.flights.Add(1)
	w.mu.Unlock()
	defer w.flights.Done()
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	f := &flight{}
	for {
		err := w.attempt(ctx, f, run)
		switch {
		case w.ctx.Err() != nil && err != nil:
			return engine.ErrClosed
		case outer.Err() != nil && err != nil:
			return outer.Err()
		case f.total > 0 && errors.Is(err, engine.ErrQueueFull): // it had its place, so it may insist
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		case !errors.Is(err, errLost):
			return err
		}
	}
}

// attempt makes a call in the process that is there, or in the next that will be.
func (w *Worker) attempt(ctx context.Context, f *flight, run func(context.Context, *grpc.ClientConn, func()) error) error {
	// Until it gets on, a call shares the process with others of which the same is true, or on trial with none of those.
	share, trial := int64(1), f.deaths >= 2
	if trial {
		share = math.MaxInt64
	}
	p, err := w.board(ctx, f, share, trial)
	if err != nil {
		return err
	}
	settled := false
	on := func() {
		if !settled {
			settled = true
			f.deaths = 0
			w.settle(p, f)
			w.trials.Release(share)
		}
	}
	err = run(ctx, p.conn, on)
	if !errors.Is(err, errLost) {
		on()
		w.leave(p, f)
		return err
	}
	defer func() {
		if !settled { // not before the verdict: who comes next must find another process
			w.trials.Release(share)
		}
	}()
	w.abandon(p)
	select {
	case <-p.dead:
	case <-ctx.Done():
		w.leave(p, f)
		return ctx.Err()
	}
	if p.culprit != nil && p.culprit != f && p.onTrial {
		return errLost // it was the other one
	}
	f.deaths++
	f.total++
	if f.deaths >= 2 && p.culprit == f || f.total >= lives {
		return fmt.Errorf("%w: its worker died %d times with this request in it: %w", engine.ErrBackend, f.total, p.why())
	}
	return errLost
}

// board waits for its share and for a process.
func (w *Worker) board(ctx context.Context, f *flight, share int64, trial bool) (*process, error) {
	w.mu.Lock()
	if w.waiting >= w.config.Queue && f.total == 0 {
		w.mu.Unlock()
		return nil, engine.ErrQueueFull
	}
	w.waiting++
	w.mu.Unlock()
	err := w.trials.Acquire(ctx, share)
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.waiting-- }()
	if err != nil {
		return nil, err
	}
	for w.process == nil && w.failing == nil && ctx.Err() == nil {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
	if w.process == nil {
		w.trials.Release(share)
		return nil, errors.Join(ctx.Err(), w.failing)
	}
	w.process.aboard[f] = struct{}{}
	if trial {
		w.process.trial = f
	}
	return w.process, nil
}

// settle ends a trial well.
func (w *Worker) settle(p *process, f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.trial == f {
		p.trial = nil
	}
}

// abandon lets nobody into a process that can't be reached, and makes sure that it is over.
func (w *Worker) abandon(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == p {
		w.process = nil
	}
	_ = p.cmd.Process.Kill() // no harm when it has ended
}

func (w *Worker) leave(p *process, f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(p.aboard, f)
}

// broken says what an error of gRPC's means: mostly that the process is gone.
func broken(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case status.Code(err) == codes.Unavailable, status.Code(err) == codes.Canceled: // by its end, or by the supervisor after it
		return errLost
	default:
		return fmt.Errorf("%w: %w", engine.ErrBackend, err)
	}
}
