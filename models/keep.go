package models

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Dir is the library's folder.
func (l *Library) Dir() string { return l.config.Dir }

// Keep moves a finished file into the folder and records its checksum.
func (l *Library) Keep(ctx context.Context, from, name string) (string, error) {
	f, err := os.Open(from)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return "", err
	}
	to := filepath.Join(l.Dir(), name)
	if err := os.Rename(from, to); err != nil {
		return "", err
	}
	_, err = l.Checksum(ctx, to, nil)
	return to, err
}
