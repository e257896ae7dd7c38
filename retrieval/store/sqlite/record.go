package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver
	"github.com/pressly/goose/v3"

	"github.com/quipu-ai/quipu/retrieval"
)

// File is the record's name in the data folder.
const File = "quipu.db"

//go:embed migrations/*.sql
var migrations embed.FS

// Record is an open system of record.
type Record struct {
	write *sql.DB // one connection: SQLite has one writer at a time
	read  *sql.DB
}

// Open opens the record in dir and creates both as needed. It brings an older record up to date.
func Open(ctx context.Context, dir string) (*Record, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, failure("create the data folder", err)
	}
	path, err := filepath.Abs(filepath.Join(dir, File))
	if err != nil {
		return nil, failure("find the data folder", err)
	}
	write, err := connect(path, 1, "_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	r := &Record{write: write}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), r.Close())
	}
	if r.read, err = connect(path, max(4, runtime.NumCPU()), "_query_only=1"); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// patience is how long to wait when another process holds the lock.
const patience = 10 * time.Second

// connect makes a pool of connections that have patience.
func connect(path string, connections int, options string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: fmt.Sprintf("_foreign_keys=1&_busy_timeout=%d&%s", patience.Milliseconds(), options)}
	db, err := sql.Open("sqlite3", name.String())
	if err != nil {
		return nil, failure("open", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// prepare checks what the record needs and migrates it. Two processes may create a record at the same time: each
// migration is one transaction, so the one that comes second fails, looks again and finds it done.
func (r *Record) prepare(ctx context.Context) error {
	var err error
	for began, n := time.Now(), 0; n < 20 && time.Since(began) < patience; n++ {
		if err = r.migrate(ctx); err == nil || errors.Is(err, retrieval.ErrBuild) || errors.Is(err, retrieval.ErrNewer) ||
			errors.Is(err, retrieval.ErrCorrupt) || errors.Is(err, retrieval.ErrReadOnly) || errors.Is(err, retrieval.ErrDiskFull) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

func (r *Record) migrate(ctx context.Context) error {
	var fts bool
	if err := r.write.QueryRowContext(ctx, "SELECT sqlite_compileoption_used('ENABLE_FTS5')").Scan(&fts); err != nil {
		return failure("open", err)
	}
	if !fts {
		return retrieval.ErrBuild
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	g, err := goose.NewProvider(goose.DialectSQLite3, r.write, files)
	if err != nil {
		return failure("read the migrations", err)
	}
	have, want, err := g.GetVersions(ctx)
	switch {
	case err != nil:
		return failure("read the schema's version", err)
	case have > want:
		return fmt.Errorf("record: its schema is %d, this program knows %d: %w", have, want, retrieval.ErrNewer)
	case have == want:
		return nil
	}
	if _, err := g.Up(ctx); err != nil {
		return failure("migrate", err)
	}
	return nil
}

// Close waits for what runs and closes the connections. Closing again does nothing.
func (r *Record) Close() error {
	err := r.write.Close()
	if r.read != nil {
		err = errors.Join(err, r.read.Close())
	}
	return err
}

// Check looks for damage: pages, references, and whether all parts hold the same passages. It reads the whole record and
// returns retrieval.ErrCorrupt with what it found.
func (r *Record) Check(ctx context.Context) error {
	for _, c := range []struct{ what, query string }{
		{"pages", "SELECT group_concat(quick_check, '; ') FROM pragma_quick_check WHERE quick_check <> 'ok'"},
		{"references", `SELECT group_concat("table", '; ') FROM pragma_foreign_key_check`},
		{"documents without text", "SELECT group_concat(id) FROM documents WHERE id NOT IN (SELECT document_id FROM texts) HAVING count(*) > 0"},
		{"passages without vector", "SELECT group_concat(id) FROM passages WHERE id NOT IN (SELECT passage_id FROM vectors) HAVING count(*) > 0"},
		{"vectors of another length", `SELECT group_concat(v.passage_id) FROM vectors v JOIN passages p ON p.id = v.passage_id
			JOIN documents d ON d.id = p.document_id JOIN stores s ON s.id = d.store_id WHERE length(v.vector) <> 4 * s.dimensions HAVING count(*) > 0`},
		{"full-text index", "SELECT 'passages are missing' WHERE (SELECT count(*) FROM passages) <> (SELECT count(*) FROM passages_fts_docsize)"},
		{"counts", `SELECT group_concat(name) FROM stores s WHERE
			(documents, passages) <> (SELECT count(*), coalesce(sum(d.passages), 0) FROM documents d WHERE d.store_id = s.id)
			OR passages <> (SELECT count(*) FROM passages p JOIN documents d ON d.id = p.document_id WHERE d.store_id = s.id)`},
	} {
		var found sql.NullString
		err := r.read.QueryRowContext(ctx, c.query).Scan(&found)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return failure("check "+c.what, err)
		case found.Valid:
			return fmt.Errorf("record: %s: %s: %w", c.what, found.String, retrieval.ErrCorrupt)
		}
	}
	return nil
}
