package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/quipu-ai/quipu/retrieval"
)

// Lexical ranks a store's passages by BM25 (k1 1.2, b .75) for terms, best first, at most k of them; passages without any of the
// terms are not among them. A nil filter is all documents.
func (r *Record) Lexical(ctx context.Context, storeID int64, terms []string, k int, f *retrieval.Filter) ([]retrieval.Match, error) {
	if len(terms) == 0 || k < 1 {
		return nil, nil
	}
	quoted := make([]string, len(terms))
	for i, t := range terms {
		quoted[i] = `"` + strings.ReplaceAll(t, `"`, `""`) + `"`
	}
	query := strings.Builder{}
	query.WriteString("SELECT p.ident, -bm25(passages_fts, 0, 1) AS score FROM passages_fts JOIN passages p ON p.id = passages_fts.rowid WHERE passages_fts MATCH ?")
	args := []any{fmt.Sprintf(`scope : "%s" AND terms : (%s)`, scopeOf(storeID), strings.Join(quoted, " OR "))}
	if f != nil {
		condition, values := where(storeID, f, "p.document_id")
		query.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	query.WriteString(" ORDER BY score DESC, p.ident LIMIT ?")
	return list(ctx, r, "search for words", func(row scanner) (m retrieval.Match, err error) {
		err = row.Scan(&m.Passage, &m.Score)
		return m, err
	}, query.String(), append(args, k)...)
}

// scopeOf is the term that all passages of a store have.
func scopeOf(storeID int64) string { return fmt.Sprintf("s%d", storeID) }

// Matching gives the ids of a store's documents that a filter chooses, in order; none is nil.
func (r *Record) Matching(ctx context.Context, storeID int64, f *retrieval.Filter) ([]string, error) {
	query, args := "SELECT id FROM documents WHERE store_id = ?", []any{storeID}
	if f != nil {
		condition, values := where(storeID, f, "id")
		query, args = query+" AND "+condition, append(args, values...)
	}
	return list(ctx, r, "filter documents", func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	}, query+" ORDER BY id", args...)
}

// where makes a filter a condition on a column of document ids. The filter is valid.
func where(storeID int64, f *retrieval.Filter, column string) (string, []any) {
	switch f.Type {
	case retrieval.And, retrieval.Or:
		var parts []string
		var args []any
		for i := range f.Filters {
			part, values := where(storeID, &f.Filters[i], column)
			parts, args = append(parts, part), append(args, values...)
		}
		return "(" + strings.Join(parts, map[retrieval.FilterType]string{retrieval.And: " AND ", retrieval.Or: " OR "}[f.Type]) + ")", args
	}
	values := []any{f.Value}
	if list, ok := f.Value.([]any); ok {
		values = list
	}
	var parts []string
	args := []any{storeID, f.Key}
	for _, v := range values {
		kind, value := stored(v)
		parts, args = append(parts, "kind = ? AND value "+comparisons[f.Type]+" ?"), append(args, kind, value)
	}
	not := ""
	if f.Type == retrieval.NotEqual || f.Type == retrieval.NotIn {
		not = "NOT "
	}
	return fmt.Sprintf("%s %sIN (SELECT document_id FROM attributes WHERE store_id = ? AND key = ? AND (%s))", column, not, strings.Join(parts, " OR ")), args
}

var comparisons = map[retrieval.FilterType]string{
	retrieval.Equal: "=", retrieval.NotEqual: "=", retrieval.In: "=", retrieval.NotIn: "=",
	retrieval.Greater: ">", retrieval.GreaterOrEqual: ">=", retrieval.Less: "<", retrieval.LessOrEqual: "<=",
}

// stored is how an attribute's value stands in the table.
func stored(value any) (kind string, v any) {
	switch value := value.(type) {
	case float64:
		return "number", value
	case bool:
		return "truth", value
	}
	return "string", value
}
