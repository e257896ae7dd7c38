package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// task is one request on its way through the loop: a generation, or a scoring. Before it is submitted it belongs to its
// caller, afterwards to the loop; cancelled alone is shared.
type task struct {
	ctx       context.Context
	key       string
	tokens    []Token // the prompt, then what was generated
	prompt    int     // how many of them are the prompt
	grow      int     // tokens that may still come after the prompt; -1 means up to the context's limit
	deadline  time.Time
	cancelled atomic.Bool

	generation *generation // one of the two is set
	scoring    *scoring

	sequence int // -1 while it waits
	computed int // tokens in the KV cache
	claim    int // cells that it may fill
	admitted uint64

	usage   Usage
	submit  time.Time
	start   time.Time // first prompt token computed
	first   time.Time // first token sampled
	last    time.Time
	rows    []int // of the batch being computed: indices of its outputs
	pending int   // rows in the batch being computed
}

// generation is what a task needs to sample and to deliver.
type generation struct {
	sink      *Sink
	sampler   Sampler
	out       output
	special   []Token // control tokens whose text belongs to the output
	limit     int     // generated tokens at most; 0 is none
	ignoreEOS bool
	logprobs  int
	seed      uint32
	tokens    []TokenInfo // sampled and not delivered yet
}

// scoring is what a task needs to weigh continuations, one after the other, behind the same prompt.
type scoring struct {
	continuations [][]Token
	scores        []Score
	current       int // continuation being computed
	done          chan error
}

// waiting rows: what is still to compute before the task can sample or score.
func (t *task) target() []Token {
	if t.scoring == nil || t.computed < t.prompt {
		return t.tokens
	}
	c := t.scoring.continuations[t.scoring.current]
	return append(t.tokens[:t.prompt:t.prompt], c[:len(c)-1]...)
}

// decoding tells whether the task is past its prompt and needs one token at a time.
func (t *task) decoding() bool {
	return t.generation != nil && t.computed == len(t.tokens)-1 && t.usage.GeneratedTokens > 0
}

func (t *task) timings() Timings {
	var d Timings
	if t.start.IsZero() {
		return Timings{Queue: time.Since(t.submit)}
	}
	d.Queue = t.start.Sub(t.submit)
	if !t.first.IsZero() {
		d.Prefill = t.first.Sub(t.start)
		d.FirstToken = t.first.Sub(t.submit)
		d.Decode = t.last.Sub(t.first)
	}
	return d
}

// fail ends the task with an error.
func (t *task) fail(err error) {
	if t.scoring != nil {
		t.scoring.done <- err
		return
	}
	t.generation.sink.Fail(err)
}

func (t *task) close() {
	if g := t.generation; g != nil {
		if g.sampler != nil {
			g.sampler.Close()
		}
		g.out.close()
	}
}
