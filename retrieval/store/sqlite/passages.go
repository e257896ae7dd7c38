package sqlite

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math"

	"github.com/quipu-ai/quipu/retrieval"
)

// Passages finds passages by their ids. One that is not there any more is not in the map.
func (r *Record) Passages(ctx context.Context, ids []string) (map[string]retrieval.Passage, error) {
	named, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]retrieval.Passage, len(ids))
	err = r.each(ctx, "read passages", func(row scanner) error {
		var p retrieval.Passage
		var headings []byte
		if err := row.Scan(&p.ID, &p.DocumentID, &p.Store, &p.File, &p.Title, &headings, &p.Lead, &p.Text, &p.Start, &p.End,
			&p.Ordinal, &p.Page, &p.Tokens); err != nil {
			return err
		}
		if err := json.Unmarshal(headings, &p.Headings); err != nil {
			return fmt.Errorf("headings of passage %s: %w (%w)", p.ID, retrieval.ErrCorrupt, err)
		}
		out[p.ID] = p
		return nil
	}, `SELECT p.ident, d.id, s.name, d.file, d.title, p.headings, p.lead, p.text, p.start_byte, p.end_byte,
		p.ordinal, p.page, p.tokens FROM passages p JOIN documents d ON d.id = p.document_id JOIN stores s ON s.id = d.store_id
		WHERE p.ident IN (SELECT value FROM json_each(?))`, string(named))
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Vectors gives the vectors of passages by their ids. Of one that is not there any more there is none.
func (r *Record) Vectors(ctx context.Context, ids []string) (map[string][]float32, error) {
	named, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]float32, len(ids))
	err = r.each(ctx, "read vectors", func(row scanner) error {
		var id string
		var vector []byte
		err := row.Scan(&id, &vector)
		out[id] = decode(vector)
		return err
	}, `SELECT p.ident, v.vector FROM passages p JOIN vectors v ON v.passage_id = p.id
		WHERE p.ident IN (SELECT value FROM json_each(?))`, string(named))
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Changes gives what became of every document that changed after since, in the order of the changes; with since 0 all
// that a store holds. It is one snapshot of the record.
func (r *Record) Changes(ctx context.Context, storeID, since int64) iter.Seq2[retrieval.Change, error] {
	return func(yield func(retrieval.Change, error) bool) {
		rows, err := r.read.QueryContext(ctx, `SELECT c.document_id, c.sequence, p.ident, v.vector FROM changes c
			LEFT JOIN passages p ON p.document_id = c.document_id LEFT JOIN vectors v ON v.passage_id = p.id
			WHERE c.store_id = ? AND c.sequence > ? ORDER BY c.sequence, p.ordinal`, storeID, since)
		if err != nil {
			yield(retrieval.Change{}, failure("read changes", err))
			return
		}
		defer rows.Close()
		var c retrieval.Change
		for rows.Next() {
			var document string
			var sequence int64
			var passage *string
			var vector []byte
			if err := rows.Scan(&document, &sequence, &passage, &vector); err != nil {
				yield(retrieval.Change{}, failure("read changes", err))
				return
			}
			if document != c.DocumentID {
				if c.DocumentID != "" && !yield(c, nil) {
					return
				}
				c = retrieval.Change{DocumentID: document, Sequence: sequence}
			}
			if passage != nil {
				c.Passages = append(c.Passages, *passage)
				c.Vectors = append(c.Vectors, decode(vector))
			}
		}
		if err := rows.Err(); err != nil {
			yield(retrieval.Change{}, failure("read changes", err))
			return
		}
		if c.DocumentID != "" {
			yield(c, nil)
		}
	}
}

// encode writes a vector as little-endian float32.
func encode(v []float32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	return out
}

func decode(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}
