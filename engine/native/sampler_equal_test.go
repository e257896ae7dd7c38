package native_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

const listOfPeople = `{"type":"object","properties":{"people":{"type":"array","minItems":2,"maxItems":4,"items":{"type":"object",` +
	`"properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":130},"colour":{"enum":["red","green","blue"]},` +
	`"member":{"type":"boolean"}},"required":["name","age","colour","member"],"additionalProperties":false}}},"required":["people"],` +
	`"additionalProperties":false}`

func constraint(t testing.TB, b *native.Backend, schema string) engine.Constraint {
	t.Helper()
	grammar, err := b.Schema([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return engine.Constraint{Grammar: grammar}
}

// record lets a sampler answer and keeps the rows of logits that it chose from.
func record(t testing.TB, b *native.Backend, s engine.Sampler, n int) (rows [][]float32, tokens []engine.Token) {
	t.Helper()
	r, err := b.Render(&engine.Chat{Messages: []engine.Message{{Role: "user", Content: "Invent three people, as JSON."}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Parser != nil {
		r.Parser.Close()
	}
	if err := b.Remove(0, 0); err != nil {
		t.Fatal(err)
	}
	fed, position := r.Prompt, 0
	for range n {
		batch := make([]engine.Row, len(fed))
		for i, token := range fed {
			batch[i] = engine.Row{Token: token, Position: position, Output: i == len(fed)-1}
			position++
		}
		if err := b.Decode(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		logits, err := b.Logits(len(fed) - 1)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, slices.Clone(logits))
		token, err := s.Sample(logits)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		if b.Ends(token) {
			break
		}
		fed = []engine.Token{token}
	}
	return rows, tokens
}

// The short ways give the same tokens as lists of all tokens: with the model's own logits, and with worse ones, which make
// the grammar refuse more and put tokens on a par.
func TestShortlistsAreExact(t *testing.T) {
	samplings := map[string]engine.Sampling{
		"greedy":               {},
		"greedy, penalties":    {RepeatPenalty: 1.3, FrequencyPenalty: 0.4, PenaltyLastN: 8},
		"greedy, dry and bias": {DRYMultiplier: 0.8, LogitBias: map[engine.Token]float32{5: 6, 90: -100, 340: 3, 1000: 20}},
		"default":              engine.DefaultSampling(),
		"top-k":                {Temperature: 1.5, TopK: 40},
		"top-k 1":              {Temperature: 1, TopK: 1},
		"top-k 300, penalties": {Temperature: 1, TopK: 300, PresencePenalty: 1.5, PenaltyLastN: -1},
		"top-k, xtc, typical":  {Temperature: 1, TopK: 20, TypicalP: 0.9, XTCProbability: 0.5, XTCThreshold: 0.05},
		"top-k, adaptive":      {Temperature: 1, TopK: 40, AdaptiveTarget: 0.3},
		"no top-k":             {Temperature: 1, MinP: 0.1},
		"top-n-sigma":          {Temperature: 1, TopNSigma: 1, TopK: 40},
		"mirostat":             {Temperature: 1, Mirostat: 2, LogitBias: map[engine.Token]float32{5: 6}},
	}
	for _, model := range []string{chatModel, coderModel} {
		t.Run(model, func(t *testing.T) {
			b := load(t, model)
			schema := constraint(t, b, listOfPeople)
			first, err := b.NewSampler(engine.DefaultSampling(), 3, schema)
			if err != nil {
				t.Fatal(err)
			}
			n := 40
			if model == coderModel {
				n = 20
			}
			rows, _ := record(t, b, first, n)
			first.Close()
			for name, s := range samplings {
				for _, c := range []engine.Constraint{{}, schema} {
					t.Run(fmt.Sprintf("%s/grammar %v", name, c.Grammar != ""), func(t *testing.T) {
						for _, noise := range []float32{0, 3} {
							equal(t, b, s, c, rows, noise)
						}
					})
				}
			}
		})
	}
}

// equal walks both ways through rows, made worse by noise.
func equal(t *testing.T, b *native.Backend, s engine.Sampling, c engine.Constraint, rows [][]float32, noise float32) {
	t.Helper()
	ours, err := b.NewSampler(s, 11, c)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	plain, err := b.NewPlain(s, 11, c)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	random := rand.New(rand.NewPCG(5, 6))
	for i, row := range rows {
		if noise > 0 {
			row = slices.Clone(row)
			for j := range row {
				row[j] = float32(int(row[j]+noise*float32(random.NormFloat64()))*8) / 8 // in few steps
			}
		}
		before := slices.Clone(row)
		got, err := ours.Sample(row)
		if err != nil {
			t.Fatal(err)
		}
		want, err := plain.Sample(row)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("row %d, noise %v: %d, want %d", i, noise, got, want)
		}
		if !slices.Equal(row, before) {
			t.Fatal("the logits were changed")
		}
		if b.Ends(got) {
			return
		}
	}
}

// Sample with llama.cpp's way (all) and ours over the same recorded rows, one token an operation.
func BenchmarkSample(bench *testing.B) {
	for _, model := range []string{chatModel, coderModel} {
		b := load(bench, model)
		schema := constraint(bench, b, listOfPeople)
		for _, c := range []struct {
			name     string
			sampling engine.Sampling
		}{{"greedy", engine.Sampling{}}, {"default", engine.DefaultSampling()}, {"penalties", engine.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, RepeatPenalty: 1.1}}} {
			for grammar, constraint := range map[string]engine.Constraint{"free": {}, "schema": schema} {
				s, err := b.NewSampler(c.sampling, 3, constraint)
				if err != nil {
					bench.Fatal(err)
				}
				rows, _ := record(bench, b, s, 64)
				s.Close()
				way := func(make func() (engine.Sampler, error)) func(*testing.B) {
					return func(bench *testing.B) {
						for done := 0; done < bench.N; {
							bench.StopTimer()
							s, err := make()
							if err != nil {
								bench.Fatal(err)
							}
							bench.StartTimer()
							for i := 0; i < len(rows) && done < bench.N; i, done = i+1, done+1 {
								if _, err := s.Sample(rows[i]); err != nil {
									bench.Fatal(err)
								}
							}
							s.Close()
						}
					}
				}
				name := fmt.Sprintf("%s/%s/%s/", model[:4], c.name, grammar)
				bench.Run(name+"all", way(func() (engine.Sampler, error) { return b.NewPlain(c.sampling, 3, constraint) }))
				bench.Run(name+"short", way(func() (engine.Sampler, error) { return b.NewSampler(c.sampling, 3, constraint) }))
			}
		}
	}
}
