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

// stages are those of a Sampling in the order of llama.cpp's default chain (common_sampler_init), without what is off.
func (b *Backend) stages(s engine.Sampling, seed uint32) []llama.Stage {
	if seed == llama.RandomSeed {
		seed-- // llama.cpp would draw another
	}
	var stages []llama.Stage
	add := func(on bool, stage llama.Stage) {
		if on {
			stages = append(stages, stage)
		}
	}
	bias := b.bias(s.LogitBias)
	add(len(bias) > 0, llama.LogitBias(bias))
	if s.Mirostat > 0 && s.Temperature > 0 {
		tau, eta := cmp.Or(s.MirostatTau, 5), cmp.Or(s.MirostatEta, 0.1)
		stages = append(stages, llama.Temp(s.Temperature))
		add(s.Mirostat == 1, llama.Mirostat(seed, tau, eta, mirostatWindow))
		add(s.Mirostat == 2, llama.MirostatV2(seed, tau, eta))
		return stages
	}
	repeat := cmp.Or(s.RepeatPenalty, 1)
	add(repeat != 1 || s.FrequencyPenalty != 0 || s.PresencePenalty != 0,
		llama.Penalties(b.lookBack(s.PenaltyLastN), repeat, s.FrequencyPenalty, s.PresencePenalty))
	if s.DRYMultiplier > 0 {
		breakers := s.DRYBreakers
		if breakers == nil {
			breakers = []string{"\n", ":", "\"", "*"}
		}
		add(true, llama.DRY(s.DRYMultiplier, cmp.Or(s.DRYBase, 1.75), cmp.Or(s.DRYAllowedLength, 2), b.lookBack(s.DRYLastN), breakers))
	}
	if s.Temperature == 0 {
		return append(stages, llama.Greedy())
	}
	keep := max(1, s.MinKeep)
	threshold := cmp.Or(s.XTCThreshold, 0.1)
	add(s.TopNSigma > 0, llama.TopNSigma(s.TopNSigma))
	add(s.TopK > 0, llama.TopK(s.TopK))
	add(s.TypicalP > 0 && s.TypicalP < 1, llama.Typical(s.TypicalP, keep))
	add(s.TopP > 0 && s.TopP < 1, llama.TopP(s.TopP, keep))
	add(s.MinP > 0, llama.MinP(s.MinP, keep))
	add(s.XTCProbability > 0 && threshold <= 0.5, llama.XTC(s.XTCProbability, threshold, keep, seed))
	stages = append(stages, llama.TempExt(s.Temperature, s.DynatempRange, cmp.Or(s.DynatempExponent, 1)))
	if s.AdaptiveTarget > 0 {
		return append(stages, llama.AdaptiveP(s.AdaptiveTarget, cmp.Or(s.AdaptiveDecay, 0.9), seed))
	}
	return append(stages, llama.Dist(seed))
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
