package sqlite

import (
	"errors"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

func TestStores(t *testing.T) {
	r := open(t, t.TempDir())
	if all, err := r.Stores(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a new record has %v, %v", all, err)
	}
	_, err := r.Store(t.Context(), "b")
	wantError(t, err, retrieval.ErrNoStore)
	wantError(t, r.DeleteStore(t.Context(), "b"), retrieval.ErrNoStore)
	b, err := r.EnsureStore(t.Context(), "b", minilm)
	must(t, err)
	a, err := r.EnsureStore(t.Context(), "a", minilm)
	must(t, err)
	if again, err := r.EnsureStore(t.Context(), "b", minilm); err != nil || again != b {
		t.Errorf("again it is %+v, %v; was %+v", again, err, b)
	}
	if all, err := r.Stores(t.Context()); err != nil || len(all) != 2 || all[0] != a || all[1] != b {
		t.Errorf("got %+v, %v", all, err)
	}

	// The same file in two stores is two documents.
	inA, inB := version("a", "x.md", 1, 2), version("b", "x.md", 2, 1)
	inA.put(t, r, a.ID)
	inB.put(t, r, b.ID)
	inA.wantStored(t, r)
	must(t, r.DeleteStore(t.Context(), "a"))
	inB.wantStored(t, r)
	_, err = r.Document(t.Context(), inA.document.ID)
	wantError(t, err, retrieval.ErrNoDocument)
	wantFound(t, r, "version1", 0)
	for c, err := range r.Changes(t.Context(), a.ID, 0) {
		t.Errorf("a deleted store has the change %+v, %v", c, err)
	}
	wantWhole(t, r)

	// Its number is not used again, so that what is kept of it in memory is not taken for a new one's.
	next, err := r.EnsureStore(t.Context(), "a", minilm)
	must(t, err)
	if next.ID == a.ID || next.Sequence != 0 {
		t.Errorf("the new store is %+v, the old one was %d", next, a.ID)
	}
	_, err = r.Put(t.Context(), a.ID, inA.document, inA.content)
	wantError(t, err, retrieval.ErrNoStore)
	inA.put(t, r, next.ID)
	wantWhole(t, r)
}

// Vectors of different models never come together in a store.
func TestEmbedderOfAStore(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	renamed, other, larger := minilm, minilm, minilm
	renamed.Name = "another name of the same file"
	other.SHA256 = "bb"
	larger.SHA256, larger.Dimensions = "cc", 5

	empty, err := r.EnsureStore(t.Context(), "default", larger)
	must(t, err)
	if empty.ID == s.ID || empty.Embedder != larger {
		t.Errorf("an empty store takes on the model: %+v", empty)
	}
	s, err = r.EnsureStore(t.Context(), "default", minilm)
	must(t, err)
	w := version("default", "a.md", 1, 1)
	w.put(t, r, s.ID)

	for _, offered := range []retrieval.EmbedderInfo{other, larger} {
		_, err = r.EnsureStore(t.Context(), "default", offered)
		var e *retrieval.EmbedderError
		if !errors.As(err, &e) || e.Store != "default" || e.Has != minilm || e.Offered != offered {
			t.Errorf("%+v: %v", offered, err)
		}
	}
	if same, err := r.EnsureStore(t.Context(), "default", renamed); err != nil || same.ID != s.ID {
		t.Errorf("the same file under another name: %+v, %v", same, err)
	}
	w.wantStored(t, r)

	must(t, r.DeleteDocument(t.Context(), w.document.ID))
	if free, err := r.EnsureStore(t.Context(), "default", other); err != nil || free.Embedder != other || free.ID == s.ID {
		t.Errorf("once it is empty: %+v, %v", free, err)
	}
	wantWhole(t, r)
}
