package base

import (
	"context"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/growing"
)

// index gives a store's index, brought up to date with the record.
func (b *Base) index(ctx context.Context, s retrieval.Store) (index.Index, error) {
	b.mu.Lock()
	si := b.indexes[s.ID]
	if si == nil {
		x, err := growing.New(s.Embedder.Dimensions, s.Passages)
		if err != nil {
			b.mu.Unlock()
			return nil, err
		}
		si = &storeIndex{index: x}
		b.indexes[s.ID] = si
	}
	b.mu.Unlock()

	si.mu.Lock()
	defer si.mu.Unlock()
	if si.sequence >= s.Sequence {
		return si.index, nil
	}
	for c, err := range b.record.Changes(ctx, s.ID, si.sequence) {
		if err != nil {
			return nil, err
		}
		if err := si.index.Put(ctx, c.DocumentID, c.Passages, c.Vectors); err != nil {
			return nil, err
		}
		si.sequence = c.Sequence
	}
	return si.index, nil
}
