package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

func TestPutReplaceDelete(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	first := version("default", "sub/a.md", 1, 3)
	if status := first.put(t, r, s.ID); status != retrieval.Added {
		t.Errorf("the first is %s", status)
	}
	first.wantStored(t, r)

	other := version("default", "b.md", 1, 0) // nothing in it is nothing wrong
	other.put(t, r, s.ID)
	second := version("default", "sub/a.md", 2, 1)
	if status := second.put(t, r, s.ID); status != retrieval.Replaced {
		t.Errorf("the second is %s", status)
	}
	second.wantStored(t, r)
	other.wantStored(t, r)
	if old, err := r.Passages(t.Context(), first.passageIDs()); err != nil || len(old) != 0 {
		t.Errorf("of the replaced document are left %v, %v", old, err)
	}
	wantFound(t, r, "version1", 0)
	wantFound(t, r, "version2", 1)
	documents, err := r.Documents(t.Context(), s.ID)
	if err != nil || len(documents) != 2 || documents[0].File != "b.md" || documents[1].Passages != 1 {
		t.Errorf("got %+v, %v", documents, err)
	}
	s, err = r.Store(t.Context(), "default")
	if err != nil || s.Documents != 2 || s.Passages != 1 || s.Sequence != 3 {
		t.Errorf("got %+v, %v", s, err)
	}

	must(t, r.DeleteDocument(t.Context(), second.document.ID))
	wantError(t, r.DeleteDocument(t.Context(), second.document.ID), retrieval.ErrNoDocument)
	_, err = r.Document(t.Context(), second.document.ID)
	wantError(t, err, retrieval.ErrNoDocument)
	_, err = r.Text(t.Context(), second.document.ID)
	wantError(t, err, retrieval.ErrNoDocument)
	wantFound(t, r, "version2", 0)
	wantWhole(t, r)
}

// wantFound counts the passages that the full-text index has for a word.
func wantFound(t *testing.T, r *Record, word string, want int) {
	t.Helper()
	var n int
	must(t, r.read.QueryRowContext(t.Context(), "SELECT count(*) FROM passages_fts WHERE passages_fts MATCH ?", word).Scan(&n))
	if n != want {
		t.Errorf("%q is in %d passages, want %d", word, n, want)
	}
}

// What is refused leaves everything as it was.
func TestPutRefuses(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	kept := version("default", "a.md", 1, 2)
	kept.put(t, r, s.ID)
	elsewhere, err := r.EnsureStore(t.Context(), "other", minilm)
	must(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	for name, test := range map[string]struct {
		ctx     context.Context
		store   int64
		change  func(w *written)
		want    error
		mention string
	}{
		"a vector is missing":       {t.Context(), s.ID, func(w *written) { w.content.Vectors = w.content.Vectors[1:] }, nil, "1 vectors of 2 passages"},
		"a vector is short":         {t.Context(), s.ID, func(w *written) { w.content.Vectors[1] = []float32{1} }, nil, "passage 1 has a vector of 1 dimensions, not 3"},
		"a passage has no vector":   {t.Context(), s.ID, func(w *written) { w.content.Vectors[0] = nil }, nil, "0 dimensions"},
		"a passage comes twice":     {t.Context(), s.ID, func(w *written) { w.content.Passages[1].ID = w.content.Passages[0].ID }, nil, "UNIQUE"},
		"the file has another id":   {t.Context(), s.ID, func(w *written) { w.document.ID = "x" }, nil, "UNIQUE"},
		"the id is another store's": {t.Context(), elsewhere.ID, func(*written) {}, nil, "UNIQUE"},
		"the store is not there":    {t.Context(), 999, func(*written) {}, retrieval.ErrNoStore, ""},
		"the caller has gone":       {ended, s.ID, func(*written) {}, context.Canceled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := version("default", "a.md", 2, 2)
			test.change(&w)
			status, err := r.Put(test.ctx, test.store, w.document, w.content)
			if err == nil || status != retrieval.Failed || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.mention) {
				t.Errorf("got %s, %v", status, err)
			}
			kept.wantStored(t, r)
			if s, err := r.Store(t.Context(), "default"); err != nil || s.Sequence != 1 || s.Documents != 1 || s.Passages != 2 {
				t.Errorf("the store is %+v, %v", s, err)
			}
			wantWhole(t, r)
		})
	}
}

// Whoever reads while a document is replaced sees one version of it, whole.
func TestReplacedAtOnce(t *testing.T) {
	dir := t.TempDir()
	r, s := ensured(t, dir)
	const versions = 60
	version("default", "a.md", 1, 1).put(t, r, s.ID)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, reader := range []*Record{r, r, open(t, dir)} {
		wg.Go(func() {
			last := 0
			for {
				select {
				case <-done:
					return
				default:
				}
				last = readWhole(t, reader, s.ID, last)
			}
		})
	}
	for n := 2; n <= versions; n++ {
		version("default", "a.md", n, n%7).put(t, r, s.ID)
	}
	close(done)
	wg.Wait()
	if last := readWhole(t, r, s.ID, versions); last != versions {
		t.Errorf("in the end there is version %d", last)
	}
	wantWhole(t, r)
}

// readWhole reads the one document of a store as an index and as the full-text search would, and returns its version, which
// must not be older than last.
func readWhole(t *testing.T, r *Record, storeID int64, last int) int {
	for c, err := range r.Changes(context.Background(), storeID, 0) {
		if err != nil {
			t.Error(err)
			return last
		}
		n := int(c.Sequence)
		if n < last || len(c.Passages) != n%7 {
			t.Errorf("version %d, after %d, has %d passages", n, last, len(c.Passages))
		}
		for i, v := range c.Vectors {
			if v[0] != float32(n) || v[1] != float32(i) || c.Passages[i] != fmt.Sprintf("default/a.md#%d.%d", n, i) {
				t.Errorf("passage %d of version %d is %s %v", i, n, c.Passages[i], v)
			}
		}
		last = n
	}
	var versions, passages, counted int
	if err := r.read.QueryRow(`SELECT d.bytes, d.passages, (SELECT count(*) FROM passages_fts WHERE passages_fts MATCH 'version' || d.bytes)
		FROM documents d WHERE d.store_id = ?`, storeID).Scan(&versions, &passages, &counted); err != nil || passages != counted {
		t.Errorf("version %d has %d passages, the full-text index %d (%v)", versions, passages, counted, err)
	}
	return last
}

func TestChanges(t *testing.T) {
	dir := t.TempDir()
	r, s := ensured(t, dir)
	want := map[string]written{}
	mirror := map[string]retrieval.Change{}
	at := int64(0)
	check := func() {
		t.Helper()
		at = follow(t, r, s.ID, at, mirror)
		wantMirrored(t, mirror, want)
	}
	check()
	for i := range 5 {
		w := version("default", fmt.Sprintf("%d.md", i), 1, i)
		w.put(t, r, s.ID)
		want[w.document.ID] = w
	}
	check()
	w := version("default", "2.md", 2, 4)
	w.put(t, r, s.ID)
	want[w.document.ID] = w
	must(t, r.DeleteDocument(t.Context(), "default/3.md"))
	delete(want, "default/3.md")
	check()
	if next := follow(t, r, s.ID, at, mirror); next != at {
		t.Errorf("without a change it goes on to %d", next)
	}
	fresh := map[string]retrieval.Change{}
	if follow(t, r, s.ID, 0, fresh) != at {
		t.Error("from the start it does not end at the same change")
	}
	wantMirrored(t, fresh, want)

	// A document that comes back is a change like any other.
	w = version("default", "3.md", 3, 1)
	w.put(t, r, s.ID)
	want[w.document.ID] = w
	check()
}

// Writing goes on while somebody reads, who sees none of it; and who stops reading holds nothing up.
func TestChangesWhileWriting(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	for i := range 50 {
		version("default", fmt.Sprintf("%02d.md", i), 1, 2).put(t, r, s.ID)
	}
	seen := 0
	for c, err := range r.Changes(t.Context(), s.ID, 0) {
		must(t, err)
		seen++
		version("default", fmt.Sprintf("new %d.md", seen), 1, 1).put(t, r, s.ID)
		must(t, r.DeleteDocument(t.Context(), fmt.Sprintf("default/%02d.md", 50-seen)))
		if len(c.Passages) != 2 {
			t.Errorf("change %d has %d passages", c.Sequence, len(c.Passages))
		}
		if seen == 40 {
			break
		}
	}
	for range 20 { // more often than there are connections
		for range r.Changes(t.Context(), s.ID, 0) {
			break
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range r.Changes(ended, s.ID, 0) {
		cancel()
		n++
		last = err
	}
	if n > 51 || last != nil && !errors.Is(last, context.Canceled) {
		t.Errorf("after its context ended it gave %d changes and %v", n, last)
	}
	wantWhole(t, r)
}
