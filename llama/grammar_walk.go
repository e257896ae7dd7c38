package llama

// #include "core_shim.h"
import "C"

import (
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Spellings are the tokens of a vocabulary by their texts, as grammars walk along them. They are plain Go memory of some 30
// bytes a token, and safe for concurrent use.
type Spellings struct {
	n       int // tokens of the vocabulary
	nodes   []C.core_node
	tokens  []C.llama_token
	partial []C.llama_token
	ends    []C.llama_token
	odd     []C.llama_token
}

// Spellings sorts the vocabulary, which takes about a microsecond a token.
func (v *Vocab) Spellings() (*Spellings, error) {
	type spelling struct {
		text string // whole characters
		id   C.llama_token
		part bool // of another character follows
	}
	s := &Spellings{n: v.n}
	all := make([]spelling, 0, v.n)
	var piece []byte
	var err error
	for t := range Token(v.n) {
		if v.IsEOG(t) {
			s.ends = append(s.ends, C.llama_token(t))
			continue
		}
		if piece, err = v.AppendPiece(piece[:0], t, true); err != nil {
			return nil, err
		}
		whole := 0
		for whole < len(piece) {
			r, size := utf8.DecodeRune(piece[whole:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			whole += size
		}
		switch rest := piece[whole:]; {
		case len(piece) == 0 || strings.IndexByte(string(piece), 0) >= 0:
			// llama.cpp's grammars read texts up to the first NUL, and allow no empty one.
			if len(piece) > 0 && piece[0] != 0 {
				s.odd = append(s.odd, C.llama_token(t))
			}
		case len(rest) == 0 || !utf8.FullRune(rest):
			all = append(all, spelling{string(piece[:whole]), C.llama_token(t), len(rest) > 0})
		case rest[0]&0xC0 != 0x80: // a character never begins so in a grammar; other bytes llama.cpp takes as they come
			s.odd = append(s.odd, C.llama_token(t))
		}
	}
	slices.SortFunc(all, func(a, b spelling) int { return strings.Compare(a.text, b.text) })

	s.nodes = []C.core_node{{}}
	path := []int{0} // nodes of the present text, the root first
	ends := []int{0} // the texts' lengths there
	before := ""
	for _, one := range all {
		for !strings.HasPrefix(one.text, before[:ends[len(ends)-1]]) {
			last := path[len(path)-1]
			s.nodes[last].end = C.int32_t(len(s.nodes))
			path, ends = path[:len(path)-1], ends[:len(ends)-1]
		}
		for at := ends[len(ends)-1]; at < len(one.text); {
			r, size := utf8.DecodeRuneInString(one.text[at:])
			at += size
			path, ends = append(path, len(s.nodes)), append(ends, at)
			s.nodes = append(s.nodes, C.core_node{c: C.uint32_t(r), tokens: C.int32_t(len(s.tokens)), partial: C.int32_t(len(s.partial))})
		}
		if before = one.text; one.part {
			s.partial = append(s.partial, one.id)
		} else {
			s.tokens = append(s.tokens, one.id)
		}
	}
	for _, node := range path {
		s.nodes[node].end = C.int32_t(len(s.nodes))
	}
	s.nodes = append(s.nodes, C.core_node{tokens: C.int32_t(len(s.tokens)), partial: C.int32_t(len(s.partial))})
	return s, nil
}

// Set is a set of tokens, one bit each.
type Set []uint64

// Allowed fills a set with the tokens that the chain's grammar allows next. It returns false when it can't tell, and only
// Apply can: there are several grammars, or one that constrains nothing yet, has tokens in it, or stands inside a character;
// or there is more to look at than the budget, a number of texts.
func (s *Sampler) Allowed(spellings *Spellings, budget int, into *Set) (bool, error) {
	const op = "grammar"
	s.touched++
	if s.ptr == nil {
		return false, fail(op, ErrClosed, "the sampler was closed")
	}
	grammar := C.core_sampler_grammar(s.ptr)
	if grammar == nil {
		return false, nil
	}
	words := (spellings.n + 63) / 64
	if cap(*into) < words {
		*into = make(Set, words)
	}
	*into = (*into)[:words]
	clear(*into)
	var pin runtime.Pinner
	defer pin.Unpin()
	list := func(tokens []C.llama_token) *C.llama_token {
		p := unsafe.SliceData(tokens)
		if p != nil {
			pin.Pin(p)
		}
		return p
	}
	pin.Pin(&spellings.nodes[0])
	c := C.core_spellings{
		nodes: &spellings.nodes[0], tokens: list(spellings.tokens), partial: list(spellings.partial),
		ends: list(spellings.ends), n_ends: C.size_t(len(spellings.ends)), odd: list(spellings.odd), n_odd: C.size_t(len(spellings.odd)),
	}
	ok := C.core_grammar_allowed(grammar, &c, C.int64_t(budget), (*C.uint64_t)(&(*into)[0]), &s.io.err)
	if s.io.err.kind != C.CORE_OK {
		return false, cFailure(op, 0, &s.io.err, ErrGrammar)
	}
	return bool(ok), nil
}

// PickSet fills in the tokens of a set, in the order of ids, with their logits.
func (c *Candidates) PickSet(logits []float32, set Set) {
	c.Items = c.Items[:0]
	for w, word := range set {
		for ; word != 0; word &= word - 1 {
			t := w*64 + bits.TrailingZeros64(word)
			c.Items = append(c.Items, Candidate{ID: Token(t), Logit: sortable(logits[t])})
		}
	}
	c.Selected, c.Sorted = -1, false
}

// Forced is the text that the chain's grammar forces next, whole characters of at most n bytes; empty when there is a choice.
// complete tells that nothing but an end of generation can follow.
func (s *Sampler) Forced(n int) (text string, complete bool, err error) {
	const op = "grammar"
	s.touched++
	if s.ptr == nil {
		return "", false, fail(op, ErrClosed, "the sampler was closed")
	}
	grammar := C.core_sampler_grammar(s.ptr)
	if grammar == nil || n < 1 {
		return "", false, nil
	}
	buffer := make([]byte, n)
	length := C.core_grammar_forced(grammar, (*C.char)(unsafe.Pointer(&buffer[0])), C.size_t(n), (*C.bool)(&s.io.complete), &s.io.err)
	if s.io.err.kind != C.CORE_OK {
		return "", false, cFailure(op, 0, &s.io.err, ErrGrammar)
	}
	return string(buffer[:length]), bool(s.io.complete), nil
}
