package answer

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// Library is what an answer needs of the documents: hits for a question, and the text that passages were cut from.
// retrieval.Base implements it.
type Library interface {
	Retriever
	// Text is a document's extracted text, in which a passage's Start and End count bytes.
	Text(ctx context.Context, documentID string) (string, error)
}

// Answerer gives grounded answers. Safe for concurrent use; it holds no resources but its caches.
type Answerer struct {
	config    Config
	library   Library
	generator Generator
	cutter    *cutter
}

// New wires an Answerer. The embedder must be the one that the library's vectors were made with, or as good.
func New(c Config, l Library, g Generator, e Embedder) (*Answerer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Answerer{config: c, library: l, generator: g, cutter: &cutter{
		embedder: e,
		passages: newLRU[string, *cutPassage](c.CachedPassages),
		words:    newLRU[string, []float32](16 * c.CachedPassages),
	}}, nil
}

// GetResponse answers one prompt from the default store.
func (a *Answerer) GetResponse(ctx context.Context, prompt string) (*Answer, error) {
	return a.Answer(ctx, Question{Messages: []engine.Message{{Role: "user", Content: prompt}}})
}

// Answer answers a question and returns when the answer is complete.
func (a *Answerer) Answer(ctx context.Context, q Question) (*Answer, error) {
	var last *Answer
	for e, err := range a.Stream(ctx, q) {
		if err != nil {
			return nil, err
		}
		last = e.Answer
	}
	return last, nil
}

// Stream answers a question sentence by sentence: a sentence is delivered when it has been checked, and never taken
// back. The last event has Answer set; an error ends the sequence. Each range over it asks anew; leaving the range
// early cancels the generation.
func (a *Answerer) Stream(ctx context.Context, q Question) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r := newRun(a, q, yield)
		err := r.do(ctx)
		switch {
		case r.left:
		case err != nil:
			yield(Event{}, fmt.Errorf("answer: %w", err))
		default:
			yield(Event{Answer: r.answer}, nil)
		}
	}
}

// search asks for more passages than are packed: the best sentence is often not in the best passage. By meaning alone: what the
// answerer makes of a hit was fitted to such hits.
func (a *Answerer) search(ctx context.Context, q Question, text string) ([]retrieval.Hit, error) {
	hits, err := a.library.Search(ctx, retrieval.Query{Store: q.Store, Text: text, TopK: max(a.config.Retrieved, q.TopK), Arms: retrieval.Dense})
	if q.Store == "" && errors.Is(err, retrieval.ErrNoStore) {
		return nil, nil // the default store is there as soon as it is filled; until then it is empty
	}
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	return hits, nil
}
