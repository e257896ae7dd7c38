// Package growing is an index that begins as chromem's and becomes a flat one when it has grown: each is the better at its size.
package growing

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/chromem"
	"github.com/quipu-ai/quipu/retrieval/index/flat"
)

// Limit is up to how many passages an index is chromem's, which is exact to the last bit and holds memory for no more than it
// has. Beyond, a search of it takes long enough to be noticed.
const Limit = 20_000

// Index implements index.Index.
type Index struct {
	dimensions, limit int

	mu      sync.Mutex // held by the Put that runs
	current atomic.Pointer[index.Index]
}

// New returns an empty index for vectors of this many dimensions. One of which it is known that it will have more than Limit
// passages is flat from the start.
func New(dimensions, expected int) (*Index, error) { return newIndex(dimensions, expected, Limit) }

func newIndex(dimensions, expected, limit int) (*Index, error) {
	x := &Index{dimensions: dimensions, limit: limit}
	if expected > limit {
		large, err := flat.New(dimensions)
		if err != nil {
			return nil, err
		}
		x.set(large)
		return x, nil
	}
	small, err := chromem.New(dimensions)
	if err != nil {
		return nil, err
	}
	x.set(small)
	return x, nil
}

func (x *Index) set(to index.Index) { x.current.Store(&to) }

// Put implements index.Index. The one by which the index outgrows its limit takes longer, while searches go on in the old one.
// It never shrinks back.
func (x *Index) Put(ctx context.Context, document string, passages []string, vectors [][]float32) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := *x.current.Load()
	if err := now.Put(ctx, document, passages, vectors); err != nil {
		return err
	}
	small, ok := now.(*chromem.Index)
	if !ok || small.Len() <= x.limit {
		return nil
	}
	large, err := flat.New(x.dimensions)
	if err != nil {
		return err
	}
	if err := small.Each(func(document string, passages []string, vectors [][]float32) error {
		return large.Put(ctx, document, passages, vectors)
	}); err != nil {
		return err // the next Put tries again
	}
	x.set(large)
	return nil
}

// Search implements index.Index.
func (x *Index) Search(ctx context.Context, vector []float32, k int, only []string) ([]index.Match, error) {
	return (*x.current.Load()).Search(ctx, vector, k, only)
}

// Len implements index.Index.
func (x *Index) Len() int { return (*x.current.Load()).Len() }
