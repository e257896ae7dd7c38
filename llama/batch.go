package llama

// #include "core_shim.h"
import "C"

import "unsafe"

// Token is an index into a model's vocabulary.
type Token = int32

// MaxSequences is the number of sequence ids that llama.cpp can tell apart: valid ids are below it.
const MaxSequences = 256

// Batch is a list of tokens to compute, each with its position, its sequences and whether an output is wanted. Its
// arrays live on the C heap and are reused. It belongs to one goroutine at a time, and its owner closes it.
type Batch struct {
	c      C.struct_llama_batch
	cap    int
	perTok int
	closed bool

	// views of c's arrays
	tokens []Token
	pos    []int32
	nSeq   []int32
	seqs   []*C.llama_seq_id
	output []int8

	touched uint64
}

// NewBatch returns an empty batch for up to capacity tokens, each in up to sequencesPerToken sequences.
func NewBatch(capacity, sequencesPerToken int) (*Batch, error) {
	if capacity < 1 || capacity > 1<<24 || sequencesPerToken < 1 || sequencesPerToken > MaxSequences {
		return nil, fail("new batch", ErrInvalid, "capacity %d must be in 1..%d, sequences per token %d in 1..%d", capacity, 1<<24, sequencesPerToken, MaxSequences)
	}
	b := &Batch{c: C.llama_batch_init(C.int32_t(capacity), 0, C.int32_t(sequencesPerToken)), cap: capacity, perTok: sequencesPerToken}
	if b.c.token == nil || b.c.pos == nil || b.c.n_seq_id == nil || b.c.seq_id == nil || b.c.logits == nil {
		C.llama_batch_free(b.c)
		return nil, fail("new batch", ErrNoMemory, "capacity %d", capacity)
	}
	b.tokens = unsafe.Slice((*Token)(unsafe.Pointer(b.c.token)), capacity)
	b.pos = unsafe.Slice((*int32)(unsafe.Pointer(b.c.pos)), capacity)
	b.nSeq = unsafe.Slice((*int32)(unsafe.Pointer(b.c.n_seq_id)), capacity)
	b.seqs = unsafe.Slice((**C.llama_seq_id)(unsafe.Pointer(b.c.seq_id)), capacity)
	b.output = unsafe.Slice((*int8)(unsafe.Pointer(b.c.logits)), capacity)
	owners.batch.Add(1)
	return b, nil
}

// Add appends a token at a position of one or several sequences. output asks for its row of logits or embeddings,
// which Context.Logits finds under the index that the token has in this batch.
func (b *Batch) Add(token Token, pos int, output bool, sequences ...int) error {
	b.touched++
	n := int(b.c.n_tokens)
	switch {
	case b.closed:
		return fail("batch", ErrClosed, "")
	case n == b.cap:
		return fail("batch", ErrBatch, "full with %d tokens", b.cap)
	case pos < 0 || pos > maxPos:
		return fail("batch", ErrBatch, "position %d must be in 0..%d", pos, maxPos)
	case len(sequences) < 1 || len(sequences) > b.perTok:
		return fail("batch", ErrBatch, "a token needs 1..%d sequences, not %d", b.perTok, len(sequences))
	}
	seqs := unsafe.Slice((*int32)(unsafe.Pointer(b.seqs[n])), b.perTok)
	for i, s := range sequences {
		if s < 0 || s >= MaxSequences {
			return fail("batch", ErrBatch, "sequence %d must be in 0..%d", s, MaxSequences-1)
		}
		seqs[i] = int32(s)
	}
	b.tokens[n], b.pos[n], b.nSeq[n], b.output[n] = token, int32(pos), int32(len(sequences)), 0
	if output {
		b.output[n] = 1
	}
	b.c.n_tokens++
	return nil
}

// maxPos keeps positions, also shifted ones, far from the end of 32 bits.
const maxPos = 1 << 30

// Len is the number of tokens.
func (b *Batch) Len() int { return int(b.c.n_tokens) }

// Cap is the number of tokens that fit.
func (b *Batch) Cap() int { return b.cap }

// Clear empties the batch for reuse.
func (b *Batch) Clear() {
	b.touched++
	b.c.n_tokens = 0
}

// sequences returns the sequences of token i.
func (b *Batch) sequences(i int) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(b.seqs[i])), b.nSeq[i])
}

// Close releases the arrays. It may be called again.
func (b *Batch) Close() error {
	b.touched++
	if b.closed {
		return nil
	}
	b.closed = true
	C.llama_batch_free(b.c)
	b.c = C.struct_llama_batch{}
	b.tokens, b.pos, b.nSeq, b.seqs, b.output = nil, nil, nil, nil, nil
	owners.batch.Add(-1)
	return nil
}
