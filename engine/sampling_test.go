package engine_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// What no sampler could mean is refused with its field's name.
func TestSamplingIsChecked(t *testing.T) {
	e, err := engine.New(enginetest.NewFake(engine.Limits{Cells: 64, Batch: 16, Sequences: 4, Running: 2}, 64), engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for field, wrong := range map[string][]engine.Sampling{
		"RepeatPenalty":    {{RepeatPenalty: -1}, {RepeatPenalty: nan}},
		"PresencePenalty":  {{PresencePenalty: inf}, {PresencePenalty: nan}},
		"FrequencyPenalty": {{FrequencyPenalty: -101}},
		"PenaltyLastN":     {{PenaltyLastN: -2}, {PenaltyLastN: 1 << 21}},
		"DRYMultiplier":    {{DRYMultiplier: -1}},
		"DRYBase":          {{DRYBase: 0.5}, {DRYBase: nan}},
		"DRYAllowedLength": {{DRYAllowedLength: -1}},
		"DRYLastN":         {{DRYLastN: -2}},
		"DRYBreakers":      {{DRYBreakers: strings.Split(strings.Repeat("x", 33), "")}},
		"DRYBreakers[1]":   {{DRYBreakers: []string{"x", ""}}, {DRYBreakers: []string{"x", strings.Repeat("x", 41)}}, {DRYBreakers: []string{"x", "\x00"}}},
		"TopNSigma":        {{TopNSigma: -1}},
		"TopK":             {{TopK: -1}},
		"TypicalP":         {{TypicalP: 1.5}},
		"TopP":             {{TopP: -0.5}, {TopP: nan}},
		"MinP":             {{MinP: 2}},
		"XTCProbability":   {{XTCProbability: 2}},
		"XTCThreshold":     {{XTCThreshold: -1}},
		"MinKeep":          {{MinKeep: -1}},
		"Temperature":      {{Temperature: -1}, {Temperature: inf}},
		"DynatempRange":    {{DynatempRange: -1}},
		"DynatempExponent": {{DynatempExponent: nan}},
		"Mirostat":         {{Mirostat: 3}},
		"MirostatTau":      {{MirostatTau: -1}},
		"MirostatEta":      {{MirostatEta: nan}},
		"AdaptiveTarget":   {{AdaptiveTarget: 1.5}},
		"AdaptiveDecay":    {{AdaptiveDecay: 1}},
		"LogitBias":        {{LogitBias: map[engine.Token]float32{1: nan}}, {LogitBias: map[engine.Token]float32{1: inf}}},
	} {
		for i, s := range wrong {
			_, err := e.Generate(t.Context(), &engine.Request{Text: "x", Sampling: s, Logprobs: -1})
			if f, ok := errors.AsType[*engine.FieldError](err); !ok || f.Field != "Sampling."+field {
				t.Errorf("%s, case %d: %v", field, i, err)
			}
		}
	}
	forbidding := engine.Sampling{LogitBias: map[engine.Token]float32{1: -inf}}
	s, err := e.Generate(t.Context(), &engine.Request{Text: "x", MaxTokens: 1, Sampling: forbidding, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
