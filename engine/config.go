package engine

import (
	"errors"
	"time"
)

// Config says how an Engine schedules.
type Config struct {
	// Queue bounds the requests that wait; one more is ErrQueueFull.
	Queue int
	// Running bounds the sequences computed together; at most the backend's Limits.Running.
	Running int
	// Budget bounds the prompt tokens computed in one step while streams run, so that their next token is not far. Alone,
	// prompts fill the batch.
	Budget int
	// Context bounds one request, prompt and answer together; at most the backend's.
	Context int
}

// DefaultConfig is a queue of 256, as many sequences as the backend runs, and 256 prompt tokens a step beside streams.
func DefaultConfig() Config { return Config{Queue: 256, Budget: 256} }

// Validate reports what cannot work. Zero Running and Context take the backend's.
func (c Config) Validate() error {
	switch {
	case c.Queue < 1:
		return errors.New("engine: Queue must be at least 1")
	case c.Budget < 1:
		return errors.New("engine: Budget must be at least 1")
	case c.Running < 0 || c.Context < 0:
		return errors.New("engine: Running and Context must not be negative")
	}
	return nil
}

// Hooks are told what happens. They are called from the loop and must return at once; nil ones are skipped.
type Hooks struct {
	// Step is called after each batch.
	Step func(Step)
	// Done is called when a request has ended; err is nil when it ended well.
	Done func(u Usage, t Timings, err error)
}

// Step describes one turn of the loop.
type Step struct {
	Rows    int           // tokens in the batch
	Prompt  int           // of them, prompt tokens
	Took    time.Duration // of the decode
	Running int           // sequences at work
	Waiting int           // requests in the queue
	Cells   int           // KV cells in use, kept prefixes included
}
