package retrieval

import (
	"errors"
	"fmt"
)

// Codes of documents that can't be ingested. They are part of the API: clients act on them.
const (
	CodeUnsupported = "unsupported_file" // a format that nobody here reads
	CodeInvalid     = "invalid_file"     // broken, or not what its name says
	CodeTooLarge    = "too_large"
	CodeEmpty       = "empty" // no text in it
	CodeUnreadable  = "unreadable"
	CodeDuplicate   = "duplicate_name" // another document of the same ingestion has this name
	CodeNoFile      = "not_a_file"     // a link below a folder, a pipe, a device: skipped, not failed
)

// DocumentError says why one document can't be ingested; the others go on.
type DocumentError struct {
	Code   string // one of the Code constants
	Reason string // a sentence for people, without the file's name
	Err    error  // the cause, or nil
}

func (e *DocumentError) Error() string { return e.Reason }

// Unwrap gives the cause.
func (e *DocumentError) Unwrap() error { return e.Err }

// What a caller asked for is not there, or can't be.
var (
	ErrNoStore    = errors.New("there is no such store")
	ErrNoDocument = errors.New("there is no such document")
	ErrStoreName  = errors.New("a store's name is 1 to 64 of a-z, 0-9, '.', '_' and '-'")
	ErrQuery      = errors.New("the query can't be searched for")
	ErrNoJob      = errors.New("there is no such job")
	ErrJobLost    = errors.New("the job was cancelled, or another process runs it")
	ErrFilter     = errors.New("the filter can't be applied")
	ErrAttributes = errors.New("the attributes can't be stored")
	ErrNoEmbedder = errors.New("no embedding model is loaded")
	ErrClosed     = errors.New("the knowledge base is closed")
)

// The record can't be opened, read or written. Nothing that was committed before is lost.
var (
	ErrDiskFull = errors.New("the disk is full: free some space and run it again, what is stored is safe")
	ErrReadOnly = errors.New("the data folder can't be written: check its owner and permissions")
	ErrCorrupt  = errors.New("the record is damaged: restore it from a backup, or delete it and ingest again")
	ErrNewer    = errors.New("the record was written by a newer quipu: use that one, or another data folder")
	ErrBusy     = errors.New("another process holds the record for too long: try again when it is done")
	ErrBuild    = errors.New("this binary was built without SQLite's FTS5: build it with -tags sqlite_fts5")
)

// EmbedderError says that a store's vectors were made with another model than the one that is loaded.
type EmbedderError struct {
	Store        string
	Has, Offered EmbedderInfo
}

func (e *EmbedderError) Error() string {
	return fmt.Sprintf("store %q was embedded with %s, but %s is loaded: load the first again, or delete the store and "+
		"ingest its documents anew", e.Store, e.Has.label(), e.Offered.label())
}

func (e EmbedderInfo) label() string {
	sum := e.SHA256
	if sum == "" {
		return fmt.Sprintf("%s (%d dimensions)", e.Name, e.Dimensions)
	}
	return fmt.Sprintf("%s (%d dimensions, sha256 %.8s…)", e.Name, e.Dimensions, sum)
}
