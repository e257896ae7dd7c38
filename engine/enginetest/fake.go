package enginetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/engine"
)

// End is the fake's end-of-generation token, a control token; tokens below it are bytes.
const End engine.Token = 256

// EndText is how End is written.
const EndText = "<end>"

const vocabulary = 257

// lifted is the bytes of a token in a state.
const lifted = 12

// Fake is a deterministic backend over a vocabulary of bytes.
type Fake struct {
	// Loras are its adapters; each makes it say something else. Set them before the engine starts.
	Loras []string
	// Fingerprint is what it says about itself. Set it before the engine starts.
	Fingerprint string

	limits  engine.Limits
	adapter string
	context int
	kv      [][]*cell
	used    int
	logits  map[int][]float32

	// Small, when set, is its draft model: what it would say behind tokens. See Foresee.
	Small func(tokens []engine.Token, n int) ([]engine.Token, error)

	// Gate, when set, is received from before each Decode, so that a test can hold the loop.
	Gate chan struct{}
	// Fixed says that its KV cannot be placed at another position. Set it before the engine starts.
	Fixed bool
	// FailPlace, when set, may refuse to place a state.
	FailPlace func(s engine.State, at int) error
	// Fail, when set, may refuse a batch.
	Fail func(rows []engine.Row) error
	// Failed is what Close returns.
	Failed error

	cells   atomic.Int64
	foreign atomic.Int64
	closed  atomic.Bool

	small    map[int][]engine.Token // of each sequence, what the draft model has computed
	followed atomic.Int64
	longest  atomic.Int64
}

type cell struct {
	token   engine.Token
	adapter string // that computed it
	behind  uint64 // a hash of the tokens that it was computed behind
	refs    int
}

// NewFake makes a fake with the given limits and context size.
func NewFake(l engine.Limits, contextSize int) *Fake {
	return &Fake{limits: l, context: contextSize, kv: make([][]*cell, l.Sequences)}
}

var _ engine.Backend = (*Fake)(nil)

// Info describes the fake.
func (f *Fake) Info() engine.Info {
	return engine.Info{Name: "fake", Context: f.context, Fingerprint: f.Fingerprint}
}

// Limits are what NewFake was given.
func (f *Fake) Limits() engine.Limits { return f.limits }

// Cells is how many cells are in use; safe from any goroutine.
func (f *Fake) Cells() int { return int(f.cells.Load()) }

// Foreign is how many tokens sequences took over from others, though they were computed behind other tokens than stand before them
// there: what a shift or a placed passage left behind. Safe from any goroutine.
func (f *Fake) Foreign() int { return int(f.foreign.Load()) }

// Closed tells whether the engine closed the fake.
func (f *Fake) Closed() bool { return f.closed.Load() }

// Decode checks the batch as llama.cpp would, and books it.
func (f *Fake) Decode(ctx context.Context, rows []engine.Row) error {
	if f.Gate != nil {
		select {
		case <-f.Gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(rows) == 0 || len(rows) > f.limits.Batch {
		return fmt.Errorf("a batch of %d rows", len(rows))
	}
	if f.Fail != nil {
		if err := f.Fail(rows); err != nil {
			return err
		}
	}
	f.logits = map[int][]float32{}
	for i, r := range rows {
		switch {
		case r.Sequence < 0 || r.Sequence >= f.limits.Running:
			return fmt.Errorf("row %d: sequence %d may not run", i, r.Sequence)
		case r.Position != len(f.kv[r.Sequence]):
			return fmt.Errorf("row %d: position %d, but the sequence holds %d", i, r.Position, len(f.kv[r.Sequence]))
		case f.used == f.limits.Cells:
			return errors.New("no room in the KV cache")
		}
		for _, c := range f.kv[r.Sequence] {
			if c.adapter != f.adapter {
				return fmt.Errorf("row %d: adapter %q reads what %q computed", i, f.adapter, c.adapter)
			}
		}
		f.kv[r.Sequence] = append(f.kv[r.Sequence], &cell{token: r.Token, adapter: f.adapter, behind: hashOf(f.kv[r.Sequence]), refs: 1})
		f.used++
		if r.Output {
			f.logits[i] = logitsAfter(f.adapter, f.tokens(r.Sequence))
		}
	}
	f.cells.Store(int64(f.used))
	return nil
}

// hashOf is a hash of the tokens of cells, one after the other: an FNV of tokens.
func hashOf(cells []*cell) uint64 {
	var h uint64
	for _, c := range cells {
		h = behind(h, c)
	}
	return h
}

// behind is the hash of tokens and one more.
func behind(h uint64, c *cell) uint64 { return (h ^ uint64(c.token+1)) * 1099511628211 }

func (f *Fake) tokens(sequence int) []engine.Token {
	out := make([]engine.Token, len(f.kv[sequence]))
	for i, c := range f.kv[sequence] {
		out[i] = c.token
	}
	return out
}

// logitsAfter makes one token likely, chosen by all tokens before it; about one in 24 is the end.
func logitsAfter(adapter string, tokens []engine.Token) []float32 {
	h := fnv.New64a()
	h.Write([]byte(adapter))
	for _, t := range tokens {
		fmt.Fprintf(h, "%d,", t)
	}
	sum := h.Sum64()
	logits := make([]float32, vocabulary)
	for i := range logits {
		logits[i] = float32((sum>>(i%32))%7) / 10
	}
	next := engine.Token('a' + sum%26)
	if sum%24 == 0 {
		next = End
	}
	logits[next] = 10
	return logits
}

// Adapters are Loras.
func (f *Fake) Adapters() []string { return f.Loras }

// Adapt chooses one.
func (f *Fake) Adapt(name string) error {
	f.adapter = name
	return nil
}

// Continue is what a greedy engine must answer to a prompt: its text, and whether the model ended it.
func Continue(prompt string, maxTokens int) (text string, ended bool) {
	return ContinueAdapted("", prompt, maxTokens)
}

// ContinueAdapted is Continue with an adapter.
func ContinueAdapted(adapter, prompt string, maxTokens int) (text string, ended bool) {
	tokens := bytesOf(prompt)
	var out []byte
	for range maxTokens {
		next := greedy(logitsAfter(adapter, tokens))
		if next == End {
			return string(out), true
		}
		out = append(out, byte(next))
		tokens = append(tokens, next)
	}
	return string(out), false
}

// ContinueShifted is what a greedy engine must answer that goes on past the model's ends, and past that of the context, whose first
// keep tokens then stay. It gives all that the model reads in the end, too, and how many tokens were dropped.
func ContinueShifted(adapter string, prompt []engine.Token, maxTokens, context, keep int) (text string, tokens []engine.Token, dropped int) {
	tokens = append(tokens, prompt...)
	var out []byte
	for i := range maxTokens {
		next := greedy(logitsAfter(adapter, tokens))
		if next != End {
			out = append(out, byte(next))
		}
		tokens = append(tokens, next)
		if len(tokens) == context && i < maxTokens-1 {
			n := (context - keep) / 2
			tokens = append(tokens[:keep:keep], tokens[keep+n:]...)
			dropped += n
		}
	}
	return string(out), tokens, dropped
}

func greedy(logits []float32) engine.Token {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return engine.Token(best)
}

// Logits returns a row of the last batch.
func (f *Fake) Logits(i int) ([]float32, error) {
	row, ok := f.logits[i]
	if !ok {
		return nil, fmt.Errorf("row %d has no output", i)
	}
	return row, nil
}

// Copy shares cells.
func (f *Fake) Copy(from, to, n int) error {
	if len(f.kv[to]) != 0 || n > len(f.kv[from]) {
		return fmt.Errorf("copy %d of %d tokens into a sequence of %d", n, len(f.kv[from]), len(f.kv[to]))
	}
	var before uint64
	for _, c := range f.kv[from][:n] {
		if c.behind != before {
			f.foreign.Add(1)
		}
		before = behind(before, c)
		c.refs++
		f.kv[to] = append(f.kv[to], c)
	}
	return nil
}

// Remove frees cells that nobody else shares.
func (f *Fake) Remove(sequence, n int) error {
	held := f.kv[sequence]
	n = min(n, len(held))
	for _, c := range held[n:] {
		if c.refs--; c.refs == 0 {
			f.used--
		}
	}
	f.kv[sequence] = held[:n:n]
	f.cells.Store(int64(f.used))
	return nil
}

// Lift copies tokens, and what they were computed behind; that is all that the fake's KV is.
func (f *Fake) Lift(sequence, from, to int) (engine.State, error) {
	if from < 0 || from >= to || to > len(f.kv[sequence]) {
		return engine.State{}, fmt.Errorf("lift [%d, %d) of %d tokens", from, to, len(f.kv[sequence]))
	}
	s := engine.State{From: from, N: to - from}
	for _, c := range f.kv[sequence][from:to] {
		s.Bytes = binary.LittleEndian.AppendUint32(s.Bytes, uint32(c.token))
		s.Bytes = binary.LittleEndian.AppendUint64(s.Bytes, c.behind)
	}
	s.Bytes = append(s.Bytes, f.kv[sequence][from].adapter...)
	return s, nil
}

// Place appends lifted tokens.
func (f *Fake) Place(s engine.State, skip, sequence, at int) error {
	switch {
	case len(s.Bytes) < lifted*s.N || skip >= s.N:
		return errors.New("a damaged state")
	case len(f.kv[sequence]) != at:
		return fmt.Errorf("place at %d, but the sequence holds %d", at, len(f.kv[sequence]))
	case f.used+s.N-skip > f.limits.Cells:
		return errors.New("no room in the KV cache")
	}
	if f.FailPlace != nil {
		if err := f.FailPlace(s, at); err != nil {
			return err
		}
	}
	if f.Fixed && at-skip != s.From {
		return fmt.Errorf("a state from %d is to be placed at %d", s.From, at-skip)
	}
	for i := skip; i < s.N; i++ {
		b := s.Bytes[lifted*i:]
		f.kv[sequence] = append(f.kv[sequence], &cell{token: engine.Token(binary.LittleEndian.Uint32(b)), behind: binary.LittleEndian.Uint64(b[4:]),
			adapter: string(s.Bytes[lifted*s.N:]), refs: 1})
		f.used++
	}
	f.cells.Store(int64(f.used))
	return nil
}

// Moves is true unless it is Fixed: a token is the same anywhere.
func (f *Fake) Moves() bool { return !f.Fixed }

// Tokenize gives the text's bytes.
func (f *Fake) Tokenize(text string, _ bool) ([]engine.Token, error) { return bytesOf(text), nil }

func bytesOf(text string) []engine.Token {
	tokens := make([]engine.Token, len(text))
	for i := range len(text) {
		tokens[i] = engine.Token(text[i])
	}
	return tokens
}

// Piece is the byte.
func (f *Fake) Piece(t engine.Token, special bool) []byte {
	switch {
	case t == End && special:
		return []byte(EndText)
	case t == End:
		return nil
	}
	return []byte{byte(t)}
}

// Ends tells whether the token is End.
func (f *Fake) Ends(t engine.Token) bool { return t == End }

// Render joins the messages.
func (f *Fake) Render(chat *engine.Chat, _ []byte) (*engine.Rendered, error) {
	r := &engine.Rendered{}
	for _, m := range chat.Messages {
		if !utf8.ValidString(m.Content) {
			return nil, &engine.FieldError{Field: "Chat", Problem: "is not valid UTF-8"}
		}
		r.Prompt = append(r.Prompt, bytesOf(m.Role+": "+m.Content+"\n")...)
		if m.Role != "system" {
			continue
		}
		for _, d := range chat.Documents {
			from := len(r.Prompt)
			r.Prompt = append(r.Prompt, bytesOf(d.Title+": "+d.Text+"\n")...)
			r.Passages = append(r.Passages, engine.Range{From: from, To: len(r.Prompt)})
		}
	}
	return r, nil
}

// Schema refuses: the fake knows no grammars.
func (f *Fake) Schema([]byte) (string, error) {
	return "", &engine.FieldError{Field: "JSONSchema", Problem: "the fake has no grammars"}
}

// NewSampler is greedy whatever the settings.
func (f *Fake) NewSampler(_ engine.Sampling, _ uint32, c engine.Constraint) (engine.Sampler, error) {
	if c.Grammar != "" {
		return nil, &engine.FieldError{Field: "Grammar", Problem: "the fake has no grammars"}
	}
	return sampler{}, nil
}

type sampler struct{}

func (sampler) Sample(logits []float32) (engine.Token, error) { return greedy(logits), nil }
func (sampler) Accept(engine.Token) error                     { return nil }
func (sampler) Close() error                                  { return nil }

// Close marks the fake closed.
func (f *Fake) Close() error {
	f.closed.Store(true)
	return f.Failed
}
