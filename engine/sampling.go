package engine

import (
	"fmt"
	"math"
	"strings"
)

// Sampling says how a token is chosen from the logits. Its stages run in llama.cpp's order: logit bias, penalties, DRY,
// top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, and then the choice. The zero value is greedy;
// DefaultSampling is what a chat client expects. Penalties and DRY look at generated tokens, not at the prompt.
type Sampling struct {
	LogitBias map[Token]float32 // added to logits; -Inf forbids a token

	RepeatPenalty    float32 // divides the logits of tokens that were there; 0 and 1 are off
	PresencePenalty  float32 // is subtracted from them once
	FrequencyPenalty float32 // and this as often as they were there
	PenaltyLastN     int     // tokens that the three look back on; 0 is 64, -1 the whole context

	// DRY (https://github.com/oobabooga/text-generation-webui/pull/5677) lowers tokens that would go on with a repetition of
	// more than DRYAllowedLength tokens by DRYMultiplier·DRYBase^(length-DRYAllowedLength).
	DRYMultiplier    float32  // 0 is off
	DRYBase          float32  // 0 is 1.75
	DRYAllowedLength int      // 0 is 2
	DRYLastN         int      // tokens that it looks back on; 0 is 64, -1 the whole context
	DRYBreakers      []string // end a repetition; nil is a line's end, a colon, a quotation mark and an asterisk

	TopNSigma      float32 // standard deviations below the best logit; 0 is off (https://arxiv.org/abs/2411.07641)
	TopK           int     // 0 is off
	TypicalP       float32 // 0 and 1 are off (https://arxiv.org/abs/2202.00666)
	TopP           float32 // 0 and 1 are off
	MinP           float32 // 0 is off
	XTCProbability float32 // 0 is off (https://github.com/oobabooga/text-generation-webui/pull/6335)
	XTCThreshold   float32 // 0 is 0.1; above 0.5 XTC is off
	MinKeep        int     // tokens that typical, top-p, min-p and XTC leave at least; 0 is 1

	Temperature      float32 // 0 is greedy: what follows logit bias, penalties and DRY has no effect then
	DynatempRange    float32 // the temperature moves by this with the entropy; 0 is off (https://arxiv.org/abs/2309.02772)
	DynatempExponent float32 // 0 is 1

	// Mirostat 1 or 2 keeps the surprise near MirostatTau; it stands in for all stages but logit bias and temperature.
	// (https://arxiv.org/abs/2007.14966)
	Mirostat    int     // 0 is off
	MirostatTau float32 // 0 is 5
	MirostatEta float32 // learning rate; 0 is 0.1

	// AdaptiveTarget is a probability near which tokens are chosen over time. (https://github.com/ggml-org/llama.cpp/pull/17927)
	AdaptiveTarget float32 // 0 is off
	AdaptiveDecay  float32 // how long it remembers; 0 is 0.9

	Seed   uint32 // used when Seeded; else the engine draws one and reports it
	Seeded bool
}

// DefaultSampling is llama.cpp's and OpenAI's common ground: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}
}

// Bounds of what llama.cpp keeps for a request.
const (
	maxLookBack    = 1 << 20
	maxBreakers    = 32
	maxBreakerSize = 40 // llama.cpp cuts longer ones
)

// check refuses, by name, settings that no sampler could mean.
func (s *Sampling) check() error {
	for _, f := range []struct {
		name      string
		value     float32
		low, high float32
	}{
		{"RepeatPenalty", s.RepeatPenalty, 0, 100},
		{"PresencePenalty", s.PresencePenalty, -100, 100},
		{"FrequencyPenalty", s.FrequencyPenalty, -100, 100},
		{"DRYMultiplier", s.DRYMultiplier, 0, 100},
		{"TopNSigma", s.TopNSigma, 0, 1000},
		{"TypicalP", s.TypicalP, 0, 1},
		{"TopP", s.TopP, 0, 1},
		{"MinP", s.MinP, 0, 1},
		{"XTCProbability", s.XTCProbability, 0, 1},
		{"XTCThreshold", s.XTCThreshold, 0, 1},
		{"Temperature", s.Temperature, 0, 100},
		{"DynatempRange", s.DynatempRange, 0, 100},
		{"DynatempExponent", s.DynatempExponent, 0, 100},
		{"MirostatTau", s.MirostatTau, 0, 100},
		{"MirostatEta", s.MirostatEta, 0, 100},
		{"AdaptiveTarget", s.AdaptiveTarget, 0, 1},
		{"AdaptiveDecay", s.AdaptiveDecay, 0, 0.99},
	} {
		if !(f.value >= f.low && f.value <= f.high) { // also what is no number
			return &FieldError{Field: "Sampling." + f.name, Problem: fmt.Sprintf("must be between %v and %v", f.low, f.high)}
		}
	}
	if s.DRYBase != 0 && !(s.DRYBase >= 1 && s.DRYBase <= 100) {
		return &FieldError{Field: "Sampling.DRYBase", Problem: "must be between 1 and 100"}
	}
	for _, f := range []struct {
		name             string
		value, low, high int
	}{
		{"PenaltyLastN", s.PenaltyLastN, -1, maxLookBack},
		{"DRYAllowedLength", s.DRYAllowedLength, 0, maxLookBack},
		{"DRYLastN", s.DRYLastN, -1, maxLookBack},
		{"TopK", s.TopK, 0, math.MaxInt32},
		{"MinKeep", s.MinKeep, 0, math.MaxInt32},
		{"Mirostat", s.Mirostat, 0, 2},
	} {
		if f.value < f.low || f.value > f.high {
			return &FieldError{Field: "Sampling." + f.name, Problem: fmt.Sprintf("must be between %d and %d", f.low, f.high)}
		}
	}
	if len(s.DRYBreakers) > maxBreakers {
		return &FieldError{Field: "Sampling.DRYBreakers", Problem: fmt.Sprintf("at most %d", maxBreakers)}
	}
	for i, b := range s.DRYBreakers {
		if b == "" || len(b) > maxBreakerSize || strings.Contains(b, "\x00") {
			return &FieldError{Field: fmt.Sprintf("Sampling.DRYBreakers[%d]", i), Problem: fmt.Sprintf("must have 1 to %d bytes and no NUL", maxBreakerSize)}
		}
	}
	for t, bias := range s.LogitBias {
		if bias != bias || math.IsInf(float64(bias), 1) {
			return &FieldError{Field: "Sampling.LogitBias", Problem: fmt.Sprintf("%v for token %d", bias, t)}
		}
	}
	return nil
}
