package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// task is one request on its way through the loop: a generation, a scoring, or a passage that others wait for. Before it is submitted it belongs to its
// caller, afterwards to the loop; cancelled alone is shared.
type task struct {
	ctx       context.Context
	key       string
	adapter   string
	tokens    []Token // the prompt, then what was generated
	prompt    int     // how many of them are the prompt
	grow      int     // tokens that may still come after the prompt, if the context holds them; -1 is no limit but the context's
	deadline  time.Time
	cancelled atomic.Bool

	generation *generation // one of the three is set
	scoring    *scoring
	filling    *filling

	passages []placement // of the prompt, that are placed
	drafts   []Token     // guesses behind tokens, in the batch being computed
	byModel  bool        // they are the draft model's
	followed int         // tokens that the draft model has computed
	number   uint64      // in the order of arrival

	sequence int // -1 while it waits
	computed int // tokens in the KV cache
	shifted  int // where the KV of tokens begins that a shift has moved; 0: nowhere
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
	keep      int     // tokens that stay when the context is full; 0: then the stream ends
	ignoreEOS bool
	logprobs  int
	seed      uint32
	tokens    []TokenInfo // sampled and not delivered yet

	drafting      drafting // by what was said and what is forced
	modelDrafting drafting // by the draft model; new until it is asked
}

// scoring is what a task needs to weigh continuations, one after the other, behind the same prompt.
type scoring struct {
	continuations [][]Token
	scores        []Score
	current       int // continuation being computed
	done          chan error
}

// again drops what is known of the continuation that was being computed, but for its first token, which the prompt's end told.
func (s *scoring) again() {
	if known := &s.scores[s.current].Logprobs; len(*known) > 1 {
		*known = (*known)[:1]
	}
}

// target is what is to be computed: the tokens there are, and guesses behind them.
func (t *task) target() []Token {
	switch {
	case len(t.drafts) > 0:
		return append(t.tokens[:len(t.tokens):len(t.tokens)], t.drafts...)
	case t.scoring == nil || t.computed < t.prompt:
		return t.tokens
	}
	c := t.scoring.continuations[t.scoring.current]
	return append(t.tokens[:t.prompt:t.prompt], c[:len(c)-1]...)
}

// wants tells whether the logits behind a position are needed: a generation needs those behind its last token and each guess, a
// scoring those behind the prompt and each token after it.
func (t *task) wants(position int) bool {
	switch {
	case t.generation != nil:
		return position >= len(t.tokens)-1
	case t.scoring != nil:
		return position >= t.prompt-1
	default:
		return false
	}
}

// left is how many tokens are still to be computed before it can sample.
func (t *task) left() int { return len(t.target()) - t.computed }

// line is whose computed tokens it can share: those of the same key that were computed in the same way.
func (t *task) line() string {
	if len(t.passages) > 0 {
		return t.plainLine() + "\x00placed"
	}
	return t.plainLine()
}

// plainLine is line for what stands before placed passages.
func (t *task) plainLine() string {
	if t.adapter == "" {
		return t.key
	}
	return t.key + "\x00" + t.adapter
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

// whole rounds a number of tokens down so that it ends inside no placed passage: a passage is placed whole, or not at all.
func (t *task) whole(n int) int {
	for _, p := range t.passages {
		if p.splits(n) {
			return p.From
		}
	}
	return n
}

// fail tells its caller an error; of a scoring also that it is done.
func (t *task) fail(err error) {
	switch {
	case t.scoring != nil:
		t.scoring.done <- err
	case t.generation != nil:
		t.generation.sink.Fail(err)
	}
}

func (t *task) close() {
	if g := t.generation; g != nil {
		if g.sampler != nil {
			g.sampler.Close()
		}
		g.out.close()
	}
}
