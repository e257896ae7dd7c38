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
	// Gap is how far apart the tokens of a stream should be at the most while prompts are computed beside it. What a step takes
	// is measured all the time; the prompt tokens in it follow from that. Where nobody streams a step takes about two gaps.
	Gap time.Duration
	// Budget bounds the prompt tokens of a step beside streams instead; 0 leaves it to Gap.
	Budget int
	// Context bounds one request, prompt and answer together; at most the backend's.
	Context int
	// Placing says whether each of a chat's documents is computed once, behind the system prompt alone, and placed where a
	// request wants it. Answers change slightly. It needs a backend that is a Placer and Moves.
	Placing Placing
	// Border is how many tokens at the beginning of each placed document are computed in their place all the same.
	Border int
	// Draft lets streams guess tokens, while that pays: from what was said before, and where the backend is a Drafter by its draft
	// model. Answers stay the same.
	Draft bool
	// Measure lets the engine find out, before it takes requests, what steps take.
	Measure bool
	Cache   CacheConfig
}

// Placing says when passages are placed.
type Placing int

// PlaceAuto finds out, when the engine starts, whether the model loses little by it, and computes prompts whole until that is
// known and where it is not so.
const (
	PlaceNever Placing = iota
	PlaceAuto
	PlaceAlways
)

// CacheConfig says where KV is kept outside of the cache of the backend.
type CacheConfig struct {
	Memory int64  // bytes
	Dir    string // folder of what outlives the process, which is what the engine found out about the model, and KV; "" is none
	Disk   int64  // bytes of KV in it, which tells what documents and prompts say; 0 is none
}

// DefaultConfig is a queue of 256, as many sequences as the backend runs, a gap of 60 ms, and half a gigabyte of
// memory for KV.
func DefaultConfig() Config {
	return Config{Queue: 256, Gap: 60 * time.Millisecond, Draft: true, Cache: CacheConfig{Memory: 512 << 20, Disk: 4 << 30}}
}

// Validate reports what cannot work. Zero Running and Context take the backend's.
func (c Config) Validate() error {
	switch {
	case c.Queue < 1:
		return errors.New("engine: Queue must be at least 1")
	case c.Budget < 0 || c.Budget == 0 && c.Gap <= 0:
		return errors.New("engine: Gap must be positive, or Budget")
	case c.Running < 0 || c.Context < 0 || c.Border < 0:
		return errors.New("engine: Running, Context and Border must not be negative")
	case c.Placing < PlaceNever || c.Placing > PlaceAlways:
		return errors.New("engine: Placing must be PlaceNever, PlaceAuto or PlaceAlways")
	case c.Cache.Memory < 0 || c.Cache.Disk < 0:
		return errors.New("engine: the cache's limits must not be negative")
	}
	return nil
}

// Hooks are told what happens. They are called from the loop and must return at once; nil ones are skipped.
type Hooks struct {
	// Step is called after each batch.
	Step func(Step)
	// Done is called when a request has ended; err is nil when it ended well.
	Done func(u Usage, t Timings, err error)
	// Placing is called when the engine has found out whether passages are placed; see Trial.
	Placing func(Trial)
	// DraftFailed is called, once, when the draft model failed. Streams go on without it.
	DraftFailed func(err error)
}

// Step describes one turn of the loop.
type Step struct {
	Rows          int           // tokens in the batch
	Prompt        int           // of them, prompt tokens
	Drafted       int           // of them, guesses
	Accepted      int           // guesses that were right
	ModelDrafted  int           // of Drafted, guesses of the draft model
	ModelAccepted int           // of Accepted, guesses of the draft model
	Drafting      time.Duration // that the draft model took, before Took
	Threads       int           // that computed it; 0 where the backend has none
	Took          time.Duration // of the decode
	Running       int           // sequences at work
	Waiting       int           // requests in the queue
	Cells         int           // KV cells in use, kept prefixes included
	Shelf         int64         // bytes of KV in memory outside of the cache
}
