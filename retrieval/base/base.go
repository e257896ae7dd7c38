package base

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/chunk"
	"github.com/quipu-ai/quipu/retrieval/index"
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

// Configure gives a store settings, and creates it if it is missing. Documents that are there already are read anew by them when
// they are ingested again.
func (b *Base) Configure(ctx context.Context, name string, settings retrieval.Settings) error {
	name, err := checkName(name)
	if err != nil {
		return err
	}
	if b.config.Embedder == nil {
		return retrieval.ErrNoEmbedder
	}
	if settings.Fusion != nil {
		if err := settings.Fusion.Validate(); err != nil {
			return err
		}
	}
	if _, _, err := b.reading(settings); err != nil {
		return err
	}
	s, err := b.record.EnsureStore(ctx, name, b.config.Info)
	if err != nil {
		return err
	}
	return b.record.SetSettings(ctx, s.ID, settings)
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
	t, err := b.record.Text(ctx, documentID)
	return t.Text, err
}

// DeleteDocument deletes a document from the record; no search that begins later finds it.
func (b *Base) DeleteDocument(ctx context.Context, id string) error {
	return b.record.DeleteDocument(ctx, id)
}

// Check looks for damage in the record; see sqlite.Record.Check.
func (b *Base) Check(ctx context.Context) error { return b.record.Check(ctx) }
