package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"math"
	"strings"
	"unsafe"
)

// Stage is one step of a Sampler. The constructors below are llama.h's samplers; wrong parameters come back as an error
// of NewSampler.
type Stage func(s *Sampler) error

// RandomSeed as a seed lets llama.cpp draw one; Sampler.Seed tells which.
const RandomSeed uint32 = C.LLAMA_DEFAULT_SEED

// maxHistory bounds how far penalties look back; they keep a buffer of that size.
const maxHistory = 1 << 20

func stage(make func() *C.struct_llama_sampler) Stage {
	return func(s *Sampler) error {
		C.core_sampler_add(s.ptr, make())
		return nil
	}
}

func broken(format string, args ...any) Stage {
	return func(*Sampler) error { return fail("new sampler", ErrInvalid, format, args...) }
}

// Greedy chooses the most likely token.
func Greedy() Stage {
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_greedy() })
}

// Dist chooses by probability.
func Dist(seed uint32) Stage {
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_dist(C.uint32_t(seed)) })
}

// TopK keeps the k most likely tokens; k below 1 keeps all. (https://arxiv.org/abs/1904.09751)
func TopK(k int) Stage {
	k = max(0, min(k, math.MaxInt32))
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_top_k(C.int32_t(k)) })
}

// TopP keeps the most likely tokens whose probabilities sum to p, at least keep. (https://arxiv.org/abs/1904.09751)
func TopP(p float32, keep int) Stage {
	if !finite(p) || keep < 0 {
		return broken("top-p %v, keep %d", p, keep)
	}
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_top_p(C.float(p), C.size_t(keep)) })
}

// MinP keeps tokens at least p times as likely as the most likely one, at least keep.
// (https://github.com/ggml-org/llama.cpp/pull/3841)
func MinP(p float32, keep int) Stage {
	if !finite(p) || keep < 0 {
		return broken("min-p %v, keep %d", p, keep)
	}
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_min_p(C.float(p), C.size_t(keep)) })
}

// Typical keeps tokens of about the expected surprise, probabilities summing to p. (https://arxiv.org/abs/2202.00666)
func Typical(p float32, keep int) Stage {
	if !finite(p) || keep < 0 {
		return broken("typical-p %v, keep %d", p, keep)
	}
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_typical(C.float(p), C.size_t(keep)) })
}

// Temp divides logits by t; at 0 or below only the most likely token stays.
func Temp(t float32) Stage {
	if !finite(t) {
		return broken("temperature %v", t)
	}
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_temp(C.float(t)) })
}

// TempExt is a temperature between t-delta and t+delta that grows with the entropy. (https://arxiv.org/abs/2309.02772)
func TempExt(t, delta, exponent float32) Stage {
	if !finite(t) || !finite(delta) || !finite(exponent) {
		return broken("temperature %v, delta %v, exponent %v", t, delta, exponent)
	}
	return stage(func() *C.struct_llama_sampler {
		return C.llama_sampler_init_temp_ext(C.float(t), C.float(delta), C.float(exponent))
	})
}

// XTC drops, with probability p, all tokens above threshold t but the least likely of them, at least keep.
// (https://github.com/oobabooga/text-generation-webui/pull/6335)
func XTC(p, t float32, keep int, seed uint32) Stage {
	if !finite(p) || !finite(t) || keep < 0 {
		return broken("xtc probability %v, threshold %v, keep %d", p, t, keep)
	}
	return stage(func() *C.struct_llama_sampler {
		return C.llama_sampler_init_xtc(C.float(p), C.float(t), C.size_t(keep), C.uint32_t(seed))
	})
}

// TopNSigma keeps tokens within n standard deviations of the best logit. (https://arxiv.org/abs/2411.07641)
func TopNSigma(n float32) Stage {
	if !finite(n) {
		return broken("top-n-sigma %v", n)
	}
	return stage(func() *C.struct_llama_sampler { return C.llama_sampler_init_top_n_sigma(C.float(n)) })
}

// Mirostat chooses a token so that surprise stays near tau; eta is the learning rate, m the number of tokens in its
// estimate, usually 100. (https://arxiv.org/abs/2007.14966)
func Mirostat(seed uint32, tau, eta float32, m int) Stage {
	if !finite(tau) || !finite(eta) || m < 1 || m > 1<<20 {
		return broken("mirostat tau %v, eta %v, m %d", tau, eta, m)
	}
	return func(s *Sampler) error {
		C.core_sampler_add(s.ptr, C.llama_sampler_init_mirostat(C.int32_t(s.m.vocab.n), C.uint32_t(seed), C.float(tau), C.float(eta), C.int32_t(m)))
		return nil
	}
}

// MirostatV2 is the second version of Mirostat.
func MirostatV2(seed uint32, tau, eta float32) Stage {
	if !finite(tau) || !finite(eta) {
		return broken("mirostat tau %v, eta %v", tau, eta)
	}
	return stage(func() *C.struct_llama_sampler {
		return C.llama_sampler_init_mirostat_v2(C.uint32_t(seed), C.float(tau), C.float(eta))
	})
}

// AdaptiveP chooses tokens near the probability target over time; decay is how long it remembers, 0..0.99.
// (https://github.com/ggml-org/llama.cpp/pull/17927)
func AdaptiveP(target, decay float32, seed uint32) Stage {
	if !finite(target) || target > 1 || !finite(decay) || decay < 0 || decay > 0.99 {
		return broken("adaptive-p target %v must be at most 1, decay %v in 0..0.99", target, decay)
	}
	return stage(func() *C.struct_llama_sampler {
		return C.llama_sampler_init_adaptive_p(C.float(target), C.float(decay), C.uint32_t(seed))
	})
}

// Penalties lowers tokens among the last lastN accepted ones: repeat divides (above 0, 1 is off), frequency subtracts
// per occurrence, presence once. Put it after a stage that cuts, as it looks at each candidate.
func Penalties(lastN int, repeat, frequency, presence float32) Stage {
	if lastN < 0 || lastN > maxHistory || !finite(repeat) || repeat <= 0 || !finite(frequency) || !finite(presence) {
		return broken("penalties: last %d must be in 0..%d, repeat %v above 0, frequency %v and presence %v finite", lastN, maxHistory, repeat, frequency, presence)
	}
	return func(s *Sampler) error {
		C.core_sampler_add(s.ptr, C.llama_sampler_init_penalties(C.int32_t(s.m.vocab.n), C.int32_t(lastN), C.float(repeat), C.float(frequency), C.float(presence)))
		return nil
	}
}

// DRY lowers tokens that would continue a repetition longer than allowed tokens, by multiplier·base^(length-allowed),
// looking back lastN tokens. Repetitions end at breakers. (https://github.com/oobabooga/text-generation-webui/pull/5677)
func DRY(multiplier, base float32, allowed, lastN int, breakers []string) Stage {
	if !finite(multiplier) || !finite(base) || allowed < 0 || allowed > maxHistory || lastN < 0 || lastN > maxHistory {
		return broken("dry: multiplier %v, base %v, allowed %d, last %d must be in 0..%d", multiplier, base, allowed, lastN, maxHistory)
	}
	return func(s *Sampler) error {
		if len(breakers) > 0 && s.m.vocab.kind == VocabNone {
			return fail("new sampler", ErrUnsupported, "dry needs a tokenizer for its breakers")
		}
		array, free := cStrings(breakers)
		defer free()
		var e C.core_err
		st := C.core_sampler_init_dry(s.m.vocab.ptr, C.float(multiplier), C.float(base), C.int32_t(allowed), C.int32_t(lastN), array, C.size_t(len(breakers)), &e)
		if st == nil {
			return cFailure("new sampler", 0, &e, ErrInvalid)
		}
		C.core_sampler_add(s.ptr, st)
		return nil
	}
}

// LogitBias adds to the logits of tokens; -Inf forbids one.
func LogitBias(bias map[Token]float32) Stage {
	return func(s *Sampler) error {
		list := make([]C.llama_logit_bias, 0, len(bias))
		for t, b := range bias {
			if t < 0 || int(t) >= s.m.vocab.n {
				return fail("new sampler", ErrToken, "logit bias of token %d, which is not in 0..%d", t, s.m.vocab.n-1)
			}
			if b != b || math.IsInf(float64(b), 1) {
				return fail("new sampler", ErrInvalid, "logit bias %v of token %d", b, t)
			}
			list = append(list, C.llama_logit_bias{token: C.llama_token(t), bias: C.float(b)})
		}
		C.core_sampler_add(s.ptr, C.llama_sampler_init_logit_bias(C.int32_t(s.m.vocab.n), C.int32_t(len(list)), unsafe.SliceData(list)))
		return nil
	}
}

// Suppressed lists the tokens that the model's file wants never to be generated; LogitBias can forbid them.
func (v *Vocab) Suppressed() []Token {
	if v.use() != nil {
		return nil
	}
	defer v.m.mu.RUnlock()
	var n C.int32_t
	list := C.llama_vocab_get_suppress_tokens(v.ptr, &n)
	var tokens []Token
	for _, t := range unsafe.Slice(list, n) {
		if t >= 0 && int(t) < v.n {
			tokens = append(tokens, Token(t))
		}
	}
	return tokens
}

// Infill is for filling in the middle, after TopK and TopP: it merges tokens that are prefixes of each other and ends
// when ending is likely.
func Infill() Stage {
	return func(s *Sampler) error {
		if sp := s.m.vocab.specials; sp.EOT == NoToken && sp.EOS == NoToken {
			return fail("new sampler", ErrUnsupported, "infill needs a model with an end token")
		}
		C.core_sampler_add(s.ptr, C.llama_sampler_init_infill(s.m.vocab.ptr))
		return nil
	}
}

// Grammar allows only tokens that continue a text of the GBNF grammar, whose start symbol is root. A grammar that cannot
// be parsed is ErrGrammar.
func Grammar(grammar, root string) Stage { return grammarStage(grammar, root, nil, false) }

// Trigger says when a lazy grammar begins.
type Trigger struct {
	// Patterns are ECMAScript regular expressions, searched in everything generated so far; the grammar begins at the
	// first group of a match. The search is repeated for each token and takes longer with the text (a millisecond for
	// some 10 KiB), so a grammar that has not begun within 64 KiB never does.
	Patterns []string
	// Tokens begin the grammar, and are its first token.
	Tokens []Token
}

// LazyGrammar is a Grammar that allows everything until its trigger.
func LazyGrammar(grammar, root string, trigger Trigger) Stage {
	return grammarStage(grammar, root, &trigger, true)
}

func grammarStage(grammar, root string, trigger *Trigger, lazy bool) Stage {
	return func(s *Sampler) error {
		const op = "grammar"
		if err := checkGrammar(grammar, root); err != nil {
			return err
		}
		if s.m.vocab.kind == VocabNone {
			return fail(op, ErrUnsupported, "the model has no tokenizer")
		}
		cgrammar, croot := C.CString(grammar), C.CString(root)
		defer C.free(unsafe.Pointer(cgrammar))
		defer C.free(unsafe.Pointer(croot))
		var patterns **C.char
		var nPatterns, nTokens int
		var tokens *C.llama_token
		if lazy {
			for _, t := range trigger.Tokens {
				if t < 0 || int(t) >= s.m.vocab.n {
					return fail(op, ErrToken, "trigger %d is not in 0..%d", t, s.m.vocab.n-1)
				}
			}
			for _, p := range trigger.Patterns {
				if strings.ContainsRune(p, 0) || len(p) > maxPattern {
					return fail(op, ErrInvalid, "a trigger pattern has %d bytes or a NUL; at most %d", len(p), maxPattern)
				}
			}
			searched := make([]string, len(trigger.Patterns))
			for i, p := range trigger.Patterns {
				searched[i] = p
				// Searching anywhere for "anything, then a group" takes quadratic time and finds the same group.
				if rest, ok := strings.CutPrefix(p, `[\s\S]*?(`); ok && !strings.HasPrefix(rest, "?") {
					searched[i] = "(" + rest
				}
			}
			array, free := cStrings(searched)
			defer free()
			patterns, nPatterns = array, len(trigger.Patterns)
			nTokens = len(trigger.Tokens)
			tokens = (*C.llama_token)(unsafe.Pointer(unsafe.SliceData(trigger.Tokens)))
		}
		var e C.core_err
		if !C.core_sampler_add_grammar(s.ptr, s.m.vocab.ptr, cgrammar, croot, C.bool(lazy), patterns, C.size_t(nPatterns), tokens, C.size_t(nTokens), &e) {
			return cFailure(op, 0, &e, ErrGrammar)
		}
		return nil
	}
}

// maxPattern bounds a trigger pattern; compiling one recurses over its length.
const maxPattern = 4096
