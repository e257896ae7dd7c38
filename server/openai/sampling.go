package openai

import (
	"strconv"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/fault"
)

// sampling is how tokens are chosen. What OpenAI doesn't have is named, bounded and switched off as in llama-server.
type sampling struct {
	Temperature      *float64           `json:"temperature"`
	TopP             *float64           `json:"top_p"`
	PresencePenalty  *float64           `json:"presence_penalty"`
	FrequencyPenalty *float64           `json:"frequency_penalty"`
	LogitBias        map[string]float64 `json:"logit_bias"`
	Seed             *int64             `json:"seed"`

	TopK             *int      `json:"top_k"`
	MinP             *float64  `json:"min_p"`
	TypicalP         *float64  `json:"typical_p"`
	TopNSigma        *float64  `json:"top_n_sigma"`
	XTCProbability   *float64  `json:"xtc_probability"`
	XTCThreshold     *float64  `json:"xtc_threshold"`
	MinKeep          *int      `json:"min_keep"`
	DynatempRange    *float64  `json:"dynatemp_range"`
	DynatempExponent *float64  `json:"dynatemp_exponent"`
	RepeatPenalty    *float64  `json:"repeat_penalty"`
	RepeatLastN      *int      `json:"repeat_last_n"`
	DRYMultiplier    *float64  `json:"dry_multiplier"`
	DRYBase          *float64  `json:"dry_base"`
	DRYAllowedLength *int      `json:"dry_allowed_length"`
	DRYPenaltyLastN  *int      `json:"dry_penalty_last_n"`
	DRYBreakers      *[]string `json:"dry_sequence_breakers"`
	Mirostat         *int      `json:"mirostat"`
	MirostatTau      *float64  `json:"mirostat_tau"`
	MirostatEta      *float64  `json:"mirostat_eta"`
	AdaptiveTarget   *float64  `json:"adaptive_target"`
	AdaptiveDecay    *float64  `json:"adaptive_decay"`
}

const (
	maxLookBack = 1 << 20
	maxBreakers = 32
	maxBreaker  = 40 // bytes
	// barely is 0 where the engine's 0 is a default.
	barely = 1e-9
)

func (r *sampling) settings(c *checker) engine.Sampling {
	s := engine.DefaultSampling()
	number := func(param string, n *float64, low, high float64, fallback float32) float32 {
		return float32(between(c, param, n, low, high, float64(fallback)))
	}
	setting := func(param string, n *float64, low, high float64) float32 {
		if n == nil {
			return 0
		}
		return max(barely, number(param, n, low, high, 0))
	}
	s.Temperature = number("temperature", r.Temperature, 0, 2, s.Temperature)
	s.DynatempRange = number("dynatemp_range", r.DynatempRange, 0, 2, 0)
	s.DynatempExponent = setting("dynatemp_exponent", r.DynatempExponent, 0, 100)
	s.TopK = max(0, between(c, "top_k", r.TopK, -1, 1<<30, s.TopK))
	s.TopP = number("top_p", r.TopP, 0, 1, s.TopP)
	if r.TopP != nil && *r.TopP == 0 {
		s.TopK = 1 // no share of the probability is one token; the engine's 0 would be all of it
	}
	s.MinP = number("min_p", r.MinP, 0, 1, s.MinP)
	s.TypicalP = setting("typical_p", r.TypicalP, 0, 1)
	s.TopNSigma = max(0, number("top_n_sigma", r.TopNSigma, -1, 1000, 0))
	s.XTCProbability = number("xtc_probability", r.XTCProbability, 0, 1, 0)
	s.XTCThreshold = setting("xtc_threshold", r.XTCThreshold, 0, 1)
	s.MinKeep = between(c, "min_keep", r.MinKeep, 0, 1<<30, 0)
	s.PresencePenalty = number("presence_penalty", r.PresencePenalty, -2, 2, 0)
	s.FrequencyPenalty = number("frequency_penalty", r.FrequencyPenalty, -2, 2, 0)
	s.RepeatPenalty = number("repeat_penalty", r.RepeatPenalty, 0, 10, 0)
	s.PenaltyLastN = between(c, "repeat_last_n", r.RepeatLastN, -1, maxLookBack, 0)
	if r.RepeatLastN != nil && *r.RepeatLastN == 0 {
		s.PresencePenalty, s.FrequencyPenalty, s.RepeatPenalty = 0, 0, 0
	}
	r.dry(c, &s)
	s.Mirostat = between(c, "mirostat", r.Mirostat, 0, 2, 0)
	s.MirostatTau = setting("mirostat_tau", r.MirostatTau, 0, 100)
	s.MirostatEta = setting("mirostat_eta", r.MirostatEta, 0, 100)
	if target := number("adaptive_target", r.AdaptiveTarget, -1, 1, -1); target >= 0 {
		s.AdaptiveTarget = max(barely, target)
	}
	s.AdaptiveDecay = setting("adaptive_decay", r.AdaptiveDecay, 0, 0.99)
	s.LogitBias = r.logitBias(c)
	if r.Seed != nil && *r.Seed != -1 { // -1 is llama-server's "draw one"
		s.Seeded = true
		s.Seed = uint32(*r.Seed) ^ uint32(*r.Seed>>32)
	}
	return s
}

// dry maps what holds repetitions back.
func (r *sampling) dry(c *checker, s *engine.Sampling) {
	s.DRYMultiplier = float32(between(c, "dry_multiplier", r.DRYMultiplier, 0, 100, 0))
	s.DRYBase = float32(between(c, "dry_base", r.DRYBase, 1, 100, 0))
	s.DRYAllowedLength = between(c, "dry_allowed_length", r.DRYAllowedLength, 1, maxLookBack, 0)
	s.DRYLastN = between(c, "dry_penalty_last_n", r.DRYPenaltyLastN, -1, maxLookBack, 0)
	if r.DRYPenaltyLastN != nil && *r.DRYPenaltyLastN == 0 {
		s.DRYMultiplier = 0
	}
	if r.DRYBreakers == nil {
		return
	}
	s.DRYBreakers = *r.DRYBreakers
	if len(s.DRYBreakers) > maxBreakers {
		c.fail(fault.InvalidValue, "dry_sequence_breakers", "at most %d strings", maxBreakers)
	}
	for i, b := range s.DRYBreakers {
		if b == "" || len(b) > maxBreaker {
			c.fail(fault.InvalidValue, index("dry_sequence_breakers", i), "1 to %d bytes", maxBreaker)
		}
	}
}

func (r *sampling) logitBias(c *checker) map[engine.Token]float32 {
	if len(r.LogitBias) == 0 {
		return nil
	}
	biases := make(map[engine.Token]float32, len(r.LogitBias))
	for key, bias := range r.LogitBias {
		field := "logit_bias." + clipped(key)
		token, err := strconv.ParseInt(key, 10, 32)
		if err != nil || token < 0 {
			c.fail(fault.InvalidValue, field, "the names in logit_bias are token ids")
		}
		biases[engine.Token(token)] = float32(between(c, field, &bias, -100, 100, 0))
	}
	return biases
}
