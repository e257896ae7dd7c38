package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"
)

// Config says how a worker is started and kept.
type Config struct {
	Name string // of the model, for errors and the log
	// Command is the program with its arguments, which anybody on the machine can read.
	Command []string
	Env     []string // added to this process's own
	// Settings are for the child's Loader, and reach it over its socket.
	Settings []byte
	Hooks    engine.Hooks
	Log      zerolog.Logger     // of the supervisor, and of what the child writes
	Progress func(done float32) // of the first loading
	// Queue bounds the requests that wait while there is no process to take them; one more is engine.ErrQueueFull.
	Queue int
	// Pause is how long the supervisor waits after the second of several deaths in a row, and twice as long after each
	// further one, until MaxPause. The first time it doesn't wait.
	Pause, MaxPause time.Duration
	// Steady is how long a process must have lived for its death to be the first again.
	Steady time.Duration
	// Deaths in a row make the worker unhealthy: its callers are told instead of being made to wait.
	Deaths int
}

// Default starts a command, and gives up on waiting after five deaths within ten seconds of a start.
func Default(command ...string) Config {
	return Config{Command: command, Queue: engine.DefaultConfig().Queue, Log: zerolog.Nop(), Pause: 500 * time.Millisecond, MaxPause: 30 * time.Second,
		Steady: 10 * time.Second, Deaths: 5}
}

// Worker is a model in a child process. It is an engine.Generator, an engine.Embedder or an engine.Reranker, as the model is: a
// call to another part fails. Safe for concurrent use.
type Worker struct {
	config   Config
	info     engine.Info
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	ended    chan struct{} // the supervisor has
	restarts atomic.Int64
	trials   *semaphore.Weighted

	mu      sync.Mutex
	closed  bool
	process *process      // the one that takes calls; nil while there is none
	failing error         // why there has been none for long
	changed chan struct{} // closed when process or failing has changed
	waiting int           // calls without a process
	flights sync.WaitGroup
	failed  error // of the last process's end; read it after ended
}

var (
	_ engine.Generator = (*Worker)(nil)
	_ engine.Embedder  = (*Worker)(nil)
	_ engine.Reranker  = (*Worker)(nil)
)

// Start starts a worker and returns when its model is loaded. A model that can't be loaded is an error at once; later the
// supervisor tries again and again. When ctx ends, loading stops.
func Start(ctx context.Context, c Config) (*Worker, error) {
	if len(c.Command) == 0 || c.Queue < 1 || c.Deaths < 1 {
		return nil, errors.New("worker: Command, Queue and Deaths must be set")
	}
	w := &Worker{config: c, ended: make(chan struct{}), changed: make(chan struct{}), trials: semaphore.NewWeighted(math.MaxInt64)}
	w.ctx, w.stop = context.WithCancel(context.Background())
	loaded := make(chan error, 1)
	go w.supervise(ctx, loaded)
	if err := <-loaded; err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Info describes the model.
func (w *Worker) Info() engine.Info { return w.info }

// Restarts counts the processes that took over from one that died.
func (w *Worker) Restarts() int { return int(w.restarts.Load()) }

// PID is the process's; 0 while there is none.
func (w *Worker) PID() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil {
		return 0
	}
	return w.process.pid
}

// Health asks the process whether it lives. While there is none the error says why.
func (w *Worker) Health(ctx context.Context) error {
	w.mu.Lock()
	p, failing := w.process, w.failing
	w.mu.Unlock()
	switch {
	case failing != nil:
		return failing
	case p == nil:
		return fmt.Errorf("the worker of %s is starting", w.config.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := p.conn.Invoke(ctx, prefix+healthCall, struct{}{}, &reply[struct{}]{}); err != nil {
		return fmt.Errorf("the worker of %s does not answer: %w", w.config.Name, err)
	}
	return nil
}

// Close fails what is under way with engine.ErrClosed and ends the process, and with it all its memory. It may be called
// again.
func (w *Worker) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.flights.Wait()
	<-w.ended
	return w.failed
}

// supervise keeps a process running. The goroutine stays on its thread because Linux takes that thread for the parent.
func (w *Worker) supervise(ctx context.Context, loaded chan<- error) {
	runtime.LockOSThread()
	defer close(w.ended)
	deaths := 0
	for first := true; w.ctx.Err() == nil; first = false {
		loading, cancel := context.WithCancel(w.ctx)
		progress := func(float32) {}
		unhook := func() bool { return true }
		if first {
			unhook = context.AfterFunc(ctx, cancel)
			if w.config.Progress != nil {
				progress = w.config.Progress
			}
		}
		p, info, err := launch(loading, w.config, progress)
		unhook()
		cancel()
		if first {
			if err == nil {
				w.info = info
				w.ready(p)
			} else if ctx.Err() != nil {
				err = ctx.Err()
			}
			if loaded <- err; err != nil {
				return
			}
		} else if err == nil {
			w.restarts.Add(1)
			w.ready(p)
		}
		if err == nil {
			select {
			case <-p.exited:
			case <-w.ctx.Done():
				w.failed = p.end()
				return
			}
			err = p.why()
			if time.Since(p.began) > w.config.Steady {
				deaths = 0
			}
		}
		if w.ctx.Err() != nil {
			return
		}
		deaths++
		pause := w.pause(deaths)
		w.lost(p, deaths, pause, err)
		select {
		case <-time.After(pause):
		case <-w.ctx.Done():
		}
	}
}

// pause is how long to wait after so many deaths in a row.
func (w *Worker) pause(deaths int) time.Duration {
	if deaths == 1 {
		return 0
	}
	pause := w.config.Pause
	for range deaths - 2 {
		pause = min(2*pause, w.config.MaxPause)
	}
	return pause
}

// ready lets calls in.
func (w *Worker) ready(p *process) {
	level := zerolog.DebugLevel
	if w.restarts.Load() > 0 {
		level = zerolog.InfoLevel
	}
	w.config.Log.WithLevel(level).Str("model", w.config.Name).Int("pid", p.pid).Dur("took_ms", time.Since(p.began)).Msg("worker ready")
	p.began = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process, w.failing = p, nil
	w.signal()
}

// lost records a death, and who was in the process when it came.
func (w *Worker) lost(p *process, deaths int, pause time.Duration, why error) {
	w.config.Log.Error().Err(why).Str("model", w.config.Name).Int("deaths", deaths).Dur("pause_ms", pause).Msg("worker died")
	w.mu.Lock()
	w.process = nil
	w.mu.Unlock()
	if p != nil {
		_ = p.end() // what is left of it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if deaths >= w.config.Deaths {
		w.failing = fmt.Errorf("%w: the worker of %s died %d times in a row, the last time so: %w", engine.ErrBackend, w.config.Name, deaths, why)
	}
	if p != nil {
		p.judge()
		close(p.dead)
	}
	w.signal()
}

// signal wakes who waits for a change; the caller holds mu.
func (w *Worker) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}
