package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// verify checks a file's sha256; without one, that the file is there.
func verify(ctx context.Context, path, sum string, progress func(Progress)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if sum == "" {
		return nil
	}
	got, err := checksum(ctx, f, progress)
	if err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("%s: %w: it has sha256 %s, expected %s", path, ErrChecksum, got, sum)
	}
	return nil
}

// checksum reads a file from where it stands; ctx stops it, and progress is told of every few megabytes.
func checksum(ctx context.Context, f *os.File, progress func(Progress)) (string, error) {
	h := sha256.New()
	p := Progress{Step: Checking, File: strings.TrimSuffix(filepath.Base(f.Name()), ".part"), Total: size(f)}
	for {
		n, err := io.CopyN(h, f, 4<<20)
		if p.Done += n; n > 0 {
			progress(p)
		}
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", err
		}
	}
}

// isChecksum tells whether s is a sha256 in lower-case hexadecimal.
func isChecksum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// settled is the age at which a file's time tells of every later change: file systems count time in steps, and a change
// within the same step keeps it.
const settled = 2 * time.Second

// Checksum is the sha256 of a model file, in hexadecimal. It is kept in the folder, under the file's full path, for as long
// as the file's size and time stay the same. progress may be nil.
func (l *Library) Checksum(ctx context.Context, path string, progress func(Progress)) (string, error) {
	before, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	note, err := l.note(path)
	if err != nil {
		return "", err
	}
	stamp := fmt.Sprintf("%d %d ", before.Size(), before.ModTime().UnixNano())
	// A note that can't be read or is cut off is as good as none.
	if kept, err := os.ReadFile(note); err == nil {
		if sum, same := strings.CutPrefix(string(kept), stamp); same && isChecksum(sum) {
			return sum, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := checksum(ctx, f, heard(progress))
	if err != nil {
		return "", err
	}
	after, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) || time.Since(after.ModTime()) < settled {
		return sum, nil
	}
	// A folder that can't be written costs the next start a second, no more.
	if os.MkdirAll(filepath.Dir(note), 0o755) == nil {
		_ = writeAtomically(note, func(f *os.File) error {
			_, err := f.WriteString(stamp + sum)
			return err
		})
	}
	return sum, nil
}

// note is where the checksum of the file at path is kept. The file's name is in it for people, its full path for programs:
// files of the same name lie in many folders.
func (l *Library) note(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(full))
	return filepath.Join(l.config.Dir, ".sums", fmt.Sprintf("%s.%x", filepath.Base(path), key[:8])), nil
}
