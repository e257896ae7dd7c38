package native_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// load opens a model without an engine; it is closed with the test.
func load(t testing.TB, model string) *native.Backend {
	t.Helper()
	b, err := native.Load(t.Context(), modelFile(t, model), native.Options{Context: 512, Cells: 512, Running: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Stages come in the order of llama.cpp's common_sampler_init, and none that is off.
func TestStages(t *testing.T) {
	b := load(t, chatModel)
	all := engine.Sampling{
		LogitBias: map[engine.Token]float32{5: 1}, RepeatPenalty: 1.1, DRYMultiplier: 0.8, TopNSigma: 2, TopK: 40, TypicalP: 0.9, TopP: 0.9,
		MinP: 0.05, XTCProbability: 0.5, Temperature: 0.7, DynatempRange: 0.2,
	}
	with := func(change func(*engine.Sampling)) engine.Sampling {
		s := all
		change(&s)
		return s
	}
	const head, cuts = "logit-bias penalties dry ", "top-n-sigma top-k typical top-p min-p xtc temp-ext "
	for _, c := range []struct {
		sampling engine.Sampling
		want     string
	}{
		{engine.Sampling{}, "greedy"},
		{engine.DefaultSampling(), "top-k top-p min-p temp-ext dist"},
		{all, head + cuts + "dist"},
		{with(func(s *engine.Sampling) { s.AdaptiveTarget = 0.5 }), head + cuts + "adaptive-p"},
		{with(func(s *engine.Sampling) { s.Temperature = 0 }), head + "greedy"},
		{with(func(s *engine.Sampling) { s.Mirostat = 1 }), "logit-bias temp mirostat"},
		{with(func(s *engine.Sampling) { s.Mirostat = 2 }), "logit-bias temp mirostat-v2"},
		{with(func(s *engine.Sampling) { s.Mirostat, s.Temperature = 2, 0 }), head + "greedy"},
		{engine.Sampling{Temperature: 0.5, RepeatPenalty: 1, TypicalP: 1, TopP: 1, XTCProbability: 1, XTCThreshold: 0.6}, "temp-ext dist"},
		{engine.Sampling{Temperature: 0.5, PresencePenalty: 1}, "penalties temp-ext dist"},
	} {
		s, err := b.NewSampler(c.sampling, 1, engine.Constraint{})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(native.StageNames(s), " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := b.NewSampler(engine.Sampling{LogitBias: map[engine.Token]float32{1 << 20: 1}}, 1, engine.Constraint{})
	if f, ok := errors.AsType[*engine.FieldError](err); !ok || f.Field != "Sampling.LogitBias" {
		t.Errorf("a token that there isn't: %v", err)
	}
}

// Each setting that changes the choice is heard: over the same logits and seed other tokens come out.
func TestSettingsAreHeard(t *testing.T) {
	b := load(t, chatModel)
	n, err := b.Tokenize("x", false)
	if err != nil {
		t.Fatal(err)
	}
	logits := make([]float32, native.VocabSize(b))
	for i := range logits {
		logits[i] = -10 - float32(i%1000)/100
	}
	for i := range 60 { // a slope of likely tokens, and a clear best
		logits[int(n[0])+i] = 5 - float32(i)/8
	}
	logits[n[0]] += 0.5
	draw := func(s engine.Sampling) (tokens []engine.Token) {
		sampler, err := b.NewSampler(s, 7, engine.Constraint{})
		if err != nil {
			t.Fatal(err)
		}
		defer sampler.Close()
		for range 100 {
			token, err := sampler.Sample(logits)
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
		}
		return tokens
	}
	base := engine.Sampling{Temperature: 1, TopK: 60}
	usual := draw(base)
	if !slices.Equal(usual, draw(base)) {
		t.Error("the same seed gives other tokens")
	}
	for name, change := range map[string]func(*engine.Sampling){
		"LogitBias":        func(s *engine.Sampling) { s.LogitBias = map[engine.Token]float32{n[0]: -100} },
		"RepeatPenalty":    func(s *engine.Sampling) { s.RepeatPenalty = 1.5 },
		"PresencePenalty":  func(s *engine.Sampling) { s.PresencePenalty = 2 },
		"FrequencyPenalty": func(s *engine.Sampling) { s.FrequencyPenalty = 1 },
		"PenaltyLastN":     func(s *engine.Sampling) { s.FrequencyPenalty, s.PenaltyLastN = 1, -1 },
		"DRYMultiplier":    func(s *engine.Sampling) { s.DRYMultiplier, s.DRYAllowedLength = 4, 1 },
		"TopNSigma":        func(s *engine.Sampling) { s.TopNSigma = 0.2 },
		"TypicalP":         func(s *engine.Sampling) { s.TypicalP = 0.3 },
		"TopP":             func(s *engine.Sampling) { s.TopP = 0.3 },
		"MinP":             func(s *engine.Sampling) { s.MinP = 0.5 },
		"MinKeep":          func(s *engine.Sampling) { s.MinP, s.MinKeep = 0.5, 30 },
		"XTCProbability":   func(s *engine.Sampling) { s.XTCProbability, s.XTCThreshold = 1, 0.02 },
		"DynatempRange":    func(s *engine.Sampling) { s.DynatempRange = 0.9 },
		"DynatempExponent": func(s *engine.Sampling) { s.DynatempRange, s.DynatempExponent = 0.9, 4 },
		"Mirostat 1":       func(s *engine.Sampling) { s.Mirostat, s.MirostatTau = 1, 1 },
		"Mirostat 2":       func(s *engine.Sampling) { s.Mirostat = 2 },
		"Mirostat 2, tau":  func(s *engine.Sampling) { s.Mirostat, s.MirostatTau = 2, 2 },
		"Mirostat 2, eta":  func(s *engine.Sampling) { s.Mirostat, s.MirostatTau, s.MirostatEta = 2, 2, 1 },
		"AdaptiveTarget":   func(s *engine.Sampling) { s.AdaptiveTarget = 0.05 },
		"AdaptiveDecay":    func(s *engine.Sampling) { s.AdaptiveTarget, s.AdaptiveDecay = 0.05, 0.1 },
		"Temperature":      func(s *engine.Sampling) { s.Temperature = 1.5 },
	} {
		s := base
		change(&s)
		if got := draw(s); slices.Equal(got, usual) {
			t.Errorf("%s has no effect", name)
		} else if !slices.Equal(got, draw(s)) {
			t.Errorf("%s: the same seed gives other tokens", name)
		}
	}
}

// llama.cpp takes one seed as "draw another"; for a request it is a seed like any other.
func TestEverySeedIsKept(t *testing.T) {
	b := load(t, chatModel)
	logits := make([]float32, native.VocabSize(b))
	var first []engine.Token
	for round := range 2 {
		s, err := b.NewSampler(engine.Sampling{Temperature: 1}, 1<<32-1, engine.Constraint{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			token, err := s.Sample(logits)
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				first = append(first, token)
			} else if token != first[i] {
				t.Fatalf("token %d: %d, then %d", i, first[i], token)
			}
		}
		s.Close()
	}
}
