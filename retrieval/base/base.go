package base

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/chunk"
	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/chromem"
	"github.com/quipu-ai/quipu/retrieval/load"
	"github.com/quipu-ai/quipu/retrieval/store/sqlite"
)

// Config says where the knowledge base is and how documents become passages.
type Config struct {
	Dir      string // the data folder; created if it is missing
	Embedder retrieval.Embedder
	Info     retrieval.EmbedderInfo // of the Embedder
	Load     load.Config
	Chunk    chunk.Config
}

// Default is a Config for a folder; Embedder and Info are left to set. Without them documents can be listed and deleted, but
// not ingested or searched.
func Default(dir string) Config {
	return Config{Dir: dir, Load: load.Default(), Chunk: chunk.Default()}
}

// Validate names what is out of range.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("base: no data folder is named")
	}
	if c.Embedder != nil && c.Info.Dimensions < 1 {
		return errors.New("base: the embedding model's dimensions are missing")
	}
	return errors.Join(c.Load.Validate(), c.Chunk.Validate())
}

// Base is an open knowledge base.
type Base struct {
	config Config
	record *sqlite.Record
	loader *load.Loader

	mu      sync.Mutex
	indexes map[int64]*storeIndex // by the store's id, which is never used again
}

// storeIndex is a store's index and how far it follows the record.
type storeIndex struct {
	mu       sync.Mutex // held while it catches up
	index    index.Index
	sequence int64
}

// Open opens or creates the knowledge base of a folder.
func Open(ctx context.Context, c Config) (*Base, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Chunk = c.Chunk.Within(c.Info.MaxInput)
	record, err := sqlite.Open(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	return &Base{config: c, record: record, loader: load.New(c.Load), indexes: map[int64]*storeIndex{}}, nil
}

// Close closes the record. It may be called again.
func (b *Base) Close() error { return b.record.Close() }

var storeName = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// checkName gives the name of a store, the default one for "".
func checkName(name string) (string, error) {
	if name == "" {
		return retrieval.DefaultStore, nil
	}
	if !storeName.MatchString(name) {
		return "", fmt.Errorf("%.100q: %w", name, retrieval.ErrStoreName)
	}
	return name, nil
}

// Store finds a store; retrieval.ErrNoStore when there is none.
func (b *Base) Store(ctx context.Context, name string) (retrieval.Store, error) {
	name, err := checkName(name)
	if err != nil {
		return retrieval.Store{}, err
	}
	return b.record.Store(ctx, name)
}

// Stores lists all stores by name.
func (b *Base) Stores(ctx context.Context) ([]retrieval.Store, error) { return b.record.Stores(ctx) }

// DeleteStore deletes a store with all its documents.
func (b *Base) DeleteStore(ctx context.Context, name string) error {
	name, err := checkName(name)
	if err != nil {
		return err
	}
	return b.record.DeleteStore(ctx, name)
}

// Documents lists a store's documents by file.
func (b *Base) Documents(ctx context.Context, store string) ([]retrieval.Document, error) {
	s, err := b.Store(ctx, store)
	if err != nil {
		return nil, err
	}
	return b.record.Documents(ctx, s.ID)
}

// Text is a document's extracted text, in which a passage's Start and End count bytes.
func (b *Base) Text(ctx context.Context, documentID string) (string, error) {
	return b.record.Text(ctx, documentID)
}

// DeleteDocument deletes a document from the record; no search that begins later finds it.
func (b *Base) DeleteDocument(ctx context.Context, id string) error {
	return b.record.DeleteDocument(ctx, id)
}

// Check looks for damage in the record; see sqlite.Record.Check.
func (b *Base) Check(ctx context.Context) error { return b.record.Check(ctx) }

const (
	defaultTopK = 8
	maxTopK     = 200
)

// Search finds the passages nearest to a question, best first. An empty store gives none.
func (b *Base) Search(ctx context.Context, q retrieval.Query) ([]retrieval.Hit, error) {
	if q.TopK == 0 {
		q.TopK = defaultTopK
	}
	switch {
	case b.config.Embedder == nil:
		return nil, retrieval.ErrNoEmbedder
	case q.TopK < 1 || q.TopK > maxTopK:
		return nil, fmt.Errorf("%w: TopK %d must be in 1..%d", retrieval.ErrQuery, q.TopK, maxTopK)
	case strings.TrimSpace(q.Text) == "" || !utf8.ValidString(q.Text):
		return nil, fmt.Errorf("%w: it is blank or not UTF-8", retrieval.ErrQuery)
	}
	s, err := b.Store(ctx, q.Store)
	if err != nil {
		return nil, err
	}
	if s.Passages == 0 {
		return nil, nil
	}
	ix, err := b.index(ctx, s)
	if err != nil {
		return nil, err
	}
	// A question longer than the model reads is searched for by its beginning: it is the question that is cut, for the
	// search alone, and never a document.
	text, err := chunk.Clip(q.Text, b.config.Embedder, b.config.Chunk.Max)
	if err != nil {
		return nil, err
	}
	vectors, err := b.config.Embedder.Embed(ctx, []string{text})
	if err != nil {
		return nil, fmt.Errorf("embed the question: %w", err)
	}
	matches, err := ix.Search(ctx, vectors[0], q.TopK)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(matches))
	for i, m := range matches {
		ids[i] = m.Passage
	}
	passages, err := b.record.Passages(ctx, ids)
	if err != nil {
		return nil, err
	}
	hits := make([]retrieval.Hit, 0, len(matches))
	for _, m := range matches {
		// A passage that was deleted since the index answered is not a hit any more.
		if p, ok := passages[m.Passage]; ok {
			hits = append(hits, retrieval.Hit{Passage: p, Score: m.Cosine, Dense: m.Cosine})
		}
	}
	return hits, nil
}

// index gives a store's index, brought up to date with the record.
func (b *Base) index(ctx context.Context, s retrieval.Store) (index.Index, error) {
	if !s.Embedder.Same(b.config.Info) {
		return nil, &retrieval.EmbedderError{Store: s.Name, Has: s.Embedder, Offered: b.config.Info}
	}
	b.mu.Lock()
	si := b.indexes[s.ID]
	if si == nil {
		x, err := chromem.New(s.Embedder.Dimensions)
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
