package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quipu-ai/quipu/retrieval"
)

const storeColumns = "id, name, embedder, embedder_sha256, dimensions, max_input, documents, passages, sequence, created_at, settings"

func scanStore(row scanner) (retrieval.Store, error) {
	var s retrieval.Store
	var created int64
	var settings []byte
	err := row.Scan(&s.ID, &s.Name, &s.Embedder.Name, &s.Embedder.SHA256, &s.Embedder.Dimensions, &s.Embedder.MaxInput,
		&s.Documents, &s.Passages, &s.Sequence, &created, &settings)
	if err != nil {
		return s, err
	}
	s.CreatedAt = time.UnixMilli(created)
	if err := json.Unmarshal(settings, &s.Settings); err != nil {
		return s, fmt.Errorf("settings of store %s: %w (%w)", s.Name, retrieval.ErrCorrupt, err)
	}
	return s, nil
}

// Stores lists all stores by name.
func (r *Record) Stores(ctx context.Context) ([]retrieval.Store, error) {
	return list(ctx, r, "list stores", scanStore, "SELECT "+storeColumns+" FROM stores ORDER BY name")
}

// Store finds a store by name; retrieval.ErrNoStore when there is none.
func (r *Record) Store(ctx context.Context, name string) (retrieval.Store, error) {
	return findStore(r.read.QueryRowContext(ctx, "SELECT "+storeColumns+" FROM stores WHERE name = ?", name), name)
}

func findStore(row scanner, name string) (retrieval.Store, error) {
	s, err := scanStore(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return s, fmt.Errorf("store %q: %w", name, retrieval.ErrNoStore)
	case err != nil:
		return s, failure("find store "+name, err)
	}
	return s, nil
}

// EnsureStore finds or creates a store for vectors of this model. A store without documents takes on the model; one that
// holds another model's vectors is a retrieval.EmbedderError.
func (r *Record) EnsureStore(ctx context.Context, name string, e retrieval.EmbedderInfo) (retrieval.Store, error) {
	var s retrieval.Store
	err := r.transact(ctx, "open store "+name, func(tx *sql.Tx) error {
		var err error
		s, err = findStore(tx.QueryRowContext(ctx, "SELECT "+storeColumns+" FROM stores WHERE name = ?", name), name)
		switch {
		case errors.Is(err, retrieval.ErrNoStore):
		case err != nil:
			return err
		case s.Embedder.Same(e):
			return nil
		case s.Documents > 0:
			return &retrieval.EmbedderError{Store: name, Has: s.Embedder, Offered: e}
		default: // a new store with the same settings, so that nobody searches what was kept of the old one
			if _, err := tx.ExecContext(ctx, "DELETE FROM stores WHERE id = ?", s.ID); err != nil {
				return err
			}
		}
		settings, err := json.Marshal(s.Settings)
		if err != nil {
			return err
		}
		s, err = scanStore(tx.QueryRowContext(ctx, `INSERT INTO stores (name, embedder, embedder_sha256, dimensions, max_input, created_at, settings)
			VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING `+storeColumns, name, e.Name, e.SHA256, e.Dimensions, e.MaxInput, time.Now().UnixMilli(), string(settings)))
		return err
	})
	return s, err
}

// SetSettings gives a store other settings. What they change in documents is the caller's to do.
func (r *Record) SetSettings(ctx context.Context, storeID int64, settings retrieval.Settings) error {
	text, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	return r.transact(ctx, "change a store's settings", func(tx *sql.Tx) error {
		return change(ctx, tx, retrieval.ErrNoStore, "UPDATE stores SET settings = ? WHERE id = ?", string(text), storeID)
	})
}

// DeleteStore deletes a store with all its documents.
func (r *Record) DeleteStore(ctx context.Context, name string) error {
	return r.transact(ctx, "delete store "+name, func(tx *sql.Tx) error {
		return change(ctx, tx, fmt.Errorf("store %q: %w", name, retrieval.ErrNoStore), "DELETE FROM stores WHERE name = ?", name)
	})
}

// transact runs do in a transaction that holds the write lock from its start. Its effects are on the disk when it returns
// without error, and there are none otherwise.
func (r *Record) transact(ctx context.Context, what string, do func(*sql.Tx) error) error {
	tx, err := r.write.BeginTx(ctx, nil)
	if err != nil {
		return failure(what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it has nothing to do; otherwise the first error counts
	if err := do(tx); err != nil {
		return typed(what, err)
	}
	if err := tx.Commit(); err != nil {
		return failure(what, err)
	}
	return nil
}

// typed leaves errors that callers know as they are.
func typed(what string, err error) error {
	var e *retrieval.EmbedderError
	if errors.Is(err, retrieval.ErrNoStore) || errors.Is(err, retrieval.ErrNoDocument) || errors.Is(err, retrieval.ErrNoJob) || errors.Is(err, retrieval.ErrJobLost) ||
		errors.As(err, &e) {
		return err
	}
	return failure(what, err)
}
