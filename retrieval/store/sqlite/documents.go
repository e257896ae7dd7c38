package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quipu-ai/quipu/retrieval"
)

// Put stores a document in a store, in place of what it was before, in one transaction. The store is named by its ID: one
// that was deleted meanwhile is retrieval.ErrNoStore, even if another has its name now.
func (r *Record) Put(ctx context.Context, storeID int64, d retrieval.Document, c retrieval.Content) (retrieval.Status, error) {
	if len(c.Vectors) != len(c.Passages) || len(c.Terms) != len(c.Passages) {
		return retrieval.Failed, fmt.Errorf("record: %s: %d vectors of %d passages, and terms of %d", d.File, len(c.Vectors), len(c.Passages), len(c.Terms))
	}
	if err := d.Attributes.Validate(); err != nil {
		return retrieval.Failed, fmt.Errorf("record: %s: %w", d.File, err)
	}
	status := retrieval.Added
	err := r.transact(ctx, "store "+d.File, func(tx *sql.Tx) error {
		dimensions, err := touch(ctx, tx, storeID, d.ID)
		if err != nil {
			return err
		}
		switch err := remove(ctx, tx, storeID, d.ID); {
		case err == nil:
			status = retrieval.Replaced
		case !errors.Is(err, retrieval.ErrNoDocument):
			return err
		}
		if err := insert(ctx, tx, storeID, dimensions, d, c); err != nil || c.Job == "" {
			return err
		}
		return noteDocument(ctx, tx, c.Job, c.Source, retrieval.DocumentResult{File: d.File, Status: status, Passages: len(c.Passages)})
	})
	if err != nil {
		return retrieval.Failed, err
	}
	return status, nil
}

// touch notes that a document changes and gives the store's dimensions.
func touch(ctx context.Context, tx *sql.Tx, storeID int64, documentID string) (dimensions int, err error) {
	var sequence int64
	err = tx.QueryRowContext(ctx, "UPDATE stores SET sequence = sequence + 1 WHERE id = ? RETURNING sequence, dimensions", storeID).
		Scan(&sequence, &dimensions)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("it was deleted meanwhile: %w", retrieval.ErrNoStore)
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO changes (document_id, store_id, sequence) VALUES (?, ?, ?)", documentID, storeID, sequence)
	return dimensions, err
}

// remove deletes a document's row, from which all else follows. The store must be the document's own: its counts change.
func remove(ctx context.Context, tx *sql.Tx, storeID int64, documentID string) error {
	var passages int
	err := tx.QueryRowContext(ctx, "DELETE FROM documents WHERE id = ? AND store_id = ? RETURNING passages", documentID, storeID).Scan(&passages)
	if errors.Is(err, sql.ErrNoRows) {
		return retrieval.ErrNoDocument
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE stores SET documents = documents - 1, passages = passages - ? WHERE id = ?", passages, storeID)
	return err
}

func insert(ctx context.Context, tx *sql.Tx, storeID int64, dimensions int, d retrieval.Document, c retrieval.Content) error {
	attributes, err := json.Marshal(d.Attributes)
	if err != nil {
		return err
	}
	blocks, err := json.Marshal(c.Text.Blocks)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO documents (id, store_id, file, title, media_type, sha256, bytes, recipe, passages, attributes, ingested_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.ID, storeID, d.File, d.Title, d.MediaType, d.SHA256, d.Bytes, d.Recipe, len(c.Passages),
		string(attributes), d.IngestedAt.UnixMilli()); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO texts (document_id, text, blocks) VALUES (?, ?, ?)", d.ID, c.Text.Text, string(blocks)); err != nil {
		return err
	}
	if err := insertAttributes(ctx, tx, storeID, d.ID, d.Attributes); err != nil {
		return err
	}
	scope := scopeOf(storeID)
	var statements [3]*sql.Stmt
	for i, query := range []string{
		`INSERT INTO passages (ident, document_id, ordinal, page, headings, lead, text, start_byte, end_byte, tokens)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		`INSERT INTO vectors (passage_id, vector) VALUES (?, ?)`,
		`INSERT INTO passages_fts (rowid, scope, terms) VALUES (?, ?, ?)`,
	} {
		s, err := tx.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		defer s.Close()
		statements[i] = s
	}
	for i, p := range c.Passages {
		if len(c.Vectors[i]) != dimensions {
			return fmt.Errorf("passage %d has a vector of %d dimensions, not %d", i, len(c.Vectors[i]), dimensions)
		}
		headings, err := json.Marshal(append([]string{}, p.Headings...))
		if err != nil {
			return err
		}
		done, err := statements[0].ExecContext(ctx, p.ID, d.ID, p.Ordinal, p.Page, string(headings), p.Lead, p.Text, p.Start, p.End, p.Tokens)
		if err != nil {
			return err
		}
		row, err := done.LastInsertId()
		if err != nil {
			return err
		}
		if _, err := statements[1].ExecContext(ctx, row, encode(c.Vectors[i])); err != nil {
			return err
		}
		if _, err := statements[2].ExecContext(ctx, row, scope, strings.Join(c.Terms[i], " ")); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "UPDATE stores SET documents = documents + 1, passages = passages + ? WHERE id = ?", len(c.Passages), storeID)
	return err
}

// SetAttributes gives a document other attributes.
func (r *Record) SetAttributes(ctx context.Context, id string, a retrieval.Attributes) error {
	if err := a.Validate(); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return r.transact(ctx, "set attributes of "+id, func(tx *sql.Tx) error {
		storeID, err := storeOf(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := touch(ctx, tx, storeID, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE documents SET attributes = ? WHERE id = ?", string(text), id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM attributes WHERE document_id = ?", id); err != nil {
			return err
		}
		return insertAttributes(ctx, tx, storeID, id, a)
	})
}

func insertAttributes(ctx context.Context, tx *sql.Tx, storeID int64, documentID string, a retrieval.Attributes) error {
	for key, v := range a {
		kind, value := stored(v)
		if _, err := tx.ExecContext(ctx, "INSERT INTO attributes (document_id, store_id, key, kind, value) VALUES (?, ?, ?, ?, ?)",
			documentID, storeID, key, kind, value); err != nil {
			return err
		}
	}
	return nil
}

func storeOf(ctx context.Context, tx *sql.Tx, documentID string) (storeID int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT store_id FROM documents WHERE id = ?", documentID).Scan(&storeID)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("document %q: %w", documentID, retrieval.ErrNoDocument)
	}
	return storeID, err
}

// DeleteDocument deletes a document with its text, passages and vectors.
func (r *Record) DeleteDocument(ctx context.Context, id string) error {
	return r.transact(ctx, "delete document "+id, func(tx *sql.Tx) error {
		storeID, err := storeOf(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := touch(ctx, tx, storeID, id); err != nil {
			return err
		}
		return remove(ctx, tx, storeID, id)
	})
}

const documentColumns = `d.id, s.name, d.file, d.title, d.media_type, d.sha256, d.bytes, d.recipe, d.passages, d.attributes, d.ingested_at
	FROM documents d JOIN stores s ON s.id = d.store_id`

func scanDocument(row scanner) (retrieval.Document, error) {
	var d retrieval.Document
	var at int64
	var attributes []byte
	if err := row.Scan(&d.ID, &d.Store, &d.File, &d.Title, &d.MediaType, &d.SHA256, &d.Bytes, &d.Recipe, &d.Passages, &attributes, &at); err != nil {
		return d, err
	}
	d.IngestedAt = time.UnixMilli(at)
	if err := json.Unmarshal(attributes, &d.Attributes); err != nil {
		return d, fmt.Errorf("attributes of document %s: %w (%w)", d.ID, retrieval.ErrCorrupt, err)
	}
	if len(d.Attributes) == 0 {
		d.Attributes = nil
	}
	return d, nil
}

// Documents lists a store's documents by file.
func (r *Record) Documents(ctx context.Context, storeID int64) ([]retrieval.Document, error) {
	return list(ctx, r, "list documents", scanDocument, "SELECT "+documentColumns+" WHERE d.store_id = ? ORDER BY d.file", storeID)
}

// Document finds a document; retrieval.ErrNoDocument when there is none.
func (r *Record) Document(ctx context.Context, id string) (retrieval.Document, error) {
	d, err := scanDocument(r.read.QueryRowContext(ctx, "SELECT "+documentColumns+" WHERE d.id = ?", id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return d, fmt.Errorf("document %q: %w", id, retrieval.ErrNoDocument)
	case err != nil:
		return d, failure("find document", err)
	}
	return d, nil
}

// Text gives a document's extracted text, in which its passages' offsets count. It has no blocks if the document was stored
// before they were kept.
func (r *Record) Text(ctx context.Context, id string) (retrieval.Text, error) {
	var t retrieval.Text
	var blocks string
	err := r.read.QueryRowContext(ctx, "SELECT d.title, d.media_type, t.text, t.blocks FROM texts t JOIN documents d ON d.id = t.document_id WHERE d.id = ?", id).
		Scan(&t.Title, &t.MediaType, &t.Text, &blocks)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return t, fmt.Errorf("document %q: %w", id, retrieval.ErrNoDocument)
	case err != nil:
		return t, failure("read text", err)
	}
	if blocks != "" {
		if err := json.Unmarshal([]byte(blocks), &t.Blocks); err != nil {
			return t, fmt.Errorf("record: blocks of document %s: %w (%w)", id, retrieval.ErrCorrupt, err)
		}
	}
	return t, nil
}
