package llama

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestStages(t *testing.T) {
	m := loadModel(t, chatModel)
	logits := make([]float32, m.Vocab().Len())
	for i := range logits {
		logits[i] = float32(i%97) / 10
	}
	logits[500], logits[501] = 20, 19
	tests := []struct {
		name  string
		stage Stage
	}{
		{"greedy", Greedy()}, {"dist", Dist(1)}, {"top-k", TopK(5)}, {"top-p", TopP(0.9, 1)}, {"min-p", MinP(0.1, 1)},
		{"typical", Typical(0.9, 1)}, {"temp", Temp(0.5)}, {"temp-ext", TempExt(1, 0.5, 1)}, {"xtc", XTC(1, 0.01, 1, 1)},
		{"top-n-sigma", TopNSigma(1)}, {"mirostat", Mirostat(1, 5, 0.1, 100)}, {"mirostat-v2", MirostatV2(1, 5, 0.1)},
		{"adaptive-p", AdaptiveP(0.5, 0.9, 1)}, {"penalties", Penalties(64, 1.1, 0.1, 0.1)},
		{"dry", DRY(0.8, 1.75, 2, 64, []string{"\n", ":"})}, {"logit-bias", LogitBias(map[Token]float32{500: float32(math.Inf(-1))})},
		{"grammar", Grammar(`root ::= [a-z]+`, "root")},
	}
	for _, test := range tests {
		s := newTestSampler(t, m, test.stage, Greedy())
		if got := s.Names(); got[0] != test.name || len(got) != 2 {
			t.Errorf("%s is named %v", test.name, got)
		}
		for _, n := range []int{1, 2, 3, len(logits)} { // also on few candidates
			var c Candidates
			c.Reset(logits[500-min(500, n/2):][:min(n, len(logits)-500)])
			for range 3 {
				if err := s.Apply(&c); err != nil && !errors.Is(err, ErrRejected) {
					t.Errorf("%s of %d: %v", test.name, n, err)
				}
			}
			if err := s.Accept(500); err != nil && !errors.Is(err, ErrRejected) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		clone, err := s.Clone()
		must(t, err)
		if !slices.Equal(clone.Names(), s.Names()) {
			t.Errorf("%s: the clone has %v", test.name, clone.Names())
		}
		must(t, clone.Close())
		must(t, s.Reset())
	}
}

func TestInfill(t *testing.T) {
	m := loadModel(t, chatModel)
	s := newTestSampler(t, m, TopK(40), Infill(), Greedy())
	var c Candidates
	c.Reset(make([]float32, m.Vocab().Len()))
	c.Items[m.Vocab().Specials().EOT].Logit = 30
	must(t, s.Apply(&c))
	if !m.Vocab().IsEOG(c.Token()) {
		t.Errorf("it goes on with %d", c.Token())
	}
}

func TestStageErrors(t *testing.T) {
	m := loadModel(t, chatModel)
	nan := float32(math.NaN())
	for i, stage := range []Stage{
		TopP(nan, 1), MinP(nan, 1), TopP(1, -1), Typical(nan, 1), Temp(nan), TempExt(1, nan, 1), XTC(nan, 0, 1, 1), TopNSigma(nan),
		Mirostat(1, nan, 0, 100), Mirostat(1, 1, 1, 0), MirostatV2(1, nan, 0), AdaptiveP(2, 0, 1), AdaptiveP(0.5, 2, 1),
		Penalties(-1, 1, 0, 0), Penalties(1<<30, 2, 0, 0), Penalties(64, 0, 0, 0), Penalties(64, nan, 0, 0),
		DRY(nan, 1, 1, 1, nil), DRY(1, 1, 1, -1, nil), LogitBias(map[Token]float32{-1: 1}), LogitBias(map[Token]float32{1 << 30: 1}),
		LogitBias(map[Token]float32{1: nan}), LazyGrammar("root ::= .", "root", Trigger{Tokens: []Token{-4}}),
		LazyGrammar("root ::= .", "root", Trigger{Patterns: []string{"("}}), Grammar("root ::= (", "root"),
	} {
		s, err := NewSampler(m, stage)
		var e *Error
		if !errors.As(err, &e) || e.Kind == nil {
			t.Errorf("stage %d: %v", i, err)
		}
		if s != nil {
			s.Close()
		}
	}
	if live := LiveOwners()[KindSampler]; live != 0 {
		t.Errorf("%d samplers were left open", live)
	}
}

func TestApply(t *testing.T) {
	m := loadModel(t, chatModel)
	var c Candidates
	if c.Token() != NoToken {
		t.Error("an empty list has a token")
	}
	s := newTestSampler(t, m, TopK(3), Temp(1), Dist(3))
	wantError(t, s.Apply(&c), ErrInvalid)
	c.Reset([]float32{1, float32(math.NaN()), 3, 2})
	must(t, s.Apply(&c))
	var sum float32
	for _, item := range c.Items {
		sum += item.P
	}
	if len(c.Items) != 3 || c.Items[0].ID != 2 || math.Abs(float64(sum)-1) > 1e-5 || c.Token() == 1 {
		t.Errorf("got %+v", c)
	}
	// Chains are deterministic by their seed, and start over on Reset.
	draw := func() (tokens []Token) {
		for range 20 {
			c.Reset([]float32{1, 1.1, 1.2, 1.3, 1.4})
			must(t, s.Apply(&c))
			tokens = append(tokens, c.Token())
		}
		return tokens
	}
	must(t, s.Reset())
	first := draw()
	must(t, s.Reset())
	if second := draw(); !slices.Equal(first, second) || s.Seed() != 3 {
		t.Errorf("seed %d: %v, then %v", s.Seed(), first, second)
	}
	if random := newTestSampler(t, m, Dist(RandomSeed)); random.Seed() == RandomSeed {
		t.Error("the drawn seed is not told")
	}
	weighing := newTestSampler(t, m, Temp(1))
	c.Reset([]float32{1, 2})
	must(t, weighing.Apply(&c))
	if c.Token() != NoToken {
		t.Error("a chain without a choice chose")
	}
	wantError(t, s.Accept(-1), ErrToken)
	wantError(t, s.Accept(1<<30), ErrToken)
}

func TestGrammarConstrains(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	tokens := tokenize(t, m, prompt)
	prefill(t, c, b, tokens, 0, 0)
	const yesNo = `root ::= ("yes" | "no") " " [0-9]{2}`
	s := newTestSampler(t, m, Grammar(yesNo, "root"), Greedy())
	eos := m.Vocab().Specials().EOS
	wantError(t, s.Accept(eos), ErrRejected) // the grammar is not complete: llama.cpp would abort
	forbidden := tokenize(t, m, "Paris")[0]
	wantError(t, s.Accept(forbidden), ErrRejected)
	text := generate(t, c, b, s, 0, 20)
	if ok := strings.HasPrefix(text, "yes ") || strings.HasPrefix(text, "no "); !ok || len(text) != len(strings.TrimRight(text, "0123456789"))+2 {
		t.Errorf("the grammar let pass %q", text)
	}
	must(t, s.Accept(eos)) // now it is
	must(t, s.Reset())
	wantError(t, s.Accept(eos), ErrRejected)

	// Candidates that are all forbidden.
	var few Candidates
	few.Items = []Candidate{{ID: forbidden}, {ID: eos}}
	wantError(t, s.Apply(&few), ErrRejected)

	// A clone goes its own way.
	yes := mustTokens(t, m, "yes")
	must(t, s.Accept(yes[0]))
	clone, err := s.Clone()
	must(t, err)
	closing(t, clone)
	space := mustTokens(t, m, " ")
	if len(yes) == 1 {
		must(t, clone.Accept(space[0]))
		wantError(t, clone.Accept(space[0]), ErrRejected)
		must(t, s.Accept(space[0]))
	}
}

func mustTokens(t *testing.T, m *Model, text string) []Token {
	t.Helper()
	tokens, err := m.Vocab().Tokenize(text, false, false)
	must(t, err)
	return tokens
}

func TestLazyGrammar(t *testing.T) {
	m := loadModel(t, chatModel)
	s := newTestSampler(t, m, LazyGrammar(`root ::= "<call>" [0-9]+`, "root", Trigger{Patterns: []string{`[\s\S]*?(<call>)[\s\S]*`}}), Greedy())
	eos := m.Vocab().Specials().EOS
	must(t, s.Accept(eos)) // nothing has begun
	for _, tok := range mustTokens(t, m, "Anything goes here. <call>") {
		must(t, s.Accept(tok))
	}
	wantError(t, s.Accept(eos), ErrRejected) // a number is missing: llama.cpp would abort
	wantError(t, s.Accept(mustTokens(t, m, "word")[0]), ErrRejected)
	must(t, s.Accept(mustTokens(t, m, "7")[0]))

	// What never triggers must not end in a stack overflow of the pattern.
	must(t, s.Reset())
	word := mustTokens(t, m, " internationalization")
	for n := 0; n < 80<<10; n += len(" internationalization") {
		for _, tok := range word {
			must(t, s.Accept(tok))
		}
	}
	clone, err := s.Clone()
	must(t, err)
	must(t, clone.Accept(word[0]))
	must(t, clone.Close())
}

func TestSampleNeedsAnOutput(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	b := newTestBatch(t, 4, 1)
	s := newTestSampler(t, m, Greedy())
	_, err := s.Sample(c, 0)
	wantError(t, err, ErrNoOutput)
	must(t, b.Add(1, 0, true, 0))
	must(t, c.Decode(context.Background(), b))
	_, err = newTestSampler(t, m, Temp(1)).Sample(c, 0)
	wantError(t, err, ErrInvalid)
	_, err = s.Sample(c, 0)
	must(t, err)
}
