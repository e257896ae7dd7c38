package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// scanner is a row.
type scanner interface{ Scan(...any) error }

// each calls do with every row that a query gives.
func (r *Record) each(ctx context.Context, what string, do func(scanner) error, query string, args ...any) error {
	rows, err := r.read.QueryContext(ctx, query, args...)
	if err != nil {
		return failure(what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return failure(what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return failure(what, err)
	}
	return nil
}

// list gives what scan makes of every row that a query gives; of none it is nil.
func list[T any](ctx context.Context, r *Record, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	var out []T
	err := r.each(ctx, what, func(row scanner) error {
		v, err := scan(row)
		if err == nil {
			out = append(out, v)
		}
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// change runs a statement that is to change something. When nothing is changed, that is the error none.
func change(ctx context.Context, tx *sql.Tx, none error, statement string, args ...any) error {
	done, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return errors.Join(none, err)
	}
	return nil
}
