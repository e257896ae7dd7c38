package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/quipu-ai/quipu/retrieval"
)

// failure says what could not be done and, where it is known, what to do about it.
func failure(what string, err error) error {
	if kind := classify(err); kind != nil {
		return fmt.Errorf("record: %s: %w (%w)", what, kind, err)
	}
	return fmt.Errorf("record: %s: %w", what, err)
}

func classify(err error) error {
	var s sqlite3.Error
	if errors.As(err, &s) {
		switch s.Code {
		case sqlite3.ErrFull:
			return retrieval.ErrDiskFull
		case sqlite3.ErrIoErr: // growing the shared memory of the WAL, for one, says it in this way
			if full(s.SystemErrno) {
				return retrieval.ErrDiskFull
			}
		case sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrCantOpen, sqlite3.ErrAuth:
			return retrieval.ErrReadOnly
		case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
			return retrieval.ErrCorrupt
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			return retrieval.ErrBusy
		case sqlite3.ErrInterrupt:
			return context.Canceled
		}
	}
	switch {
	case full(err):
		return retrieval.ErrDiskFull
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return retrieval.ErrReadOnly
	}
	return nil
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
