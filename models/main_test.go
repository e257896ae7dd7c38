package models

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// wantError wants an error of a kind whose text holds some words.
func wantError(tb testing.TB, err, kind error, words ...string) {
	tb.Helper()
	if !errors.Is(err, kind) {
		tb.Fatalf("got error %v, want %v", err, kind)
	}
	wantText(tb, err, words...)
}

func wantText(tb testing.TB, err error, words ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want one of %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("the error %q does not tell of %q", err, w)
		}
	}
}

func write(tb testing.TB, path string, data []byte) {
	tb.Helper()
	must(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	must(tb, os.WriteFile(path, data, 0o644))
}

// wantFile wants a file to hold data.
func wantFile(tb testing.TB, path string, data []byte) {
	tb.Helper()
	got, err := os.ReadFile(path)
	must(tb, err)
	if !bytes.Equal(got, data) {
		tb.Errorf("%s holds %d other bytes, want %d", path, len(got), len(data))
	}
}

// wantFiles wants a folder to hold these files and no others, hidden ones and those in folders included.
func wantFiles(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	var got []string
	must(tb, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(name))
		}
		return err
	}))
	if strings.Join(got, " ") != strings.Join(names, " ") {
		tb.Errorf("the folder holds %q, want %q", got, names)
	}
}
