package llama

// #include "core_shim.h"
import "C"

// Memory is what a Context remembers: the KV cache, or the state of a recurrent model. It belongs to the Context and to
// its goroutine.
//
// Positions are ranges [from, to): a negative from is 0, a negative to is the end. A model without a decoder has no
// memory; every method then returns ErrUnsupported and positions are -1.
type Memory struct{ c *Context }

// Memory returns the context's memory.
func (c *Context) Memory() Memory { return Memory{c} }

func (m Memory) use(op string, sequences ...int) error {
	m.c.touched++
	switch {
	case m.c.ptr == nil:
		return fail(op, ErrClosed, "the context was closed")
	case !m.c.hasMemory:
		return fail(op, ErrUnsupported, "the model has no memory")
	}
	for _, s := range sequences {
		if s < 0 || s >= m.c.seqLimit {
			return fail(op, ErrInvalid, "sequence %d must be in 0..%d", s, m.c.seqLimit-1)
		}
	}
	return nil
}

func (m Memory) call(op string, what C.enum_core_mem_op, a, b, from, to, arg int) error {
	if from > maxPos || to > maxPos {
		return fail(op, ErrInvalid, "positions %d..%d; at most %d", from, to, maxPos)
	}
	if !C.core_memory(m.c.ptr, what, C.int32_t(a), C.int32_t(b), C.int32_t(max(from, -1)), C.int32_t(max(to, -1)), C.int32_t(arg), m.c.err) {
		return cFailure(op, 0, m.c.err, ErrUnsupported)
	}
	return nil
}

// Remove forgets the tokens of a sequence in [from, to). Recurrent and hybrid models forget only whole sequences, and
// sliding-window ones only what their window still holds: anything else is ErrUnsupported.
func (m Memory) Remove(sequence, from, to int) error {
	const op = "remove sequence"
	if err := m.use(op, sequence); err != nil {
		return err
	}
	return m.call(op, C.CORE_MEM_RM, sequence, 0, from, to, 0)
}

// Copy gives the tokens of one sequence in [from, to) to another as well, which should be empty there. With a unified
// KV cache they are shared and it costs microseconds; without, the whole buffer is copied at the next Decode and only
// whole sequences can be.
func (m Memory) Copy(source, target, from, to int) error {
	const op = "copy sequence"
	if err := m.use(op, source, target); err != nil {
		return err
	}
	whole := from <= 0 && (to < 0 || to > m.PosMax(source))
	if !whole && (!m.c.params.UnifiedKV || m.c.m.facts.Recurrent || m.c.m.facts.Hybrid) {
		return fail(op, ErrUnsupported, "only whole sequences can be copied here")
	}
	if whole {
		from, to = -1, -1
	}
	return m.call(op, C.CORE_MEM_CP, source, target, from, to, 0)
}

// Keep forgets everything but one sequence. Without a unified KV cache it is that sequence's own cache which is
// cleaned; the others keep theirs.
func (m Memory) Keep(sequence int) error {
	const op = "keep sequence"
	if err := m.use(op, sequence); err != nil {
		return err
	}
	return m.call(op, C.CORE_MEM_KEEP, sequence, 0, -1, -1, 0)
}

// Shift adds delta to the positions of a sequence's tokens in [from, to); tokens that fall below 0 are forgotten. Tokens
// shared with other sequences move for them too. The rotation is applied at the next Decode. It needs CanShift.
func (m Memory) Shift(sequence, from, to, delta int) error {
	const op = "shift sequence"
	if err := m.use(op, sequence); err != nil {
		return err
	}
	if !m.canShift() {
		return fail(op, ErrUnsupported, "the model's memory cannot be shifted")
	}
	if last := m.PosMax(sequence); last+delta > maxPos || delta < -maxPos || delta > maxPos {
		return fail(op, ErrInvalid, "%d tokens further on lies past %d", delta, maxPos)
	}
	return m.call(op, C.CORE_MEM_ADD, sequence, 0, from, to, delta)
}

// Divide divides the positions of a sequence's tokens in [from, to) by divisor, which must be at least 1. It needs
// CanShift.
func (m Memory) Divide(sequence, from, to, divisor int) error {
	const op = "divide sequence"
	if err := m.use(op, sequence); err != nil {
		return err
	}
	if !m.canShift() {
		return fail(op, ErrUnsupported, "the model's memory cannot be shifted")
	}
	if divisor < 1 || divisor > maxPos {
		return fail(op, ErrInvalid, "divisor %d must be in 1..%d", divisor, maxPos)
	}
	return m.call(op, C.CORE_MEM_DIV, sequence, 0, from, to, divisor)
}

// Clear forgets everything. With data it overwrites the buffers too, which costs time and is needed only for hygiene.
func (m Memory) Clear(data bool) error {
	const op = "clear memory"
	if err := m.use(op); err != nil {
		return err
	}
	arg := 0
	if data {
		arg = 1
	}
	return m.call(op, C.CORE_MEM_CLEAR, 0, 0, -1, -1, arg)
}

// PosMin is the smallest position that a sequence has, -1 when it has none. It is above 0 where a sliding window or
// Remove dropped the beginning.
func (m Memory) PosMin(sequence int) int {
	if m.use("", sequence) != nil {
		return -1
	}
	return int(C.llama_memory_seq_pos_min(C.llama_get_memory(m.c.ptr), C.llama_seq_id(sequence)))
}

// PosMax is the largest position that a sequence has, -1 when it has none: the next token goes to PosMax+1.
func (m Memory) PosMax(sequence int) int {
	if m.use("", sequence) != nil {
		return -1
	}
	return int(C.llama_memory_seq_pos_max(C.llama_get_memory(m.c.ptr), C.llama_seq_id(sequence)))
}

// CanShift tells whether Shift and Divide work.
func (m Memory) CanShift() bool { return m.use("") == nil && m.canShift() }

func (m Memory) canShift() bool { return bool(C.llama_memory_can_shift(C.llama_get_memory(m.c.ptr))) }
