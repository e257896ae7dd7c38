package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"math"
	"unsafe"
)

// Candidate is a token that may be chosen next. P is set by the stages that compute probabilities.
type Candidate struct {
	ID    Token
	Logit float32
	P     float32
}

// Candidates is what a Sampler works on: a list of tokens that its stages reorder, cut and weigh. It is plain Go memory
// to be reused, one per goroutine that samples; the zero value is ready.
type Candidates struct {
	Items []Candidate
	// Selected is the index in Items of the token that the last stage chose, -1 for none.
	Selected int
	// Sorted says that Items are in descending order of logits.
	Sorted bool
}

// Reset fills in every token with its logit. NaN becomes -Inf, as samplers cannot sort it.
func (c *Candidates) Reset(logits []float32) {
	if cap(c.Items) < len(logits) {
		c.Items = make([]Candidate, len(logits))
	}
	c.Items = c.Items[:len(logits)]
	for i, l := range logits {
		c.Items[i] = Candidate{ID: Token(i), Logit: sortable(l)}
	}
	c.Selected, c.Sorted = -1, false
}

// Token is the chosen token; NoToken when no stage chose one.
func (c *Candidates) Token() Token {
	if c.Selected < 0 || c.Selected >= len(c.Items) {
		return NoToken
	}
	return c.Items[c.Selected].ID
}

// Sampler is a chain of stages that ends in a choice. It remembers the tokens it was given (penalties, grammars, random
// numbers). It belongs to one goroutine at a time; its owner closes it, before the model.
type Sampler struct {
	m       *Model
	ptr     *C.core_sampler
	scratch Candidates // of Sample
	io      *samplerIO

	touched uint64
}

// samplerIO is what calls into C write to. It lies on the C heap, so that sampling allocates nothing.
type samplerIO struct {
	choice   C.core_choice
	complete C.bool
	err      C.core_err
}

func newSampler(m *Model, ptr *C.core_sampler) *Sampler {
	owners.sampler.Add(1)
	return &Sampler{m: m, ptr: ptr, io: (*samplerIO)(C.calloc(1, C.size_t(unsafe.Sizeof(samplerIO{}))))}
}

// NewSampler makes a chain of stages, which run in the order given. The last one chooses: Greedy, Dist, Mirostat,
// MirostatV2 or AdaptiveP. A chain without one only weighs.
func NewSampler(m *Model, stages ...Stage) (*Sampler, error) {
	const op = "new sampler"
	if err := m.adopt(op); err != nil {
		return nil, err
	}
	s := newSampler(m, C.core_sampler_new())
	for _, stage := range stages {
		if err := stage(s); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Apply runs the chain over candidates: it changes Items and sets Selected. It remembers nothing but random numbers
// drawn; tell Accept what was taken in the end. It returns ErrRejected when every candidate is at -Inf, which means that
// a grammar forbids them all.
func (s *Sampler) Apply(c *Candidates) error {
	const op = "sample"
	s.touched++
	switch {
	case s.ptr == nil:
		return fail(op, ErrClosed, "the sampler was closed")
	case len(c.Items) == 0:
		return fail(op, ErrInvalid, "there are no candidates")
	}
	choice := &s.io.choice
	choice.n, choice.sorted = C.size_t(len(c.Items)), C.bool(c.Sorted)
	if !C.core_sampler_apply(s.ptr, (*C.llama_token_data)(unsafe.Pointer(&c.Items[0])), choice, &s.io.err) {
		return cFailure(op, 0, &s.io.err, ErrGrammar)
	}
	c.Items, c.Selected, c.Sorted = c.Items[:choice.n], int(choice.selected), bool(choice.sorted)
	if c.Selected >= 0 && math.IsInf(float64(c.Items[c.Selected].Logit), -1) {
		return fail(op, ErrRejected, "no candidate is left")
	}
	return nil
}

// Sample chooses a token from a context's row of logits and accepts it.
func (s *Sampler) Sample(c *Context, row int) (Token, error) {
	logits, err := c.Logits(row)
	if err != nil {
		return NoToken, err
	}
	s.scratch.Reset(logits)
	if err := s.Apply(&s.scratch); err != nil {
		return NoToken, err
	}
	t := s.scratch.Token()
	if t == NoToken {
		return NoToken, fail("sample", ErrInvalid, "the last stage of the sampler chooses no token")
	}
	return t, s.Accept(t)
}

// Accept tells the chain which token was taken. A token that one of its grammars forbids, also an end of generation
// before the grammar is complete, is ErrRejected and changes nothing.
func (s *Sampler) Accept(t Token) error {
	const op = "accept token"
	s.touched++
	switch {
	case s.ptr == nil:
		return fail(op, ErrClosed, "the sampler was closed")
	case t < 0 || int(t) >= s.m.vocab.n:
		return fail(op, ErrToken, "%d is not in 0..%d", t, s.m.vocab.n-1)
	}
	if !C.core_sampler_accept(s.ptr, C.llama_token(t), &s.io.err) {
		return cFailure(op, 0, &s.io.err, ErrGrammar)
	}
	return nil
}

// Reset forgets all tokens and starts random numbers again from their seed.
func (s *Sampler) Reset() error {
	s.touched++
	if s.ptr == nil {
		return fail("reset sampler", ErrClosed, "the sampler was closed")
	}
	if !C.core_sampler_reset(s.ptr, &s.io.err) {
		return cFailure("reset sampler", 0, &s.io.err, ErrInvalid)
	}
	return nil
}

// Clone returns a second sampler in the same state, which its caller closes.
func (s *Sampler) Clone() (*Sampler, error) {
	const op = "clone sampler"
	s.touched++
	if s.ptr == nil {
		return nil, fail(op, ErrClosed, "the sampler was closed")
	}
	if err := s.m.adopt(op); err != nil {
		return nil, err
	}
	ptr := C.core_sampler_clone(s.ptr, &s.io.err)
	if ptr == nil {
		s.m.disown()
		return nil, cFailure(op, 0, &s.io.err, ErrInvalid)
	}
	return newSampler(s.m, ptr), nil
}

// Seed is the seed that the chain's random stage uses, also one it drew itself; RandomSeed when none is random.
func (s *Sampler) Seed() uint32 {
	s.touched++
	if s.ptr == nil {
		return RandomSeed
	}
	return uint32(C.core_sampler_seed(s.ptr))
}

// Names lists the stages in llama.cpp's words; a leading ? marks one whose parameters switch it off.
func (s *Sampler) Names() []string {
	s.touched++
	if s.ptr == nil {
		return nil
	}
	names := make([]string, C.core_sampler_len(s.ptr))
	for i := range names {
		names[i] = C.GoString(C.core_sampler_name(s.ptr, C.int32_t(i)))
	}
	return names
}

// Close frees the chain. It may be called again.
func (s *Sampler) Close() error {
	s.touched++
	if s.ptr == nil {
		return nil
	}
	C.core_sampler_free(s.ptr)
	C.free(unsafe.Pointer(s.io))
	s.ptr, s.io = nil, nil
	s.m.disown()
	owners.sampler.Add(-1)
	return nil
}
