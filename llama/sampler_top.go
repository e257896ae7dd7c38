package llama

// #include "core_shim.h"
import "C"

import (
	"math"
	"unsafe"
)

// Top finds the likeliest tokens without a list of all. It is plain Go memory to be reused, one per goroutine that samples;
// the zero value is ready.
type Top struct {
	// Items are in the order of ids.
	Items []Candidate
	// Least is the logit of the least likely of them.
	Least  float32
	maxima []float32
}

// slack is how many more tokens than asked for there may be: those in the same blocks that are as likely.
const slack = 8

// Find fills Items with at least k tokens: all that are as likely as the least likely of them, or likelier. NaN counts as
// -Inf. It returns false where only a list of all tokens does: k is a large part of the vocabulary, or very many tokens are
// equally likely.
func (t *Top) Find(logits []float32, k int) bool {
	blocks := (len(logits) + C.CORE_TOP_BLOCK - 1) / C.CORE_TOP_BLOCK
	if k < 1 || k > blocks {
		return false
	}
	if len(t.maxima) < 2*blocks {
		t.maxima = make([]float32, 2*blocks)
	}
	room := slack * (k + C.CORE_TOP_BLOCK)
	if cap(t.Items) < room {
		t.Items = make([]Candidate, room)
	}
	n := C.core_top((*C.float)(&logits[0]), C.size_t(len(logits)), C.size_t(k), (*C.float)(&t.maxima[0]), (*C.float)(&t.maxima[blocks]),
		(*C.llama_token_data)(unsafe.Pointer(unsafe.SliceData(t.Items))), C.size_t(room))
	t.Items = t.Items[:n]
	t.Least = float32(math.Inf(1))
	for _, c := range t.Items {
		t.Least = min(t.Least, c.Logit)
	}
	return n > 0
}

// Pick fills in some tokens, in the order given, with their logits.
func (c *Candidates) Pick(logits []float32, tokens []Token) {
	c.Items = c.Items[:0]
	for _, t := range tokens {
		c.Items = append(c.Items, Candidate{ID: t, Logit: sortable(logits[t])})
	}
	c.Selected, c.Sorted = -1, false
}

// sortable is a logit, or -Inf instead of NaN, which samplers cannot sort.
func sortable(logit float32) float32 {
	if logit != logit {
		return float32(math.Inf(-1))
	}
	return logit
}
