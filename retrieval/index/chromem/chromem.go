// Package chromem is the index of small stores: philippgille/chromem-go's exhaustive search in memory. Its persistence is
// never used, the record is where vectors are kept.
package chromem

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/philippgille/chromem-go"

	"github.com/quipu-ai/quipu/retrieval/index"
)

// Index implements index.Index.
type Index struct {
	dimensions int

	mu         sync.RWMutex // held for writing during a whole Put: documents change at once
	collection *chromem.Collection
	documents  map[string]document
}

// document has the passages of one. Its vectors are those in the collection, not copies.
type document struct {
	passages []string
	vectors  [][]float32
}

// New returns an empty index for vectors of this many dimensions.
func New(dimensions int) (*Index, error) {
	if dimensions < 1 {
		return nil, fmt.Errorf("index: %d dimensions", dimensions)
	}
	// All vectors come from outside: chromem must never ask an embedding service by itself.
	never := func(context.Context, string) ([]float32, error) {
		return nil, fmt.Errorf("index: nothing is embedded here")
	}
	collection, err := chromem.NewDB().CreateCollection("passages", nil, never)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return &Index{dimensions: dimensions, collection: collection, documents: make(map[string]document)}, nil
}

// Put implements index.Index.
func (x *Index) Put(ctx context.Context, name string, passages []string, vectors [][]float32) error {
	if len(passages) != len(vectors) {
		return fmt.Errorf("index: %d vectors of %d passages", len(vectors), len(passages))
	}
	for i, v := range vectors {
		if len(v) != x.dimensions {
			return fmt.Errorf("index: passage %s has %d dimensions, not %d", passages[i], len(v), x.dimensions)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.documents[name].passages; len(old) > 0 {
		if err := x.collection.Delete(ctx, nil, nil, old...); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	delete(x.documents, name)
	for i, id := range passages {
		if err := x.collection.AddDocument(ctx, chromem.Document{ID: id, Embedding: vectors[i]}); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		x.documents[name] = document{passages[:i+1], vectors[:i+1]}
	}
	return nil
}

// Search implements index.Index.
func (x *Index) Search(ctx context.Context, vector []float32, k int, only []string) ([]index.Match, error) {
	if len(vector) != x.dimensions {
		return nil, fmt.Errorf("index: a question of %d dimensions, not %d", len(vector), x.dimensions)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if k = min(k, x.collection.Count()); k < 1 {
		return nil, nil
	}
	var out []index.Match
	if only == nil {
		found, err := x.collection.QueryEmbedding(ctx, vector, k, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		for _, f := range found {
			out = append(out, index.Match{Passage: f.ID, Cosine: float64(f.Similarity)})
		}
	} else {
		out = x.among(vector, only)
	}
	slices.SortFunc(out, func(a, b index.Match) int {
		return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Passage, b.Passage))
	})
	return out[:min(k, len(out))], nil
}

// among compares a question with all passages of some documents. chromem's own filters look at every passage's metadata
// first, which takes longer than this.
func (x *Index) among(vector []float32, documents []string) []index.Match {
	var out []index.Match
	seen := make(map[string]bool, len(documents))
	for _, name := range documents {
		if seen[name] {
			continue
		}
		seen[name] = true
		d := x.documents[name]
		for i, v := range d.vectors {
			var dot float32
			for j, w := range vector {
				dot += v[j] * w
			}
			out = append(out, index.Match{Passage: d.passages[i], Cosine: float64(dot)})
		}
	}
	return out
}

// Each calls do with every document until it fails. The vectors stay the index's; Put waits meanwhile.
func (x *Index) Each(do func(document string, passages []string, vectors [][]float32) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for name, d := range x.documents {
		if err := do(name, d.passages, d.vectors); err != nil {
			return err
		}
	}
	return nil
}

// Len implements index.Index.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.collection.Count()
}
