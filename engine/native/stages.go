package native

import (
	"cmp"
	"maps"
	"math"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// mirostatWindow is the number of tokens in the first Mirostat's estimate, as in llama.cpp.
const mirostatWindow = 100

// plan is what a sampler is made of: the stages of llama.cpp's default chain (common_sampler_init) in their order, without
// what is off.
type plan struct {
	adjust []llama.Stage // each token by itself
	choose []llama.Stage
	greedy bool
	need   int                     // the likeliest tokens, all that choose looks at; 0 when it looks at all
	bias   map[llama.Token]float32 // of adjust
	window int                     // recent tokens that adjust looks at
}

func (b *Backend) plan(s engine.Sampling, seed uint32) plan {
	if seed == llama.RandomSeed {
		seed-- // llama.cpp would draw another
	}
	p := plan{bias: b.bias(s.LogitBias)}
	if len(p.bias) > 0 {
		p.adjust = append(p.adjust, llama.LogitBias(p.bias))
	}
	if s.Mirostat > 0 && s.Temperature > 0 {
		tau, eta := cmp.Or(s.MirostatTau, 5), cmp.Or(s.MirostatEta, 0.1)
		p.choose = []llama.Stage{llama.Temp(s.Temperature), llama.MirostatV2(seed, tau, eta)}
		if s.Mirostat == 1 {
			p.choose[1] = llama.Mirostat(seed, tau, eta, mirostatWindow)
		}
		return p
	}
	if repeat := cmp.Or(s.RepeatPenalty, 1); repeat != 1 || s.FrequencyPenalty != 0 || s.PresencePenalty != 0 {
		last := b.lookBack(s.PenaltyLastN)
		p.window = max(p.window, last)
		p.adjust = append(p.adjust, llama.Penalties(last, repeat, s.FrequencyPenalty, s.PresencePenalty))
	}
	if s.DRYMultiplier > 0 {
		breakers := s.DRYBreakers
		if breakers == nil {
			breakers = []string{"\n", ":", "\"", "*"}
		}
		last := b.lookBack(s.DRYLastN)
		p.window = max(p.window, last)
		p.adjust = append(p.adjust, llama.DRY(s.DRYMultiplier, cmp.Or(s.DRYBase, 1.75), cmp.Or(s.DRYAllowedLength, 2), last, breakers))
	}
	if s.Temperature == 0 {
		p.choose, p.need, p.greedy = []llama.Stage{llama.Greedy()}, 1, true
		return p
	}
	add := func(on bool, stage llama.Stage) {
		if on {
			p.choose = append(p.choose, stage)
		}
	}
	keep := max(1, s.MinKeep)
	threshold := cmp.Or(s.XTCThreshold, 0.1)
	add(s.TopNSigma > 0, llama.TopNSigma(s.TopNSigma)) // looks at all
	if s.TopK > 0 && s.TopNSigma == 0 {
		p.need = s.TopK
	}
	add(s.TopK > 0, llama.TopK(s.TopK))
	add(s.TypicalP > 0 && s.TypicalP < 1, llama.Typical(s.TypicalP, keep))
	add(s.TopP > 0 && s.TopP < 1, llama.TopP(s.TopP, keep))
	add(s.MinP > 0, llama.MinP(s.MinP, keep))
	add(s.XTCProbability > 0 && threshold <= 0.5, llama.XTC(s.XTCProbability, threshold, keep, seed))
	p.choose = append(p.choose, llama.TempExt(s.Temperature, s.DynatempRange, cmp.Or(s.DynatempExponent, 1)))
	if s.AdaptiveTarget > 0 {
		p.choose = append(p.choose, llama.AdaptiveP(s.AdaptiveTarget, cmp.Or(s.AdaptiveDecay, 0.9), seed))
	} else {
		p.choose = append(p.choose, llama.Dist(seed))
	}
	return p
}

// bias is the request's, with the tokens forbidden that the model's file wants never chosen.
func (b *Backend) bias(asked map[engine.Token]float32) map[llama.Token]float32 {
	suppressed := b.vocab.Suppressed()
	if len(suppressed) == 0 {
		return asked
	}
	bias := make(map[llama.Token]float32, len(asked)+len(suppressed))
	maps.Copy(bias, asked)
	for _, t := range suppressed {
		bias[t] = float32(math.Inf(-1))
	}
	return bias
}

// lookBack is a number of tokens, in a setting's terms.
func (b *Backend) lookBack(n int) int {
	if n < 0 {
		return b.info.Context
	}
	return cmp.Or(n, 64)
}
