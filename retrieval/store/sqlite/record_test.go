package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

func TestOpenAndReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder with % and ? in it#")
	r, s := ensured(t, dir)
	w := version("default", "a.md", 1, 3)
	w.put(t, r, s.ID)
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if must(t, r.write.QueryRow("PRAGMA "+name).Scan(&got)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, err := r.read.Exec("DELETE FROM documents"); err == nil {
		t.Error("a connection for reading writes")
	}
	must(t, r.Close())
	if n := fileSize(t, dir, File+"-wal"); n > 0 {
		t.Errorf("closing left %d bytes outside the database", n)
	}
	_, err := r.Put(t.Context(), s.ID, w.document, w.content)
	if err == nil {
		t.Error("a closed record was written")
	}

	for range 2 {
		again := open(t, dir)
		w.wantStored(t, again)
		if back, err := again.Store(t.Context(), "default"); err != nil || back.ID != s.ID || back.Documents != 1 || !back.CreatedAt.Equal(s.CreatedAt) {
			t.Errorf("the store came back as %+v, %v; was %+v", back, err, s)
		}
		wantWhole(t, again)
		must(t, again.Close())
	}
}

// Many start on the same new folder at once; each finds a whole record.
func TestCreatedAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if i%2 == 0 {
				if out, err := exec.Command(os.Args[0], "open-child", dir).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			r, err := Open(context.Background(), dir)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := r.EnsureStore(context.Background(), "default", minilm); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r := open(t, dir)
	if all, err := r.Stores(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
	wantWhole(t, r)
}

// openChild is the program of a child process: it writes to a folder's record, if asked as a user without privileges.
func openChild(dir string) int {
	if os.Getuid() == 0 && os.Getenv("AS_NOBODY") != "" {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			fmt.Println("skip:", err)
			return 0
		}
	}
	err := func() error {
		r, err := Open(context.Background(), dir)
		if err != nil {
			return err
		}
		defer r.Close()
		s, err := r.EnsureStore(context.Background(), "default", minilm)
		if err != nil {
			return err
		}
		w := version("default", fmt.Sprint(os.Getpid()), 1, 1)
		_, err = r.Put(context.Background(), s.ID, w.document, w.content)
		return err
	}()
	switch {
	case errors.Is(err, retrieval.ErrReadOnly):
		fmt.Println(err)
		return 3
	case err != nil:
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestReadOnlyFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions of folders are another matter on Windows")
	}
	root, err := os.MkdirTemp("", "quipu-readonly") // not TempDir, whose parent nobody else may enter
	must(t, err)
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(root, "record"), 0o755)
		_ = os.RemoveAll(root)
	})
	folders := map[string]func(dir string){
		"empty":  func(string) {},
		"record": func(dir string) { r := open(t, dir); must(t, r.Close()) },
		"wal": func(dir string) { // of a process that ended by force
			r, s := ensured(t, dir)
			version("default", "a.md", 1, 1).put(t, r, s.ID)
			for _, name := range []string{File, File + "-wal", File + "-shm"} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				must(t, err)
				must(t, os.WriteFile(filepath.Join(dir, name+".kept"), data, 0o444))
			}
			must(t, r.Close())
			for _, name := range []string{File, File + "-wal", File + "-shm"} {
				must(t, os.Rename(filepath.Join(dir, name+".kept"), filepath.Join(dir, name)))
			}
		},
	}
	for name, fill := range folders {
		dir := filepath.Join(root, name)
		must(t, os.Mkdir(dir, 0o755))
		fill(dir)
		must(t, os.Chmod(dir, 0o555))
		if _, err := os.Stat(filepath.Join(dir, File)); err == nil {
			must(t, os.Chmod(filepath.Join(dir, File), 0o444))
		}
	}
	must(t, os.Chmod(root, 0o555))
	folders["missing"] = nil // and cannot be made
	for name := range folders {
		cmd := exec.Command(os.Args[0], "open-child", filepath.Join(root, name))
		cmd.Env = append(os.Environ(), "AS_NOBODY=1")
		out, err := cmd.CombinedOutput()
		if strings.HasPrefix(string(out), "skip:") {
			t.Skipf("this process can't give up its privileges: %s", out)
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	must(t, os.Chmod(root, 0o755))
}

func TestFolderIsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("x"), 0o644))
	for _, dir := range []string{path, filepath.Join(path, "below")} {
		_, err := Open(t.Context(), dir)
		var p *os.PathError
		if !errors.As(err, &p) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, File), 0o755))
	if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), File) {
		t.Errorf("a folder in the database's place: %v", err)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	_, err := r.write.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	must(t, errors.Join(err, r.Close()))
	before, err := os.ReadFile(filepath.Join(dir, File))
	must(t, err)
	_, err = Open(t.Context(), dir)
	wantError(t, err, retrieval.ErrNewer)
	if after, err := os.ReadFile(filepath.Join(dir, File)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("looking at it changed it (%v)", err)
	}
}

// A file that is damaged, or none of ours, is said to be so and left alone.
func TestDamage(t *testing.T) {
	source := t.TempDir()
	r, s := ensured(t, source)
	for i := range 200 {
		version("default", fmt.Sprintf("%d.md", i), 1, 5).put(t, r, s.ID)
	}
	must(t, r.Close())
	good, err := os.ReadFile(filepath.Join(source, File))
	must(t, err)
	garbage := func(from, to int) []byte {
		b := bytes.Clone(good)
		for i := from; i < to; i++ {
			b[i] = byte(i * 7)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"text":            []byte(strings.Repeat("This is a letter and no database. ", 100)),
		"short":           []byte("SQLite"),
		"zeros":           make([]byte, 8192),
		"its start":       garbage(0, 100),
		"its schema":      garbage(100, 4096),
		"most of it":      garbage(4096, len(good)),
		"the second half": garbage(len(good)/2, len(good)),
		"cut off":         good[:len(good)/2],
		"cut off early":   good[:4096],
		"a few bytes off": good[:len(good)-100],
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, File), data, 0o644))
			r, err := Open(t.Context(), dir)
			if err == nil { // the damage lies deeper
				err = r.Check(t.Context())
				for _, d := range []string{"default/0.md", "default/100.md", "default/199.md"} {
					if _, err := r.Text(t.Context(), d); err != nil && !errors.Is(err, retrieval.ErrCorrupt) && !errors.Is(err, retrieval.ErrNoDocument) {
						t.Errorf("reading from it: %v", err)
					}
				}
				must(t, r.Close())
			}
			wantError(t, err, retrieval.ErrCorrupt)
			if after, err := os.ReadFile(filepath.Join(dir, File)); err != nil || !bytes.Equal(after, data) {
				t.Errorf("it was changed (%v)", err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) { // a file that was just being created
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, File), nil, 0o644))
		wantWhole(t, open(t, dir))
	})
}

// Check finds parts that contradict one another.
func TestCheck(t *testing.T) {
	for name, change := range map[string]string{
		"text":      "DELETE FROM texts",
		"vector":    "DELETE FROM vectors",
		"dimension": "UPDATE vectors SET vector = x'00000000'",
		"full text": "DELETE FROM passages_fts",
		"stores":    "UPDATE stores SET documents = 7",
		"documents": "UPDATE documents SET passages = 7",
		"reference": "DELETE FROM stores",
	} {
		t.Run(name, func(t *testing.T) {
			r, s := ensured(t, t.TempDir())
			version("default", "a.md", 1, 2).put(t, r, s.ID)
			wantWhole(t, r)
			for _, query := range []string{"PRAGMA foreign_keys = 0", change} {
				_, err := r.write.Exec(query)
				must(t, err)
			}
			wantError(t, r.Check(t.Context()), retrieval.ErrCorrupt)
		})
	}
}

// A full disk refuses the document that does not fit, keeps all others, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	kept := version("default", "kept.md", 1, 3)
	kept.put(t, r, s.ID)
	limit := func(pages int) {
		_, err := r.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		must(t, err)
	}
	var pages int
	must(t, r.write.QueryRow("PRAGMA page_count").Scan(&pages))
	limit(pages + 3)
	large := version("default", "large.md", 1, 500)
	status, err := r.Put(t.Context(), s.ID, large.document, large.content)
	wantError(t, err, retrieval.ErrDiskFull)
	if status != retrieval.Failed {
		t.Errorf("it is %s", status)
	}
	replaced := version("default", "kept.md", 2, 500)
	_, err = r.Put(t.Context(), s.ID, replaced.document, replaced.content)
	wantError(t, err, retrieval.ErrDiskFull)
	kept.wantStored(t, r)
	wantWhole(t, r)
	limit(1 << 30)
	replaced.put(t, r, s.ID)
	large.put(t, r, s.ID)
	replaced.wantStored(t, r)
	wantWhole(t, r)
}

// What SQLite says of the disk in other ways comes out as the same few errors.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		err  error
		want error
	}{
		{&os.PathError{Op: "mkdir", Err: syscall.ENOSPC}, retrieval.ErrDiskFull},
		{&os.PathError{Op: "mkdir", Err: syscall.EDQUOT}, retrieval.ErrDiskFull},
		{&os.PathError{Op: "mkdir", Err: syscall.EROFS}, retrieval.ErrReadOnly},
		{&os.PathError{Op: "mkdir", Err: syscall.EACCES}, retrieval.ErrReadOnly},
	} {
		err := failure("open", test.err)
		wantError(t, err, test.want)
		wantError(t, err, test.err)
	}
	plain := errors.New("something else")
	if err := failure("open", plain); !errors.Is(err, plain) || classify(plain) != nil {
		t.Errorf("got %v", err)
	}
}

// A writer that waits for too long gives up, and reading never waits.
func TestBusy(t *testing.T) {
	dir := t.TempDir()
	r, s := ensured(t, dir)
	w := version("default", "a.md", 1, 1)
	w.put(t, r, s.ID)
	other := open(t, dir)
	tx, err := other.write.Begin()
	must(t, err)
	_, err = r.write.Exec("PRAGMA busy_timeout = 1")
	must(t, err)
	_, err = r.Put(t.Context(), s.ID, w.document, w.content)
	wantError(t, err, retrieval.ErrBusy)
	w.wantStored(t, r)
	must(t, tx.Rollback())
	w.put(t, r, s.ID)
}

// Two processes write to one folder: both succeed, and each sees what the other did.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	r, s := ensured(t, dir)
	child, lines := startPutting(t, dir, 1)
	mirror := map[string]retrieval.Change{}
	at, mine := int64(0), 0
	for range lines {
		mine++
		version("default", fmt.Sprintf("mine %d.md", mine), 1, 1).put(t, r, s.ID)
		at = follow(t, r, s.ID, at, mirror)
		if mine == 40 {
			break
		}
	}
	must(t, child.Process.Kill())
	for range lines {
	}
	_ = child.Wait()
	at = follow(t, r, s.ID, at, mirror)
	now, err := r.Store(t.Context(), "default")
	must(t, err)
	documents, err := r.Documents(t.Context(), s.ID)
	must(t, err)
	kept := 0
	for _, d := range documents {
		if strings.HasPrefix(d.File, "mine") {
			kept++
		}
		if len(mirror[d.ID].Passages) != d.Passages {
			t.Errorf("%s has %d passages, the mirror %d", d.File, d.Passages, len(mirror[d.ID].Passages))
		}
	}
	if now.Sequence != at || len(mirror) != len(documents) || kept != mine || len(documents) == mine {
		t.Errorf("the mirror is at %d of %d, with %d of %d documents; %d of %d are this process's", at, now.Sequence, len(mirror), len(documents), kept, mine)
	}
	wantWhole(t, r)
}
