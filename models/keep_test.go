package models

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is kept is found by its name, with its checksum at hand.
func TestKeep(t *testing.T) {
	l, err := New(Config{Dir: t.TempDir()})
	must(t, err)
	from := filepath.Join(l.config.Dir, ".tune-1", "Q4_0.gguf")
	write(t, from, []byte("GGUF"))
	at := time.Now().Add(-time.Hour) // a checksum is only recorded once a file has settled
	must(t, os.Chtimes(from, at, at))
	path, err := l.Keep(t.Context(), from, "small-Q4_0.gguf")
	must(t, err)
	note, err := l.note(path)
	must(t, err)
	wantFiles(t, l.config.Dir, ".sums/"+filepath.Base(note), "small-Q4_0.gguf")
	if m, err := l.Resolve(t.Context(), "small-Q4_0", nil); err != nil || m.Path != path {
		t.Errorf("found is %+v, %v", m, err)
	}
}
