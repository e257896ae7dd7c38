package servertest

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// Answerer gives the same answer to every question, delta by delta. Safe for concurrent use.
type Answerer struct {
	Deltas []string
	Answer *answer.Answer
	Err    error         // after the deltas, instead of Answer
	Hold   chan struct{} // when set, received from before each delta

	mu    sync.Mutex
	asked []answer.Question
}

// Stream implements dispatch.Answerer.
func (a *Answerer) Stream(ctx context.Context, q answer.Question) iter.Seq2[answer.Event, error] {
	return func(yield func(answer.Event, error) bool) {
		a.mu.Lock()
		a.asked = append(a.asked, q)
		a.mu.Unlock()
		for _, d := range a.Deltas {
			if a.Hold != nil {
				select {
				case <-a.Hold:
				case <-ctx.Done():
					yield(answer.Event{}, ctx.Err())
					return
				}
			}
			if !yield(answer.Event{Delta: d}, nil) {
				return
			}
		}
		if a.Err != nil {
			yield(answer.Event{}, a.Err)
			return
		}
		yield(answer.Event{Answer: a.Answer}, nil)
	}
}

// Asked are the questions so far.
func (a *Answerer) Asked() []answer.Question {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]answer.Question(nil), a.asked...)
}

// Guarantee answers from one document of a company that does not exist.
func Guarantee() *Answerer {
	quote := "The battery is guaranteed for 2 years or 700 full charges."
	return &Answerer{
		Deltas: []string{"2 years or 700 full charges.", " It comes free of charge."},
		Answer: &answer.Answer{
			Answer: "2 years or 700 full charges. It comes free of charge.",
			Citations: []answer.Citation{{File: "warranty.md", Title: "Warranty", Passage: "p1", Heading: []string{"Warranty", "Battery"},
				Quote: quote, Start: 120, End: 120 + len(quote), AnswerStart: 0, AnswerEnd: 28, Support: 0.97}},
			Unsupported: []answer.Span{{Text: "It comes free of charge.", Start: 29, End: 53}},
			Timings: answer.Timings{QueueMS: 1, RetrieveMS: 2.5, PrefillMS: 40, FirstTokenMS: 41, DecodeMS: 60, CheckMS: 12,
				TotalMS: 116},
			Model:  "fake",
			Usage:  engine.Usage{PromptTokens: 300, CachedTokens: 200, GeneratedTokens: 20},
			Finish: engine.FinishStop,
		},
	}
}

// Silence is an Answerer that finds nothing in the documents.
func Silence() *Answerer {
	text := "The documents don't say."
	return &Answerer{Deltas: []string{text}, Answer: &answer.Answer{Answer: text, Abstained: true, Citations: []answer.Citation{},
		Unsupported: []answer.Span{}, Timings: answer.Timings{RetrieveMS: 2.5, CheckMS: 3, TotalMS: 5.5}, Model: "fake", Finish: engine.FinishStop}}
}

// Stores is how many documents each store has.
type Stores map[string]int

// Store implements dispatch.Stores.
func (s Stores) Store(_ context.Context, name string) (retrieval.Store, error) {
	n, ok := s[name]
	if !ok {
		return retrieval.Store{}, retrieval.ErrNoStore
	}
	return retrieval.Store{Name: name, Documents: n}, nil
}

// Embedder gives each text the vector (bytes, words, 0.5); a token is a word.
type Embedder struct{ MaxInput int }

// Info describes the model.
func (e Embedder) Info() engine.Info {
	return engine.Info{Name: "embedder/mini", Architecture: "bert", Quantization: "F16", Parameters: 3, SizeBytes: 6, Context: e.MaxInput,
		MaxInput: e.MaxInput, Dimensions: 3}
}

// EmbedCounted refuses texts of more than MaxInput words, or cuts them.
func (e Embedder) EmbedCounted(ctx context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error) {
	for i, text := range texts {
		words := strings.Fields(text)
		if n := len(words); n > e.MaxInput && !truncate {
			return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: n, Limit: e.MaxInput}
		} else if n > e.MaxInput {
			words = words[:e.MaxInput]
			text = strings.Join(words, " ")
		}
		rows = append(rows, []float32{float32(len(text)), float32(len(words)), 0.5})
		read += len(words)
	}
	return rows, read, ctx.Err()
}

// Reranker gives each text as log-odds the words of the query that it has, less one half; a token is a word.
type Reranker struct{ MaxInput int }

// Info describes the model.
func (r Reranker) Info() engine.Info {
	return engine.Info{Name: "reranker/mini", Architecture: "bert", Quantization: "Q8_0", Parameters: 4, SizeBytes: 8, Context: r.MaxInput,
		MaxInput: r.MaxInput}
}

// Rerank refuses pairs of more than MaxInput words, or cuts the texts.
func (r Reranker) Rerank(ctx context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error) {
	asked := strings.Fields(query)
	room := r.MaxInput - len(asked)
	if room < 1 {
		return nil, 0, &engine.FieldError{Field: "query", Problem: "leaves no room"}
	}
	for i, text := range texts {
		words := strings.Fields(text)
		if n := len(words); n > room && !truncate {
			return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(asked) + n, Limit: r.MaxInput}
		}
		words = words[:min(room, len(words))]
		score := float32(-0.5)
		for _, word := range asked {
			if slices.Contains(words, word) {
				score++
			}
		}
		scores = append(scores, score)
		read += len(asked) + len(words)
	}
	return scores, read, ctx.Err()
}
