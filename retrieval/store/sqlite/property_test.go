package sqlite

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

// model is what a record should hold: by store, by document.
type model map[string]map[string]written

// TestAgainstModel does what comes to its mind, through two handles that are opened and closed at will, and compares the
// record with a map after each step.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { againstModel(t, seed) })
	}
}

func againstModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	handles := [2]*Record{open(t, dir), open(t, dir)}
	m := model{}
	mirrors := map[int64]map[string]retrieval.Change{} // by store, as an index would follow it
	reached := map[int64]int64{}
	names := []string{"a", "b", "c"}
	for n := range 120 {
		h := rng.IntN(2)
		r := handles[h]
		name := names[rng.IntN(len(names))]
		w := version(name, fmt.Sprintf("%d.md", rng.IntN(8)), n, rng.IntN(5))
		_, known := m[name]
		_, there := m[name][w.document.ID]
		switch rng.IntN(12) {
		case 0:
			must(t, r.Close())
			handles[h] = open(t, dir)
		case 1:
			if err := r.DeleteStore(t.Context(), name); (err == nil) != known || err != nil && !errors.Is(err, retrieval.ErrNoStore) {
				t.Fatalf("step %d: delete store %s: %v, known %v", n, name, err, known)
			}
			delete(m, name)
		case 2, 3, 4:
			if err := r.DeleteDocument(t.Context(), w.document.ID); (err == nil) != there || err != nil && !errors.Is(err, retrieval.ErrNoDocument) {
				t.Fatalf("step %d: delete %s: %v, there %v", n, w.document.ID, err, there)
			}
			delete(m[name], w.document.ID)
		default:
			s, err := r.EnsureStore(t.Context(), name, minilm)
			must(t, err)
			status := w.put(t, r, s.ID)
			if want := map[bool]retrieval.Status{false: retrieval.Added, true: retrieval.Replaced}[there]; status != want {
				t.Fatalf("step %d: %s is %s, want %s", n, w.document.ID, status, want)
			}
			if !known {
				m[name] = map[string]written{}
			}
			m[name][w.document.ID] = w
		}
		wantModel(t, handles[rng.IntN(2)], m, mirrors, reached)
		if t.Failed() {
			t.Fatalf("after step %d", n)
		}
	}
	for _, documents := range m {
		for _, w := range documents {
			w.wantStored(t, handles[0])
		}
	}
	wantWhole(t, handles[0])
}

func wantModel(t *testing.T, r *Record, m model, mirrors map[int64]map[string]retrieval.Change, reached map[int64]int64) {
	t.Helper()
	stores, err := r.Stores(t.Context())
	must(t, err)
	var names []string
	for _, s := range stores {
		names = append(names, s.Name)
		want := m[s.Name]
		passages := 0
		for _, w := range want {
			passages += len(w.content.Passages)
		}
		if s.Documents != len(want) || s.Passages != passages {
			t.Errorf("%s counts %d documents and %d passages, want %d and %d", s.Name, s.Documents, s.Passages, len(want), passages)
		}
		documents, err := r.Documents(t.Context(), s.ID)
		must(t, err)
		for _, d := range documents {
			if d.SHA256 != want[d.ID].document.SHA256 {
				t.Errorf("%s is %s, want %s", d.ID, d.SHA256, want[d.ID].document.SHA256)
			}
		}
		if len(documents) != len(want) {
			t.Errorf("%s lists %d documents, want %d", s.Name, len(documents), len(want))
		}
		if mirrors[s.ID] == nil {
			mirrors[s.ID] = map[string]retrieval.Change{}
		}
		if reached[s.ID] = follow(t, r, s.ID, reached[s.ID], mirrors[s.ID]); reached[s.ID] != s.Sequence {
			t.Errorf("%s: following ends at %d, the store is at %d", s.Name, reached[s.ID], s.Sequence)
		}
		wantMirrored(t, mirrors[s.ID], want)
	}
	if want := slices.Sorted(maps.Keys(m)); !slices.Equal(names, want) {
		t.Errorf("stores are %v, want %v", names, want)
	}
}
