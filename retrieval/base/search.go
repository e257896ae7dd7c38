package base

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/chunk"
	"github.com/quipu-ai/quipu/retrieval/lexical"
)

const (
	defaultTopK = 8
	maxTopK     = 200
	// depth is how many passages each arm gives at least: what one ranks low the other may lift.
	depth = 200
	// spare is how many times as many hits as were asked for are looked at, for some are the same as others.
	spare = 3
)

// Search finds the passages that answer a question best, best first. An empty store gives none.
func (b *Base) Search(ctx context.Context, q retrieval.Query) ([]retrieval.Hit, error) {
	if q.TopK == 0 {
		q.TopK = defaultTopK
	}
	if q.Arms == 0 {
		q.Arms = retrieval.Both
	}
	if err := b.check(q); err != nil {
		return nil, err
	}
	s, err := b.Store(ctx, q.Store)
	if err != nil {
		return nil, err
	}
	if s.Passages == 0 {
		return nil, nil
	}
	if !s.Embedder.Same(b.config.Info) {
		return nil, &retrieval.EmbedderError{Store: s.Name, Has: s.Embedder, Offered: b.config.Info}
	}
	fusion := retrieval.DefaultFusion()
	switch {
	case q.Fusion != nil:
		fusion = *q.Fusion
	case s.Settings.Fusion != nil:
		fusion = *s.Settings.Fusion
	}
	analyzer, err := lexical.New(s.Settings.Language)
	if err != nil {
		return nil, err
	}
	found, err := b.find(ctx, s, q, analyzer)
	if err != nil {
		return nil, err
	}
	hits := fuse(found, q.Arms, fusion)
	return b.choose(ctx, hits, q, analyzer)
}

func (b *Base) check(q retrieval.Query) error {
	switch {
	case b.config.Embedder == nil:
		return retrieval.ErrNoEmbedder
	case q.TopK < 1 || q.TopK > maxTopK:
		return fmt.Errorf("%w: TopK %d must be in 1..%d", retrieval.ErrQuery, q.TopK, maxTopK)
	case strings.TrimSpace(q.Text) == "" || !utf8.ValidString(q.Text):
		return fmt.Errorf("%w: it is blank or not UTF-8", retrieval.ErrQuery)
	case q.Arms&^retrieval.Both != 0:
		return fmt.Errorf("%w: there are no arms %d", retrieval.ErrQuery, q.Arms)
	case !(q.Diversity >= 0 && q.Diversity <= 1):
		return fmt.Errorf("%w: Diversity %g must be in 0..1", retrieval.ErrQuery, q.Diversity)
	}
	if q.Fusion != nil {
		if err := q.Fusion.Validate(); err != nil {
			return err
		}
	}
	return q.Filter.Validate()
}

// find lets the arms search side by side.
func (b *Base) find(ctx context.Context, s retrieval.Store, q retrieval.Query, analyzer *lexical.Analyzer) (found, error) {
	var f found
	n := max(depth, spare*q.TopK)
	arms, inner := errgroup.WithContext(ctx)
	if q.Arms&retrieval.Lexical != 0 {
		arms.Go(func() (err error) {
			f.lexical, err = b.record.Lexical(inner, s.ID, analyzer.Question(q.Text), n, q.Filter)
			return err
		})
	}
	// Hits of words alone have a cosine, too: whoever judges them needs it.
	arms.Go(func() error {
		// A question longer than the model reads is searched for by its beginning: it is the question that is cut, for the
		// search alone, and never a document.
		text, err := chunk.Clip(q.Text, b.config.Embedder, b.config.Chunk.Max)
		if err != nil {
			return err
		}
		vectors, err := b.config.Embedder.Embed(inner, []string{text})
		if err != nil {
			return fmt.Errorf("embed the question: %w", err)
		}
		f.question = vectors[0]
		if q.Arms&retrieval.Dense == 0 {
			return nil
		}
		ix, err := b.index(inner, s)
		if err != nil {
			return err
		}
		var only []string
		if q.Filter != nil {
			if only, err = b.record.Matching(inner, s.ID, q.Filter); err != nil || len(only) == 0 {
				return err
			}
		}
		f.dense, err = ix.Search(inner, f.question, n, only)
		return err
	})
	if err := arms.Wait(); err != nil {
		return f, err
	}
	return f, b.complete(ctx, &f)
}

// complete adds the cosines of passages that only words found.
func (b *Base) complete(ctx context.Context, f *found) error {
	f.cosines = make(map[string]float64, len(f.dense)+len(f.lexical))
	for _, m := range f.dense {
		f.cosines[m.Passage] = m.Cosine
	}
	var missing []string
	for _, m := range f.lexical {
		if _, ok := f.cosines[m.Passage]; !ok {
			missing = append(missing, m.Passage)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	vectors, err := b.record.Vectors(ctx, missing)
	if err != nil {
		return err
	}
	for id, v := range vectors {
		if len(v) == len(f.question) {
			f.cosines[id] = cosine(f.question, v)
		}
	}
	return nil
}

// cosine is that of two vectors of unit length.
func cosine(a, b []float32) float64 {
	var sum float64
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}

// choose reads the best hits and leaves out what says the same as a better one.
func (b *Base) choose(ctx context.Context, hits []retrieval.Hit, q retrieval.Query, analyzer *lexical.Analyzer) ([]retrieval.Hit, error) {
	hits = hits[:min(len(hits), spare*q.TopK)]
	ids := make([]string, len(hits))
	for i, h := range hits {
		ids[i] = h.Passage.ID
	}
	passages, err := b.record.Passages(ctx, ids)
	if err != nil {
		return nil, err
	}
	kept := hits[:0]
	for _, h := range hits {
		// A passage that was deleted since the arms answered is not a hit any more.
		if p, ok := passages[h.Passage.ID]; ok {
			h.Passage = p
			kept = append(kept, h)
		}
	}
	if q.Diversity == 0 {
		return distinct(kept, analyzer, q.TopK), nil
	}
	vectors, err := b.record.Vectors(ctx, ids)
	if err != nil {
		return nil, err
	}
	return diverse(distinct(kept, analyzer, len(kept)), vectors, q.Diversity, q.TopK), nil
}
