package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCatalogue(t *testing.T) {
	l := library(t, Config{})
	names := map[string]string{}
	for _, e := range l.Catalogue() {
		for _, name := range append(slices.Clone(e.Aliases), e.Name) {
			if other, twice := names[strings.ToLower(name)]; twice && other != e.Name {
				t.Errorf("%s means %s and %s", name, other, e.Name)
			}
			names[strings.ToLower(name)] = e.Name
		}
		if e.Description == "" || e.Licence == "" || (e.Kind != "chat" && e.Kind != "embedding") || path.Ext(e.File) != ".gguf" {
			t.Errorf("%+v does not say what it is", e)
		}
		if e.Needs.Memory <= 0 || e.Needs.Context <= 0 {
			t.Errorf("%s does not say what it needs", e.Name)
		}
		sum := int64(0)
		for _, s := range e.Sources {
			u, err := url.Parse(s.URL)
			if err != nil || !strings.HasPrefix(s.URL, hub+"/") || path.Base(u.Path) != path.Base(s.File) || !isChecksum(s.SHA256) || s.Bytes <= 0 {
				t.Errorf("%s has the source %+v", e.Name, s)
			}
			if e.Import == "" && s.File != e.File || e.Import != "" && !strings.HasPrefix(s.File, e.Import+"/") {
				t.Errorf("%s becomes %s from %s", e.Name, e.File, s.File)
			}
			sum += s.Bytes
		}
		if sum == 0 || e.Bytes() != sum {
			t.Errorf("%s has %d bytes to fetch, says %d", e.Name, sum, e.Bytes())
		}
	}
	for name, want := range map[string]string{
		"smollm2-135m": "smollm2-135m", "SmolLM2-135M-Instruct": "smollm2-135m", "QWEN2.5-coder-0.5B": "qwen2.5-coder-0.5b", "all-MiniLM-L6-v2": "all-minilm-l6-v2", "gpt": "", "": "",
	} {
		if e, ok := l.Find(name); e.Name != want || ok != (want != "") {
			t.Errorf("%q finds %q", name, e.Name)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a library without a folder was opened")
	}
}

func TestResolve(t *testing.T) {
	l := library(t, Config{})
	smol, _ := l.Find("smollm2-135m")
	elsewhere := filepath.Join(t.TempDir(), "my model.GGUF")
	for _, file := range []string{l.path(smol.File), l.path("own.Q4.gguf"), l.path("notes.txt"), elsewhere, filepath.Join(t.TempDir(), smol.File)} {
		write(t, file, []byte("GGUF"))
	}
	must(t, os.Mkdir(l.path("folder.gguf"), 0o755))
	t.Chdir(l.config.Dir)
	for name, want := range map[string]string{
		"smollm2-135m": smol.File, "SMOLLM2-135M-INSTRUCT": smol.File, smol.File: smol.File, l.path(smol.File): smol.File, "./" + smol.File: smol.File,
		"own.Q4": "own.Q4.gguf", "own.Q4.gguf": "own.Q4.gguf", l.path("own.Q4.gguf"): "own.Q4.gguf", elsewhere: "my model.GGUF",
	} {
		m, err := l.Resolve(t.Context(), name, nil)
		must(t, err)
		if filepath.Base(m.Path) != want || m.Bytes != 4 {
			t.Errorf("%s is %+v", name, m)
		}
		if known := want == smol.File; known != (m.Entry != nil) || known && m.Name != smol.Name {
			t.Errorf("%s has the name %s and the entry %v", name, m.Name, m.Entry)
		}
	}
	if m, err := l.Resolve(t.Context(), elsewhere, nil); err != nil || m.Name != "my model" || m.Path != elsewhere {
		t.Errorf("got %+v: %v", m, err)
	}
	for _, name := range []string{"gpt", "notes.txt", "folder", "folder.gguf", "../models/own.Q4", l.path("none.gguf"), ""} {
		_, err := l.Resolve(t.Context(), name, nil)
		var unknown *UnknownError
		if wantError(t, err, ErrUnknownModel, fmt.Sprintf("%q", name), "smollm2-135m", "all-minilm-l6-v2", ".gguf", "quipu models pull hf:"); !errors.As(err, &unknown) || unknown.Name != name || len(unknown.Known) != len(l.catalogue)+1 || unknown.Known[len(l.catalogue)] != "own.Q4" {
			t.Errorf("%s: %#v", name, err)
		}
	}
	for _, name := range []string{"Qwen2.5-Coder-0.5B-Instruct", "all-MiniLM-L6-v2"} { // the second is not imported without its sources
		m, err := l.Resolve(t.Context(), name, nil)
		var missing *NotPulledError
		if wantError(t, err, ErrNotPulled, "quipu models pull "+m.Name, "not on this machine"); !errors.As(err, &missing) || missing.Name != m.Name || m.Entry == nil {
			t.Errorf("%s: %+v, %#v", name, m, err)
		}
	}
}

// A name that is nearly right leads to the right one.
func TestMeant(t *testing.T) {
	l := library(t, Config{})
	write(t, l.path("house-brand.Q4.gguf"), []byte("GGUF"))
	for name, want := range map[string]string{
		"smolm2-135m": "smollm2-135m", "smollm-135m": "smollm2-135m", "MiniLM": "all-minilm-l6-v2", "qwen2.5coder-0.5b": "qwen2.5-coder-0.5b",
		"SmolLM2-135M-Instruct.Q4_1.ggfu": "smollm2-135m", "hose-brand": "", "hose-brand.q4": "house-brand.Q4",
		"gpt": "", "x": "", "": "", "100%s": "", strings.Repeat("smollm2", 1000): "",
	} {
		_, err := l.Resolve(t.Context(), name, nil)
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.Meant != want || strings.Contains(err.Error(), "did you mean "+want+"?") != (want != "") {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}

func TestList(t *testing.T) {
	l := library(t, Config{})
	if got, err := l.List(); err != nil || got != nil {
		t.Errorf("a folder that is not there lists %v: %v", got, err)
	}
	qwen, _ := l.Find("qwen2.5-coder-0.5b")
	for _, name := range []string{"b.GGUF", "a.gguf", "c.gguf.part", ".hidden.gguf", "notes.txt", qwen.File, "folder.gguf/x"} {
		write(t, l.path(name), []byte("12345"))
	}
	outside := filepath.Join(t.TempDir(), "big.gguf")
	write(t, outside, []byte("1234567"))
	must(t, os.Symlink(outside, l.path("linked.gguf")))
	must(t, os.Symlink(outside+".gone", l.path("dangling.gguf")))
	got, err := l.List()
	must(t, err)
	var names []string
	for _, m := range got {
		names = append(names, fmt.Sprintf("%s:%d", m.Name, m.Bytes))
		if (m.Entry != nil) != (m.Name == qwen.Name) || m.Path != l.path(filepath.Base(m.Path)) {
			t.Errorf("listed %+v", m)
		}
	}
	if want := []string{"a:5", "b:5", "linked:7", qwen.Name + ":5"}; !slices.Equal(names, want) {
		t.Errorf("listed %q, want %q", names, want)
	}
	l.config.Dir = l.path("notes.txt")
	if _, err := l.List(); err == nil {
		t.Error("a file was listed as a folder")
	}
}

func TestRemove(t *testing.T) {
	l := library(t, Config{})
	mini, _ := l.Find("all-minilm-l6-v2")
	smol, _ := l.Find("smollm2-135m")
	outside := filepath.Join(t.TempDir(), "own.gguf")
	inside := filepath.Join(l.config.Dir, "folder", "deep.gguf")
	for _, file := range []string{outside, inside, l.path("own.gguf"), l.path(mini.File), l.path(mini.Import + "/vocab.txt"), l.path(smol.File + ".part"), l.path(smol.File + ".part.from")} {
		write(t, file, []byte("GGUF"))
		age(t, file, 1)
	}
	_, err := l.Checksum(t.Context(), l.path("own.gguf"), nil)
	must(t, err)
	for _, path := range []string{outside, inside} {
		_, err := l.Remove(path)
		wantText(t, err, path, "not in the models folder", l.config.Dir)
		wantFile(t, path, []byte("GGUF"))
	}
	_, err = l.Remove("gpt")
	wantError(t, err, ErrUnknownModel)
	_, err = l.Remove("qwen2.5-coder-0.5b")
	wantError(t, err, ErrNotPulled)

	t.Chdir(l.config.Dir)
	if m, err := l.Remove("./own.gguf"); err != nil || m.Name != "own" { // however its path is written
		t.Errorf("removed %+v: %v", m, err)
	}
	if m, err := l.Remove("all-MiniLM-L6-v2"); err != nil || m.Path != l.path(mini.File) { // with damaged sources too
		t.Errorf("removed %+v: %v", m, err)
	}
	if _, err := l.Remove("smollm2-135m"); err != nil { // what was cut off
		t.Error(err)
	}
	wantFiles(t, l.config.Dir, "folder/deep.gguf")
	_, err = l.Remove("smollm2-135m")
	wantError(t, err, ErrNotPulled)
}

// age makes a file some hours old.
func age(t *testing.T, path string, hours time.Duration) {
	t.Helper()
	at := time.Now().Add(-hours * time.Hour)
	must(t, os.Chtimes(path, at, at))
}

func wantSum(t *testing.T, l *Library, path string, data []byte) {
	t.Helper()
	got, err := l.Checksum(t.Context(), path, nil)
	must(t, err)
	if got != sumOf(data) {
		t.Errorf("%s has the sum of something else", path)
	}
}

func TestChecksum(t *testing.T) {
	l := library(t, Config{})
	one, two := []byte("GGUF 1"), []byte("GGUF 2")
	path := l.path("m.gguf")
	notes := func() []string {
		files, _ := filepath.Glob(l.path(".sums/*"))
		return files
	}
	write(t, path, one)
	wantSum(t, l, path, one)
	if len(notes()) != 0 {
		t.Error("a file that may still change within its time was noted")
	}
	age(t, path, 2)
	wantSum(t, l, path, one)
	if len(notes()) != 1 {
		t.Fatalf("noted %q", notes())
	}

	// The note is believed as long as size and time are the same, and no longer.
	info, err := os.Stat(path)
	must(t, err)
	write(t, path, two)
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	wantSum(t, l, path, one)
	age(t, path, 1)
	wantSum(t, l, path, two)
	wantSum(t, library(t, Config{Dir: l.config.Dir}), path, two)
	write(t, path, append(two, '!'))
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	wantSum(t, l, path, append(two, '!'))

	// A damaged note is none.
	for _, damaged := range []string{"", "7", fmt.Sprintf("7 %d abc", info.ModTime().UnixNano())} {
		write(t, notes()[0], []byte(damaged))
		wantSum(t, l, path, append(two, '!'))
	}
	_, err = l.Checksum(t.Context(), l.path("none.gguf"), nil)
	wantError(t, err, fs.ErrNotExist)
}

// Files of one name, size and time in two folders have their own checksums.
func TestChecksumsOfOneName(t *testing.T) {
	l := library(t, Config{})
	files := map[string][]byte{l.path("m.gguf"): []byte("GGUF 1"), filepath.Join(t.TempDir(), "m.gguf"): []byte("GGUF 2"), filepath.Join(t.TempDir(), "m.gguf"): []byte("GGUF 3")}
	at := time.Now().Add(-time.Hour)
	for path, data := range files {
		write(t, path, data)
		must(t, os.Chtimes(path, at, at))
	}
	for range 2 {
		for path, data := range files {
			wantSum(t, l, path, data)
		}
	}
	var wg sync.WaitGroup
	for path, data := range files {
		for range 4 {
			wg.Go(func() {
				if got, err := l.Checksum(t.Context(), path, nil); err != nil || got != sumOf(data) {
					t.Errorf("%s: %s, %v", path, got, err)
				}
			})
		}
	}
	wg.Wait()
	if noted, err := os.ReadDir(l.path(".sums")); err != nil || len(noted) != len(files) {
		t.Errorf("%d notes: %v", len(noted), err)
	}
}

// A folder that can't be written is no reason to fail.
func TestChecksumWithoutFolder(t *testing.T) {
	l := library(t, Config{})
	path := filepath.Join(t.TempDir(), "m.gguf")
	write(t, path, model)
	age(t, path, 1)
	write(t, l.path(".sums"), []byte("in the way"))
	wantSum(t, l, path, model)
	wantSum(t, l, path, model)
}

// Reading a large file takes long: it is told of, and can be stopped.
func TestChecksumTakesLong(t *testing.T) {
	l := library(t, Config{})
	path := l.path("large.gguf")
	write(t, path, nil)
	const bytes = 10 << 20
	must(t, os.Truncate(path, bytes))
	age(t, path, 1)
	ctx, stop := context.WithCancel(t.Context())
	_, err := l.Checksum(ctx, path, func(Progress) { stop() })
	wantError(t, err, context.Canceled)
	var seen []Progress
	sum, err := l.Checksum(t.Context(), path, func(p Progress) { seen = append(seen, p) })
	must(t, err)
	if sum != sumOf(make([]byte, bytes)) || len(seen) < 3 || seen[0].Done >= bytes {
		t.Errorf("sum %s, progress %+v", sum, seen)
	}
	for i, p := range seen {
		if p.Step != Checking || p.File != "large.gguf" || p.Total != bytes || i == len(seen)-1 && p.Done != bytes {
			t.Errorf("progress %+v", p)
		}
	}
	if _, err := l.Checksum(t.Context(), path, func(Progress) { t.Error("it was read once more") }); err != nil {
		t.Error(err)
	}
}
