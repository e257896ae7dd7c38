package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Engine schedules requests over one Backend, which it owns. It implements Generator.
type Engine struct {
	backend Backend
	config  Config
	hooks   Hooks
	limits  Limits
	info    Info
	placer  Placer   // nil when the backend is none
	threads Threaded // nil when the backend is none
	adapted Adapted  // nil when the backend is none
	shelf   *shelf
	placing atomic.Bool // passages are placed

	submitted chan *task
	wake      chan struct{} // something was cancelled
	queued    atomic.Int64  // tasks submitted and not admitted
	stop      context.CancelFunc
	ready     chan struct{} // the loop takes requests
	ended     chan struct{}
	failed    error // of the backend's Close; read it after ended

	trial sync.WaitGroup

	mu     sync.RWMutex // closed against submitting
	closed bool
}

var _ Generator = (*Engine)(nil)

// New starts an engine over a backend and takes it over: Close closes it, and so does an error of New.
func New(b Backend, c Config, h Hooks) (*Engine, error) {
	limits := b.Limits()
	if err := c.Validate(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if c.Running == 0 || c.Running > limits.Running {
		c.Running = limits.Running
	}
	info := b.Info()
	if c.Context == 0 || c.Context > info.Context {
		c.Context = info.Context
	}
	c.Context = min(c.Context, limits.Cells)
	info.Context = c.Context
	shelf, err := newShelf(info.Fingerprint, c.Cache)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Engine{
		backend: b, config: c, hooks: h, limits: limits, info: info, shelf: shelf,
		submitted: make(chan *task, c.Queue), wake: make(chan struct{}, 1),
		stop: stop, ready: make(chan struct{}), ended: make(chan struct{}),
	}
	e.placer, _ = b.(Placer)
	e.threads, _ = b.(Threaded)
	e.adapted, _ = b.(Adapted)
	go newLoop(e).run(ctx)
	<-e.ready
	e.choosePlacing(ctx)
	return e, nil
}

// Info describes the model.
func (e *Engine) Info() Info { return e.info }

// Close ends the loop, fails what is under way with ErrClosed and closes the backend, whose error it returns. It may be called
// again.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	<-e.ended
	e.trial.Wait()
	return e.failed
}

// Tokenize splits plain text.
func (e *Engine) Tokenize(_ context.Context, text string) ([]Token, error) {
	return e.backend.Tokenize(text, false)
}

// Render returns the prompt's tokens as Generate would feed them.
func (e *Engine) Render(_ context.Context, r *Request) (Prompt, error) {
	tokens, rendered, err := e.render(r)
	p := Prompt{Tokens: tokens}
	if rendered != nil {
		p.Passages = rendered.Passages
		if rendered.Parser != nil {
			rendered.Parser.Close()
		}
	}
	return p, err
}

func (e *Engine) render(r *Request) ([]Token, *Rendered, error) {
	switch {
	case r.Chat != nil && (r.Text != "" || r.Tokens != nil), r.Text != "" && r.Tokens != nil:
		return nil, nil, &FieldError{Field: "Chat", Problem: "set one of Chat, Text and Tokens"}
	case r.Grammar != "" && r.JSONSchema != nil:
		return nil, nil, &FieldError{Field: "Grammar", Problem: "set one of Grammar and JSONSchema"}
	case r.Chat != nil:
		// Each message is a token at the least. To find the real number of very many takes a template many seconds.
		if n := len(r.Chat.Messages); n > e.config.Context {
			return nil, nil, &OverflowError{Kind: ErrContextOverflow, Tokens: n, Limit: e.config.Context}
		}
		rendered, err := e.backend.Render(r.Chat, r.JSONSchema)
		if err != nil {
			return nil, nil, err
		}
		return rendered.Prompt, rendered, nil
	case r.Tokens != nil:
		return slices.Clone(r.Tokens), nil, nil
	default:
		tokens, err := e.backend.Tokenize(r.Text, true)
		return tokens, nil, err
	}
}

// Generate queues a request; see Generator.
func (e *Engine) Generate(ctx context.Context, r *Request) (*Stream, error) {
	t, err := e.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	stream, sink := NewStream(func() { e.cancel(t) })
	t.generation.sink = sink
	if err := e.enqueue(t); err != nil {
		t.close()
		return nil, err
	}
	return stream, nil
}

// prepare checks a request and makes its task.
func (e *Engine) prepare(ctx context.Context, r *Request) (*task, error) {
	if err := checkSampling(r); err != nil {
		return nil, err
	}
	if err := e.checkShift(r); err != nil {
		return nil, err
	}
	if err := e.hasAdapter("Adapter", r.Adapter); err != nil {
		return nil, err
	}
	tokens, rendered, err := e.render(r)
	t := newTask(ctx, r.Key, tokens[:len(tokens):len(tokens)])
	t.usage.GeneratedTokens = len(r.Generated)
	t.deadline, t.adapter = r.Deadline, r.Adapter
	g := &generation{limit: r.MaxTokens, ignoreEOS: r.IgnoreEOS, logprobs: r.Logprobs, seed: r.Sampling.Seed, drafting: drafting{hit: 0.7}}
	g.out.stop = slices.Clone(r.Stop)
	t.generation = g
	var constraint Constraint
	var passages []Range
	if rendered != nil {
		g.out.parser = rendered.Parser
		g.out.stop = append(g.out.stop, rendered.Stop...)
		constraint = rendered.Constraint
		g.special = rendered.Special
		passages = rendered.Passages
		t.passages = e.placements(t, passages)
	}
	if err == nil {
		err = e.fits(t.prompt)
	}
	if err == nil && r.Shift {
		g.keep, err = e.kept(r, t.tokens, passages)
	}
	if err == nil {
		t.feed(r.Generated, e.config.Context)
		err = e.fits(len(t.tokens))
	}
	if err == nil {
		e.warm(t)
	}
	if err == nil && r.Grammar != "" {
		constraint = Constraint{Grammar: r.Grammar}
	}
	if err == nil && r.JSONSchema != nil && constraint.Grammar == "" {
		constraint.Grammar, err = e.backend.Schema(r.JSONSchema)
	}
	if err == nil && !r.Sampling.Seeded {
		g.seed, err = drawSeed()
	}
	if err == nil {
		g.sampler, err = e.backend.NewSampler(r.Sampling, g.seed, constraint)
	}
	if err == nil {
		err = e.resume(g, r.Generated)
	}
	if err == nil && g.limit > 0 && len(r.Generated) >= g.limit {
		err = &FieldError{Field: "Generated", Problem: "has MaxTokens tokens already"}
	}
	if err != nil {
		t.close()
		return nil, err
	}
	t.grow = -1
	if g.limit > 0 {
		t.grow = g.limit - len(r.Generated)
	}
	return t, nil
}

// warm reads what a task's prompt begins with from disk, if it is there.
func (e *Engine) warm(t *task) {
	if e.placer == nil {
		return
	}
	prefix := t.tokens
	if len(t.passages) > 0 {
		prefix = prefix[:t.passages[0].From]
	}
	e.shelf.warmPrefix(t.plainLine(), prefix)
}

// resume takes what an earlier run generated into sampler and output, without delivering it.
func (e *Engine) resume(g *generation, generated []Token) error {
	for i, token := range generated {
		if err := g.sampler.Accept(token); err != nil {
			return &FieldError{Field: fmt.Sprintf("Generated[%d]", i), Problem: err.Error()}
		}
		if g.out.push(e.backend.Piece(token, slices.Contains(g.special, token))) {
			return &FieldError{Field: "Generated", Problem: "holds a stop string"}
		}
		g.out.take(false)
	}
	return nil
}

func (e *Engine) hasAdapter(field, name string) error {
	if name == "" || e.adapted != nil && slices.Contains(e.adapted.Adapters(), name) {
		return nil
	}
	return &FieldError{Field: field, Problem: fmt.Sprintf("there is no adapter %q", name)}
}

// fits reports whether a prompt leaves room for at least one token.
func (e *Engine) fits(prompt int) error {
	if prompt == 0 {
		return &FieldError{Field: "Text", Problem: "the prompt is empty"}
	}
	if prompt >= e.config.Context {
		return &OverflowError{Kind: ErrContextOverflow, Tokens: prompt, Limit: e.config.Context - 1}
	}
	return nil
}

func newTask(ctx context.Context, key string, tokens []Token) *task {
	return &task{ctx: ctx, key: key, tokens: tokens, prompt: len(tokens), sequence: -1, submit: time.Now(), usage: Usage{PromptTokens: len(tokens)}}
}

// Score weighs continuations; asks with the same prompt compute it once.
func (e *Engine) Score(ctx context.Context, asks []ScoreAsk) ([]Score, error) {
	var groups []*scoreGroup
	scores := make([]Score, len(asks))
next:
	for i, ask := range asks {
		if len(ask.Continuation) == 0 {
			continue // nothing to weigh
		}
		if err := e.fits(len(ask.Prompt) + len(ask.Continuation)); err != nil {
			return nil, err
		}
		if len(ask.Prompt) == 0 {
			return nil, &FieldError{Field: fmt.Sprintf("asks[%d].Prompt", i), Problem: "is empty"}
		}
		if err := e.hasAdapter(fmt.Sprintf("asks[%d].Adapter", i), ask.Adapter); err != nil {
			return nil, err
		}
		if !inside(ask.Passages, len(ask.Prompt)) {
			return nil, &FieldError{Field: fmt.Sprintf("asks[%d].Passages", i), Problem: "are not in order inside the prompt"}
		}
		for _, g := range groups {
			if g.task.key == ask.Key && g.task.adapter == ask.Adapter && slices.Equal(g.task.tokens, ask.Prompt) && slices.Equal(g.passages, ask.Passages) {
				g.add(i, ask.Continuation)
				continue next
			}
		}
		t := newTask(ctx, ask.Key, slices.Clone(ask.Prompt))
		t.adapter, t.scoring = ask.Adapter, &scoring{done: make(chan error, 1)}
		t.passages = e.placements(t, ask.Passages)
		e.warm(t)
		g := &scoreGroup{task: t, passages: ask.Passages}
		g.add(i, ask.Continuation)
		groups = append(groups, g)
	}
	var err error
	sent := 0
	for _, g := range groups {
		if err = e.enqueue(g.task); err != nil {
			break
		}
		sent++
	}
	for _, g := range groups[:sent] {
		if err != nil {
			e.cancel(g.task)
		}
		if failed := <-g.task.scoring.done; failed != nil && err == nil {
			err = failed
		}
		for k, i := range g.indices {
			scores[i] = g.task.scoring.scores[k]
		}
	}
	if err != nil {
		return nil, err
	}
	return scores, nil
}

// scoreGroup is the asks that share a prompt.
type scoreGroup struct {
	task     *task
	passages []Range
	indices  []int // of the asks, in the order of the task's continuations
}

func (g *scoreGroup) add(i int, continuation []Token) {
	g.indices = append(g.indices, i)
	s := g.task.scoring
	s.continuations = append(s.continuations, slices.Clone(continuation))
	s.scores = append(s.scores, Score{Logprobs: make([]float32, 0, len(continuation))})
	g.task.grow = max(g.task.grow, len(continuation))
}

func (e *Engine) enqueue(t *task) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return ErrClosed
	}
	if e.queued.Add(1) > int64(e.config.Queue) {
		e.queued.Add(-1)
		return ErrQueueFull
	}
	e.submitted <- t // never blocks: the channel holds Queue tasks and queued counts them
	return nil
}

func (e *Engine) cancel(t *task) {
	t.cancelled.Store(true)
	e.poke()
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func drawSeed() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("draw a seed: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// checkSampling refuses what no sampler could mean.
func checkSampling(r *Request) error {
	bad := func(field, problem string) error { return &FieldError{Field: field, Problem: problem} }
	switch {
	case r.MaxTokens < 0:
		return bad("MaxTokens", "must not be negative")
	case r.Logprobs < -1 || r.Logprobs > 20:
		return bad("Logprobs", "must be between -1 and 20")
	}
	for i, stop := range r.Stop {
		if stop == "" {
			return bad(fmt.Sprintf("Stop[%d]", i), "is empty")
		}
	}
	return r.Sampling.check()
}
