package native

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What KV depends on changes the fingerprint; another place for the same file doesn't.
func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	of := func(model string, adapters ...Adapter) string {
		t.Helper()
		f, err := fingerprint(model, adapters)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	large := bytes.Repeat([]byte("0123456789"), 1<<20)
	first, copied := write("a.gguf", large), write("b.gguf", large)
	changed := bytes.Clone(large)
	for i := range changed[:len(changed)/2] {
		changed[i] ^= 1
	}
	end := bytes.Clone(large)
	end[len(end)-1] ^= 1
	lora, other := write("lora.gguf", []byte("lora")), write("other.gguf", []byte("arol"))
	one, two := write("m-00001-of-00002.gguf", []byte("one")), write("m-00002-of-00002.gguf", []byte("two"))
	if of(first) != of(copied) {
		t.Error("a copy has another fingerprint")
	}
	if of(two) != of(one) {
		t.Error("the same model, named by its second file, has another fingerprint")
	}
	before := of(one)
	write("m-00002-of-00002.gguf", []byte("2"))
	if of(one) == before {
		t.Error("another second file has the same fingerprint")
	}
	seen := map[string]string{}
	for name, f := range map[string]string{
		"first": of(first), "changed": of(write("c.gguf", changed)), "end": of(write("d.gguf", end)), "longer": of(write("e.gguf", append(end, '0'))),
		"adapter": of(first, Adapter{Name: "x", Path: lora}), "other adapter": of(first, Adapter{Name: "x", Path: other}),
		"scaled": of(first, Adapter{Name: "x", Path: lora, Scale: .5}),
	} {
		if seen[f] != "" {
			t.Errorf("%s and %s have the same fingerprint", name, seen[f])
		}
		seen[f] = name
	}
	if _, err := fingerprint(filepath.Join(dir, "none.gguf"), nil); err == nil {
		t.Error("a missing file has a fingerprint")
	}
}
