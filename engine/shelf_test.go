package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func state(n int, fill byte) State {
	return State{Bytes: slices.Repeat([]byte{fill}, n), From: 3, N: n / 4}
}

func openShelf(t *testing.T, c CacheConfig) *shelf {
	t.Helper()
	s, err := newShelf("model", c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The least recently used leaves memory first; what is on disk comes back, also in the next run.
func TestShelf(t *testing.T) {
	c := CacheConfig{Memory: 1000, Dir: filepath.Join(t.TempDir(), "kv"), Disk: 2500}
	s := openShelf(t, c)
	names := make([]name, 6)
	for i := range names {
		names[i] = s.nameOf("key", nil, []Token{Token(i)})
		if i < 3 {
			s.put(names[i], name{}, nil, state(400, byte(i)), true)
		}
	}
	if _, ok := s.get(names[0]); ok || s.size() > 1000 {
		t.Errorf("%d bytes are in memory, at most 1000 may be", s.size())
	}
	prefix := []Token{1, 2, 3, 4}
	s.put(names[3], s.lineName("key"), prefix, state(100, 3), true)
	s.put(names[4], name{}, nil, state(2000, 4), true) // larger than everything
	if _, ok := s.get(names[4]); ok {
		t.Error("more than the whole memory was kept")
	}
	s.close()

	entries, _ := os.ReadDir(c.Dir)
	if len(entries) != 4 {
		t.Fatalf("%d files, want 4", len(entries))
	}
	damaged := s.path(names[1])
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-10] ^= 1
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for junk, text := range map[string]string{"0123.kv": "junk", "x.kv.part": "half"} {
		if err := os.WriteFile(filepath.Join(c.Dir, junk), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openShelf(t, c)
	if _, ok := s.get(names[0]); ok {
		t.Error("opening read a state into memory")
	}
	s.warm(names...)
	for i, want := range []bool{true, false, true, false} { // 1 is damaged, 3 left memory for the last ones, or not
		got, ok := s.get(names[i])
		if i != 3 && ok != want {
			t.Errorf("%d is there: %v", i, ok)
		}
		if ok && (!slices.Equal(got.Bytes, state(len(got.Bytes), byte(i)).Bytes) || got.From != 3) {
			t.Errorf("%d came back as something else", i)
		}
	}
	if n, shared := s.match(s.lineName("key"), []Token{1, 2, 3, 9}); n != names[3] || shared != 3 {
		t.Errorf("a prefix shares %d", shared)
	}
	if _, shared := s.match(s.lineName("other"), prefix); shared != 0 {
		t.Error("somebody else's prefix was found")
	}
	for i := range 12 { // more than the disk may hold
		s.put(s.nameOf("more", nil, []Token{Token(i)}), name{}, nil, state(400, 9), true)
	}
	s.close()
	var bytes int64
	entries, _ = os.ReadDir(c.Dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		bytes += info.Size()
	}
	if bytes > c.Disk {
		t.Errorf("%d bytes on disk, at most %d may be", bytes, c.Disk)
	}
}
