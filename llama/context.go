package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"context"
	"math"
	"unsafe"
)

// Context computes on a model: it owns the KV cache and the outputs of its last Decode or Encode. It belongs to one
// goroutine at a time; only Model and Close's refusals know of others. Its owner closes it, before the model.
type Context struct {
	m      *Model
	ptr    *C.struct_llama_context
	stop   *C.core_stop
	params ContextParams

	nCtx, nCtxSeq, nBatch, nUBatch, nSeq, seqLimit, maxOutputs int
	pooling                                                    Pooling
	causal, embeddings, hasMemory, encoded                     bool

	outputs []int8 // which tokens of the last batch have an output
	nOut    int
	last    [MaxSequences]int32 // scratch of check
	loras   []*LoRA
	err     *C.core_err // on the C heap, so that Decode allocates nothing
	id      uint64      // of model and parameters, for states

	touched uint64 // lets the race detector see two goroutines here
}

// NewContext makes a context on a model.
func NewContext(m *Model, p ContextParams) (*Context, error) {
	const op = "new context"
	if err := p.validate(m); err != nil {
		return nil, err
	}
	if err := m.adopt(op); err != nil {
		return nil, err
	}
	stop := C.core_stop_new()
	var e C.core_err
	var ptr *C.struct_llama_context
	if stop != nil {
		ptr = C.core_context_new(m.ptr, p.c(), stop, &e)
	}
	if ptr == nil {
		C.core_stop_free(stop)
		m.disown()
		return nil, cFailure(op, 0, &e, ErrInvalid)
	}
	c := &Context{
		m: m, ptr: ptr, stop: stop, params: p,
		nCtx: int(C.llama_n_ctx(ptr)), nCtxSeq: int(C.llama_n_ctx_seq(ptr)), nBatch: int(C.llama_n_batch(ptr)),
		nUBatch: int(C.llama_n_ubatch(ptr)), nSeq: int(C.llama_n_seq_max(ptr)), pooling: Pooling(C.llama_pooling_type(ptr)),
		hasMemory: C.llama_get_memory(ptr) != nil, embeddings: p.Embeddings,
		err: (*C.core_err)(C.calloc(1, C.size_t(unsafe.Sizeof(C.core_err{})))),
	}
	c.maxOutputs = c.nBatch
	if p.MaxOutputs > 0 && !m.facts.HasEncoder {
		c.maxOutputs = p.MaxOutputs
	}
	c.causal = p.causal(m)
	// With one KV cache for all sequences llama.cpp takes any id; recurrent state has a slot for each of nSeq.
	c.seqLimit = c.nSeq
	if p.UnifiedKV && !m.facts.Recurrent && !m.facts.Hybrid {
		c.seqLimit = MaxSequences
	}
	c.id = stateID(m, p)
	c.SetThreads(p.Threads, p.BatchThreads)
	owners.context.Add(1)
	return c, nil
}

// Model returns the model that the context computes on.
func (c *Context) Model() *Model { return c.m }

// ContextSize is the number of tokens that the KV cache holds, for all sequences together.
func (c *Context) ContextSize() int { return c.nCtx }

// SequenceSize is the number of tokens that one sequence may have: the whole context with a unified KV cache.
func (c *Context) SequenceSize() int { return c.nCtxSeq }

// BatchSize is the most tokens that one Decode takes; for models without causal attention UBatchSize is.
func (c *Context) BatchSize() int { return c.nBatch }

// UBatchSize is the most tokens that are computed at once, and that one Encode takes.
func (c *Context) UBatchSize() int { return c.nUBatch }

// Sequences is the number of sequences that may run at once.
func (c *Context) Sequences() int { return c.nSeq }

// SequenceLimit is the number of valid sequence ids: ids are below it. With a unified KV cache there are more of them
// than Sequences; the others can hold cached prefixes.
func (c *Context) SequenceLimit() int { return c.seqLimit }

// Pooling is what the context does with embeddings, after the model's own choice was taken.
func (c *Context) Pooling() Pooling { return c.pooling }

// Causal tells whether tokens attend only to earlier ones.
func (c *Context) Causal() bool { return c.causal }

// Decode computes a batch. When ctx ends while it runs, it stops within about one operation of the graph on a CPU (a
// GPU finishes its micro-batch) and returns ErrAborted; micro-batches computed before stay in memory. ErrNoKVSlot means
// that there was no room, and ErrBatch that the batch was refused: both left everything as it was. After ErrCompute the
// context should be closed.
//
// For models without a decoder, such as BERT, it encodes.
func (c *Context) Decode(ctx context.Context, b *Batch) error { return c.compute(ctx, b, false) }

// Encode computes a batch with the encoder: for encoder-decoder models before the first Decode, and for models that
// have only an encoder. The whole batch must fit UBatchSize, and nothing stays in memory. Errors are those of Decode.
func (c *Context) Encode(ctx context.Context, b *Batch) error { return c.compute(ctx, b, true) }

func (c *Context) compute(ctx context.Context, b *Batch, encode bool) error {
	op := "decode"
	if encode {
		op = "encode"
	}
	c.touched++
	b.touched++
	c.nOut = 0
	if err := c.check(op, b, encode); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return aborted(ctx, op)
	}
	code := c.run(ctx, b, encode)
	switch code {
	case 0:
		c.encoded = c.encoded || encode
		c.outputs = append(c.outputs[:0], b.output[:b.Len()]...)
		if encode || c.embeddings || !c.hasMemory {
			for i := range c.outputs {
				c.outputs[i] = 1
			}
		}
		c.nOut = len(c.outputs)
		return nil
	case 1:
		return cFailure(op, code, c.err, ErrNoKVSlot)
	case 2:
		c.settle(b)
		return aborted(ctx, op)
	case -1:
		return cFailure(op, code, c.err, ErrBatch)
	default:
		c.settle(b)
		return cFailure(op, code, c.err, ErrCompute)
	}
}

// run calls into C with ctx hooked to the stop flag, which C polls; no Go runs while it computes.
func (c *Context) run(ctx context.Context, b *Batch, encode bool) int {
	if ctx.Done() == nil {
		return int(C.core_decode(c.ptr, b.c, C.bool(encode), c.err))
	}
	C.core_stop_set(c.stop, 0)
	fired := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() { C.core_stop_set(c.stop, 1); close(fired) })
	code := int(C.core_decode(c.ptr, b.c, C.bool(encode), c.err))
	if !unhook() {
		<-fired // a late stop must not hit the next batch
		C.core_stop_set(c.stop, 0)
	}
	return code
}

// settle repairs what llama.cpp leaves behind when it drops a micro-batch: it takes the tokens from the first of their
// sequences only.
func (c *Context) settle(b *Batch) {
	if !c.hasMemory {
		return
	}
	mem := c.Memory()
	for i := range b.Len() {
		seqs := b.sequences(i)
		for _, s := range seqs[1:] {
			if last := mem.PosMax(int(seqs[0])); mem.PosMax(int(s)) > last {
				_ = mem.Remove(int(s), last+1, -1)
			}
		}
	}
}

// HasMemory tells whether the context remembers what it decodes. BERT and its kind don't: they encode.
func (c *Context) HasMemory() bool { return c.hasMemory }

// check refuses everything that would abort inside llama.cpp or corrupt its memory. llama.cpp itself checks that
// positions continue what is in memory.
func (c *Context) check(op string, b *Batch, encode bool) error {
	n := b.Len()
	encoder := encode || !c.hasMemory
	switch {
	case c.ptr == nil:
		return fail(op, ErrClosed, "the context was closed")
	case b.closed:
		return fail(op, ErrClosed, "the batch was closed")
	case encode && !c.m.facts.HasEncoder && c.hasMemory:
		return fail(op, ErrUnsupported, "the model has no encoder")
	case n == 0:
		return fail(op, ErrBatch, "it is empty")
	case n > c.nBatch:
		return fail(op, ErrBatch, "%d tokens; BatchSize is %d", n, c.nBatch)
	case (encoder || !c.causal) && n > c.nUBatch:
		return fail(op, ErrBatch, "%d tokens must be computed at once; UBatchSize is %d", n, c.nUBatch)
	case !encode && c.hasMemory && c.m.facts.HasEncoder && !c.encoded:
		return fail(op, ErrBatch, "an encoder-decoder model needs Encode first")
	}
	for i := range c.last {
		c.last[i] = -1
	}
	outputs, maxPositions := 0, c.m.facts.MaxPositions
	if c.embeddings || encoder {
		outputs = n
	}
	for i, t := range b.tokens[:n] {
		if t < 0 || int(t) >= c.m.vocab.n {
			return fail(op, ErrBatch, "token %d of the batch is %d; the vocabulary has %d", i, t, c.m.vocab.n)
		}
		pos := b.pos[i]
		if maxPositions > 0 && int(pos) >= maxPositions {
			return fail(op, ErrBatch, "position %d; the model has %d", pos, maxPositions)
		}
		for _, s := range b.sequences(i) {
			if int(s) >= c.seqLimit {
				return fail(op, ErrBatch, "sequence %d; ids must be below %d", s, c.seqLimit)
			}
			if pos <= c.last[s] {
				return fail(op, ErrBatch, "token %d of the batch has position %d, after %d of the same sequence %d", i, pos, c.last[s], s)
			}
			c.last[s] = pos
		}
		if outputs < n && b.output[i] != 0 {
			outputs++
		}
	}
	if outputs > c.maxOutputs {
		return fail(op, ErrBatch, "%d outputs; at most %d", outputs, c.maxOutputs)
	}
	return nil
}

// row tells whether token i of the last batch has an output; -1 is the last token that has one.
func (c *Context) row(op string, i int) error {
	switch {
	case c.ptr == nil:
		return fail(op, ErrClosed, "the context was closed")
	case i < -1 || i >= c.nOut:
		return fail(op, ErrNoOutput, "row %d; the last batch had %d tokens", i, c.nOut)
	case i >= 0 && c.outputs[i] == 0:
		return fail(op, ErrNoOutput, "token %d of the last batch was not marked as an output", i)
	}
	return nil
}

// Logits returns the logits after token i of the last batch, one per token of the vocabulary; -1 means the last output.
// The slice is borrowed: it is valid until the next Decode, Encode or Close.
func (c *Context) Logits(i int) ([]float32, error) {
	c.touched++
	if err := c.row("logits", i); err != nil {
		return nil, err
	}
	return borrowed("logits", C.llama_get_logits_ith(c.ptr, C.int32_t(i)), c.m.vocab.n)
}

// Embedding returns the embedding of token i of the last batch, EmbeddingOut floats; -1 means the last output. It needs
// Embeddings and PoolingNone. The slice is borrowed: it is valid until the next Decode, Encode or Close.
func (c *Context) Embedding(i int) ([]float32, error) {
	c.touched++
	if !c.embeddings || c.pooling != PoolingNone {
		return nil, fail("embedding", ErrNoOutput, "the context computes no embeddings of single tokens")
	}
	if err := c.row("embedding", i); err != nil {
		return nil, err
	}
	return borrowed("embedding", C.llama_get_embeddings_ith(c.ptr, C.int32_t(i)), c.m.facts.EmbeddingOut)
}

// SequenceEmbedding returns the pooled embedding of a sequence of the last batch: EmbeddingOut floats, not normalized,
// or with PoolingRank one score per class. It needs Embeddings and pooling. The slice is borrowed: it is valid until the
// next Decode, Encode or Close.
func (c *Context) SequenceEmbedding(sequence int) ([]float32, error) {
	const op = "sequence embedding"
	c.touched++
	switch {
	case c.ptr == nil:
		return nil, fail(op, ErrClosed, "the context was closed")
	case !c.embeddings || c.pooling == PoolingNone:
		return nil, fail(op, ErrNoOutput, "the context computes no pooled embeddings")
	case c.nOut == 0 || sequence < 0 || sequence >= c.seqLimit:
		return nil, fail(op, ErrNoOutput, "sequence %d was not in the last batch", sequence)
	}
	n := c.m.facts.EmbeddingOut
	if c.pooling == PoolingRank {
		n = max(1, len(c.m.facts.ClassLabels))
	}
	return borrowed(op, C.llama_get_embeddings_seq(c.ptr, C.llama_seq_id(sequence)), n)
}

func borrowed(op string, p *C.float, n int) ([]float32, error) {
	if p == nil {
		return nil, fail(op, ErrNoOutput, "llama.cpp has none")
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(p)), n), nil
}

// SetThreads sets how many threads compute single tokens and how many compute larger batches, from the next Decode on.
// Numbers are brought into 1..512.
func (c *Context) SetThreads(single, batch int) {
	c.touched++
	if c.ptr != nil {
		c.params.Threads, c.params.BatchThreads = clampThreads(single), clampThreads(batch)
		C.llama_set_n_threads(c.ptr, C.int32_t(c.params.Threads), C.int32_t(c.params.BatchThreads))
	}
}

// Threads returns what SetThreads set.
func (c *Context) Threads() (single, batch int) { return c.params.Threads, c.params.BatchThreads }

func clampThreads(n int) int { return max(1, min(n, C.GGML_MAX_N_THREADS)) }

// Synchronize waits until everything that was computed has arrived. Reading outputs does it too; use it to measure.
func (c *Context) Synchronize() {
	c.touched++
	if c.ptr != nil {
		C.llama_synchronize(c.ptr)
	}
}

// Close frees the context with its KV cache and outputs. It may be called again.
func (c *Context) Close() error {
	c.touched++
	if c.ptr == nil {
		return nil
	}
	C.llama_free(c.ptr)
	c.ptr = nil
	C.core_stop_free(c.stop)
	C.free(unsafe.Pointer(c.err))
	c.stop, c.err = nil, nil
	for _, l := range c.loras {
		l.users.Add(-1)
	}
	c.loras = nil
	c.m.disown()
	owners.context.Add(-1)
	return nil
}

func finite(f float32) bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }
