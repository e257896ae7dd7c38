package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quipu-ai/quipu/retrieval"
)

func TestMain(m *testing.M) {
	// The test binary is also the other process of tests that need one.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "open-child":
			os.Exit(openChild(os.Args[2]))
		case "put-child":
			os.Exit(putChild(os.Args[2], os.Args[3]))
		}
	}
	goleak.VerifyTestMain(m)
}

const dimensions = 3

var minilm = retrieval.EmbedderInfo{Name: "minilm", SHA256: "aa", Dimensions: dimensions, MaxInput: 256}

func open(t *testing.T, dir string) *Record {
	t.Helper()
	r, err := Open(t.Context(), dir)
	must(t, err)
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// ensured opens the record of a folder with one store.
func ensured(t *testing.T, dir string) (*Record, retrieval.Store) {
	t.Helper()
	r := open(t, dir)
	s, err := r.EnsureStore(t.Context(), "default", minilm)
	must(t, err)
	return r, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want %v", err, kind)
	}
}

func wantWhole(t *testing.T, r *Record) {
	t.Helper()
	must(t, r.Check(context.Background()))
}

// written is a document as a test thinks of it.
type written struct {
	document retrieval.Document
	content  retrieval.Content
}

// version makes the n-th version of a file, with that many passages; everything in it names the version.
func version(store, file string, n, passages int) written {
	w := written{document: retrieval.Document{
		ID: store + "/" + file, Store: store, File: file, Title: fmt.Sprintf("title v%d", n), MediaType: "text/plain", SHA256: fmt.Sprintf("sum%d", n),
		Bytes: int64(n), Recipe: "r1", Passages: passages, IngestedAt: time.UnixMilli(1_700_000_000_000 + int64(n)),
	}}
	for i := range passages {
		text := fmt.Sprintf("passage%d version%d “%s” ", i, n, file)
		p := retrieval.Passage{
			ID: fmt.Sprintf("%s/%s#%d.%d", store, file, n, i), DocumentID: w.document.ID, Store: store, File: file, Title: w.document.Title,
			Headings: []string{"Top", fmt.Sprintf("Part “%d”", i)}, Lead: "| a | b |", Text: text,
			Start: len(w.content.Text.Text), End: len(w.content.Text.Text) + len(text), Ordinal: i, Page: 1 + i/2, Tokens: 5,
		}
		w.content.Text.Text += text
		w.content.Text.Blocks = append(w.content.Text.Blocks, retrieval.Block{Kind: retrieval.Item, Start: p.Start, End: p.End, Page: p.Page})
		w.content.Terms = append(w.content.Terms, []string{fmt.Sprintf("passage%d", i), fmt.Sprintf("version%d", n), "title", fmt.Sprintf("v%d", n)})
		w.content.Passages = append(w.content.Passages, p)
		w.content.Vectors = append(w.content.Vectors, []float32{float32(n), float32(i), -0.5})
	}
	return w
}

func (w written) put(t *testing.T, r *Record, storeID int64) retrieval.Status {
	t.Helper()
	status, err := r.Put(t.Context(), storeID, w.document, w.content)
	must(t, err)
	return status
}

func (w written) passageIDs() []string {
	var ids []string
	for _, p := range w.content.Passages {
		ids = append(ids, p.ID)
	}
	return ids
}

// wantStored checks that the document is there, all of it and nothing else.
func (w written) wantStored(t *testing.T, r *Record) {
	t.Helper()
	d, err := r.Document(t.Context(), w.document.ID)
	must(t, err)
	if !d.IngestedAt.Equal(w.document.IngestedAt) {
		t.Errorf("%s: ingested at %v, want %v", d.File, d.IngestedAt, w.document.IngestedAt)
	}
	d.IngestedAt = w.document.IngestedAt
	if !reflect.DeepEqual(d, w.document) {
		t.Errorf("got  %+v\nwant %+v", d, w.document)
	}
	text, err := r.Text(t.Context(), w.document.ID)
	must(t, err)
	if want := w.content.Text; text.Text != want.Text || !reflect.DeepEqual(text.Blocks, want.Blocks) || text.Title != d.Title || text.MediaType != d.MediaType {
		t.Errorf("%s: text %+v, want %+v", d.File, text, want)
	}
	passages, err := r.Passages(t.Context(), append(w.passageIDs(), "no such passage"))
	must(t, err)
	if len(passages) != len(w.content.Passages) {
		t.Errorf("%s: %d passages, want %d", d.File, len(passages), len(w.content.Passages))
	}
	for _, p := range w.content.Passages {
		if !reflect.DeepEqual(passages[p.ID], p) {
			t.Errorf("got  %+v\nwant %+v", passages[p.ID], p)
		}
	}
}

// follow brings a mirror of a store up to date, as an index does, and returns how far it is.
func follow(t *testing.T, r *Record, storeID, since int64, mirror map[string]retrieval.Change) int64 {
	t.Helper()
	for c, err := range r.Changes(context.Background(), storeID, since) {
		must(t, err)
		if c.Sequence <= since {
			t.Errorf("change %d of %s comes after %d", c.Sequence, c.DocumentID, since)
		}
		since = c.Sequence
		if delete(mirror, c.DocumentID); len(c.Passages) > 0 {
			mirror[c.DocumentID] = c
		}
	}
	return since
}

// wantMirrored checks what following a store led to.
func wantMirrored(t *testing.T, mirror map[string]retrieval.Change, want map[string]written) {
	t.Helper()
	n := 0
	for id, w := range want {
		if len(w.content.Passages) == 0 {
			continue
		}
		n++
		if c := mirror[id]; !slices.Equal(c.Passages, w.passageIDs()) || !reflect.DeepEqual(c.Vectors, w.content.Vectors) {
			t.Errorf("%s: the index would hold %v %v, want %v %v", id, c.Passages, c.Vectors, w.passageIDs(), w.content.Vectors)
		}
	}
	if len(mirror) != n {
		t.Errorf("the index would hold %d documents, want %d", len(mirror), n)
	}
}

func fileSize(t *testing.T, dir, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	must(t, err)
	return info.Size()
}
