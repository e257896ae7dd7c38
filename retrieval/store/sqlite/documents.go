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

// Content is all that is stored of a document beside its row. Vectors has a row per passage.
type Content struct {
	Text     string
	Passages []retrieval.Passage
	Vectors  [][]float32
}

// Put stores a document in a store, in place of what it was before, in one transaction. The store is named by its ID: one
// that was deleted meanwhile is retrieval.ErrNoStore, even if another has its name now.
func (r *Record) Put(ctx context.Context, storeID int64, d retrieval.Document, c Content) (retrieval.Status, error) {
	if len(c.Vectors) != len(c.Passages) {
		return retrieval.Failed, fmt.Errorf("record: %s: %d vectors of %d passages", d.File, len(c.Vectors), len(c.Passages))
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
		return insert(ctx, tx, storeID, dimensions, d, c)
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

func insert(ctx context.Context, tx *sql.Tx, storeID int64, dimensions int, d retrieval.Document, c Content) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO documents (id, store_id, file, title, media_type, sha256, bytes, recipe, passages, ingested_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.ID, storeID, d.File, d.Title, d.MediaType, d.SHA256, d.Bytes, d.Recipe, len(c.Passages),
		d.IngestedAt.UnixMilli()); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO texts (document_id, text) VALUES (?, ?)", d.ID, c.Text); err != nil {
		return err
	}
	var statements [3]*sql.Stmt
	for i, query := range []string{
		`INSERT INTO passages (ident, document_id, ordinal, page, headings, lead, text, start_byte, end_byte, tokens)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		`INSERT INTO vectors (passage_id, vector) VALUES (?, ?)`,
		`INSERT INTO passages_fts (rowid, title, headings, text) VALUES (?, ?, ?, ?)`,
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
		if _, err := statements[2].ExecContext(ctx, row, d.Title, string(headings), p.Text); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "UPDATE stores SET documents = documents + 1, passages = passages + ? WHERE id = ?", len(c.Passages), storeID)
	return err
}

// DeleteDocument deletes a document with its text, passages and vectors.
func (r *Record) DeleteDocument(ctx context.Context, id string) error {
	return r.transact(ctx, "delete document "+id, func(tx *sql.Tx) error {
		var storeID int64
		err := tx.QueryRowContext(ctx, "SELECT store_id FROM documents WHERE id = ?", id).Scan(&storeID)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("document %q: %w", id, retrieval.ErrNoDocument)
		}
		if err != nil {
			return err
		}
		if _, err := touch(ctx, tx, storeID, id); err != nil {
			return err
		}
		return remove(ctx, tx, storeID, id)
	})
}

const documentColumns = `d.id, s.name, d.file, d.title, d.media_type, d.sha256, d.bytes, d.recipe, d.passages, d.ingested_at
	FROM documents d JOIN stores s ON s.id = d.store_id`

func scanDocument(row scanner) (retrieval.Document, error) {
	var d retrieval.Document
	var at int64
	err := row.Scan(&d.ID, &d.Store, &d.File, &d.Title, &d.MediaType, &d.SHA256, &d.Bytes, &d.Recipe, &d.Passages, &at)
	d.IngestedAt = time.UnixMilli(at)
	return d, err
}

// Documents lists a store's documents by file.
func (r *Record) Documents(ctx context.Context, storeID int64) ([]retrieval.Document, error) {
	rows, err := r.read.QueryContext(ctx, "SELECT "+documentColumns+" WHERE d.store_id = ? ORDER BY d.file", storeID)
	if err != nil {
		return nil, failure("list documents", err)
	}
	defer rows.Close()
	var out []retrieval.Document
	for rows.Next() {
		d, err := scanDocument(rows)
		if err != nil {
			return nil, failure("list documents", err)
		}
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, failure("list documents", err)
	}
	return out, nil
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

// Text gives a document's extracted text, in which its passages' offsets count.
func (r *Record) Text(ctx context.Context, id string) (string, error) {
	var text string
	err := r.read.QueryRowContext(ctx, "SELECT text FROM texts WHERE document_id = ?", id).Scan(&text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("document %q: %w", id, retrieval.ErrNoDocument)
	case err != nil:
		return "", failure("read text", err)
	}
	return text, nil
}
