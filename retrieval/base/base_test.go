package base_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
	"github.com/quipu-ai/quipu/retrieval/retrievaltest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

func open(t *testing.T, dir string) *base.Base {
	t.Helper()
	c := base.Default(dir)
	var h retrievaltest.Hashing
	c.Embedder, c.Info = h, h.Info()
	b, err := base.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func ingest(t *testing.T, b *base.Base, path string) *retrieval.Report {
	t.Helper()
	r, err := b.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{path}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func files(t *testing.T, b *base.Base, question string) []string {
	t.Helper()
	hits, err := b.Search(t.Context(), retrieval.Query{Text: question, TopK: 50})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, h := range hits {
		out = append(out, h.Passage.File)
		text, err := b.Text(t.Context(), h.Passage.DocumentID)
		if err != nil {
			t.Fatal(err)
		}
		if text[h.Passage.Start:h.Passage.End] != h.Passage.Text {
			t.Errorf("%s: the passage is not what stands at its offsets", h.Passage.File)
		}
	}
	return out
}

func TestIngestSearchReplaceDelete(t *testing.T) {
	docs := t.TempDir()
	write(t, docs, map[string]string{
		"returns.md":      "# Returns\n\nUnworn goods may be returned within thirty days of delivery.",
		"sub/battery.txt": "The battery is guaranteed for two years or five hundred cycles.",
		"broken.md":       "\x00\x01\x02\xff\xfe\x00binary",
		".hidden.md":      "# Hidden\n\nnot read",
	})
	b := open(t, t.TempDir())
	r := ingest(t, b, docs)
	if r.Added != 2 || r.Failed != 1 {
		t.Fatalf("%+v", r)
	}
	if got := files(t, b, "how long is the battery guaranteed"); got[0] != "sub/battery.txt" {
		t.Errorf("got %v", got)
	}
	if r := ingest(t, b, docs); r.Unchanged != 2 || r.Failed != 1 {
		t.Errorf("again: %+v", r)
	}
	write(t, docs, map[string]string{"sub/battery.txt": "Bananas are yellow."})
	if r := ingest(t, b, docs); r.Replaced != 1 || r.Unchanged != 1 {
		t.Errorf("changed: %+v", r)
	}
	hits, err := b.Search(t.Context(), retrieval.Query{Text: "battery cycles", TopK: 50})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hits {
		if strings.Contains(h.Passage.Text, "battery") {
			t.Error("the replaced text is still found")
		}
	}
	documents, err := b.Documents(t.Context(), "")
	if err != nil || len(documents) != 2 {
		t.Fatalf("%v, %v", documents, err)
	}
	for _, d := range documents {
		if err := b.DeleteDocument(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, b, "returns"); len(got) != 0 {
		t.Errorf("after deletion: %v", got)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnotherProcessIsSeen(t *testing.T) {
	data, docs := t.TempDir(), t.TempDir()
	write(t, docs, map[string]string{"a.md": "Apples are red."})
	first, second := open(t, data), open(t, data)
	ingest(t, first, docs)
	if got := files(t, second, "apples"); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	write(t, docs, map[string]string{"b.md": "Pears are green."})
	ingest(t, first, docs)
	if got := files(t, second, "pears"); len(got) != 2 || got[0] != "b.md" {
		t.Errorf("got %v", got)
	}
}

func TestSearchWhileIngesting(t *testing.T) {
	docs := t.TempDir()
	b := open(t, t.TempDir())
	write(t, docs, map[string]string{"0.md": "Zero."})
	ingest(t, b, docs)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 30 {
				if _, err := b.Search(context.Background(), retrieval.Query{Text: "word"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		write(t, docs, map[string]string{strings.Repeat("x", i+1) + ".md": "A word about " + strings.Repeat("things ", i)})
		ingest(t, b, docs)
	}
	wg.Wait()
}

func TestErrors(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	if _, err := b.Search(t.Context(), retrieval.Query{Store: "nope", Text: "x"}); !errors.Is(err, retrieval.ErrNoStore) {
		t.Errorf("missing store: %v", err)
	}
	if _, err := b.Search(t.Context(), retrieval.Query{Store: "No Name", Text: "x"}); !errors.Is(err, retrieval.ErrStoreName) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := b.Search(t.Context(), retrieval.Query{Text: "  "}); !errors.Is(err, retrieval.ErrQuery) {
		t.Errorf("blank: %v", err)
	}
	docs := t.TempDir()
	write(t, docs, map[string]string{"a.md": "Apples."})
	ingest(t, b, docs)
	c := base.Default(data)
	var h retrievaltest.Hashing
	c.Embedder, c.Info = h, h.Info()
	c.Info.Name, c.Info.SHA256 = "another", "other"
	other, err := base.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var e *retrieval.EmbedderError
	if _, err := other.Search(t.Context(), retrieval.Query{Text: "apples"}); !errors.As(err, &e) {
		t.Errorf("another embedding model: %v", err)
	}
	if _, err := other.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{docs}}, nil); !errors.As(err, &e) {
		t.Errorf("ingest with another embedding model: %v", err)
	}
	if _, err := b.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{filepath.Join(docs, "absent")}}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent path: %v", err)
	}
}

// A link to a folder stands for it; a device is refused before it is opened.
func TestRoots(t *testing.T) {
	b := open(t, t.TempDir())
	docs := t.TempDir()
	write(t, docs, map[string]string{"a.md": "Apples."})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(docs, link); err != nil {
		t.Fatal(err)
	}
	if r := ingest(t, b, link); r.Added != 1 || r.Documents[0].File != "a.md" {
		t.Errorf("by a link to its folder: %+v", r)
	}
	for name, target := range map[string]string{"loop": ".", "b.md": "a.md", "zero.txt": os.DevNull, "nowhere.md": "absent"} {
		if err := os.Symlink(target, filepath.Join(docs, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := ingest(t, b, docs)
	for _, d := range r.Documents {
		if d.File != "a.md" && (d.Status != retrieval.Skipped || d.Code != retrieval.CodeNoFile || !strings.Contains(d.Reason, "a link")) {
			t.Errorf("below a folder: %+v", d)
		}
	}
	if r.Unchanged != 1 || r.Skipped != 4 || len(r.Documents) != 5 {
		t.Errorf("with links in it: %+v", r)
	}
	if _, err := b.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{docs, os.DevNull}}, nil); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a device: %v", err)
	}
}

// A long document shows how far it is, and can be stopped in its middle: then nothing of it is stored.
func TestLongDocument(t *testing.T) {
	b, docs := open(t, t.TempDir()), t.TempDir()
	var text strings.Builder
	for i := range 400 {
		fmt.Fprintf(&text, "# Part %d\n\n%s\n\n", i, strings.Repeat(fmt.Sprintf("Sentence of part %d. ", i), 20))
	}
	write(t, docs, map[string]string{"long.md": text.String()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := b.Ingest(ctx, retrieval.Ingestion{Paths: []string{docs}}, func(p retrieval.Progress) {
		if p.Passages > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if d, err := b.Documents(t.Context(), ""); err != nil || len(d) > 0 {
		t.Errorf("stored are %v, %v", d, err)
	}
	var seen []int
	r, err := b.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{docs}}, func(p retrieval.Progress) {
		if p.Last == nil {
			seen = append(seen, p.Passages)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 4 || !slices.IsSorted(seen) || seen[0] != 0 || seen[len(seen)-1] != r.Passages {
		t.Errorf("%d passages; on the way %v", r.Passages, seen)
	}
}
