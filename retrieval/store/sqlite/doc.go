// Package sqlite is the system of record in one SQLite file, DIR/quipu.db: stores, documents with their text, passages,
// vectors and the full-text index.
//
// One transaction makes a document visible in all of them, or replaces or deletes it; it is on the disk when the call
// returns (WAL, synchronous=FULL). Several processes may share the folder: one writes at a time, the others wait, reading
// never waits. A store's sequence grows with every change, so that whoever keeps something in memory knows when and
// what to read again.
//
// The full-text index needs SQLite's FTS5, which the driver compiles in with the build tag sqlite_fts5; without it Open
// fails with retrieval.ErrBuild.
//
// A [Record] is safe for concurrent use. It owns its connections until Close.
package sqlite
