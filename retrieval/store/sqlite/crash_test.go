package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

// act is a change of a store that its number decides: a document that is new, replaced or deleted, of one passage to a
// hundred.
func act(seed uint64, n int) (w written, deletes bool) {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	return version("default", fmt.Sprintf("%d.md", r.IntN(30)), n, 1+r.IntN(100)), r.IntN(5) == 0
}

// putChild is the program of a child process: it changes a store without end and says after each change which it was.
func putChild(dir, seed string) int {
	s, _ := strconv.ParseUint(seed, 10, 64)
	fmt.Println("begin")
	r, err := Open(context.Background(), dir)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	store, err := r.EnsureStore(context.Background(), "default", minilm)
	for n := 0; err == nil; n++ {
		w, deletes := act(s, n)
		if deletes {
			if err = r.DeleteDocument(context.Background(), w.document.ID); errors.Is(err, retrieval.ErrNoDocument) {
				err = nil
			}
		} else {
			_, err = r.Put(context.Background(), store.ID, w.document, w.content)
		}
		if err == nil {
			fmt.Println("done", n)
		}
	}
	fmt.Println("error", err)
	return 1
}

// startPutting starts a putChild; lines ends when the child does.
func startPutting(t *testing.T, dir string, seed uint64) (child *exec.Cmd, lines <-chan string) {
	t.Helper()
	child = exec.Command(os.Args[0], "put-child", dir, fmt.Sprint(seed))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	c := make(chan string)
	go func() {
		defer close(c)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			c <- scan.Text()
		}
	}()
	return child, c
}

// A process is killed while it writes, again and again. What it said was done is there, nothing is there by halves, and
// of the change under way either all or nothing.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	want := map[string]written{} // as far as it was acknowledged
	apply := func(w written, deletes bool) {
		if delete(want, w.document.ID); !deletes {
			want[w.document.ID] = w
		}
	}
	acknowledged := 0
	for round := range uint64(20) {
		child, lines := startPutting(t, dir, round)
		lastLine := (int(round) * 7) % 23 // 0 kills it while it opens
		done := -1
		n := 0
		for line := range lines {
			var k int
			if _, err := fmt.Sscanf(line, "done %d", &k); err == nil {
				apply(act(round, k))
				done, acknowledged = k, acknowledged+1
			} else if line != "begin" {
				t.Fatalf("round %d: %s", round, line)
			}
			if n == lastLine {
				must(t, child.Process.Kill())
			}
			n++
		}
		_ = child.Wait()

		r := open(t, dir)
		wantWhole(t, r)
		w, deletes := act(round, done+1) // under way when it was killed
		underway := w.document.ID
		switch d, err := r.Document(t.Context(), underway); {
		case deletes && errors.Is(err, retrieval.ErrNoDocument), !deletes && err == nil && d.SHA256 == w.document.SHA256 && d.Passages == w.document.Passages:
			apply(w, deletes)
		case err != nil && !errors.Is(err, retrieval.ErrNoDocument):
			t.Fatal(err)
		}
		s, err := r.EnsureStore(t.Context(), "default", minilm)
		must(t, err)
		documents, err := r.Documents(t.Context(), s.ID)
		must(t, err)
		if len(documents) != len(want) {
			t.Fatalf("round %d: %d documents, want %d", round, len(documents), len(want))
		}
		for _, w := range want {
			w.wantStored(t, r)
		}
		mirror := map[string]retrieval.Change{}
		follow(t, r, s.ID, 0, mirror)
		wantMirrored(t, mirror, want)
		must(t, r.Close())
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d changes were acknowledged, %d documents are there", acknowledged, len(want))
}
