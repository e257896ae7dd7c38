package growing

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/chromem"
	"github.com/quipu-ai/quipu/retrieval/index/flat"
	"github.com/quipu-ai/quipu/retrieval/index/indextest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The suite passes while the index changes its kind in the midst of it.
func TestIndex(t *testing.T) {
	for _, limit := range []int{0, 3, 41, 100, 2000, Limit} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			indextest.Suite{
				New: func(t *testing.T, dimensions int) index.Index {
					x, err := newIndex(dimensions, 0, limit)
					if err != nil {
						t.Fatal(err)
					}
					return x
				},
				Recall: .99, Tolerance: flat.Tolerance,
			}.Run(t)
		})
	}
	if _, err := New(0, 0); err == nil {
		t.Error("no dimensions")
	}
	if _, err := New(0, Limit+1); err == nil {
		t.Error("no dimensions, large")
	}
}

// It changes its kind past the limit, once, and keeps what it has.
func TestChange(t *testing.T) {
	x, err := newIndex(2, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	kind := func() string { return fmt.Sprintf("%T", *x.current.Load()) }
	small, large := fmt.Sprintf("%T", &chromem.Index{}), fmt.Sprintf("%T", &flat.Index{})
	put := func(document string, n int) {
		t.Helper()
		passages, vectors := make([]string, n), make([][]float32, n)
		for i := range n {
			passages[i], vectors[i] = fmt.Sprint(document, i), []float32{1, 0}
		}
		if err := x.Put(t.Context(), document, passages, vectors); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		document string
		n, len   int
		kind     string
	}{{"a", 2, 2, small}, {"b", 1, 3, small}, {"a", 3, 4, large}, {"a", 0, 1, large}, {"c", 1, 2, large}} {
		put(step.document, step.n)
		if x.Len() != step.len || kind() != step.kind {
			t.Errorf("after %d of %s: %d passages in a %s, want %d in a %s", step.n, step.document, x.Len(), kind(), step.len, step.kind)
		}
	}
	found, err := x.Search(t.Context(), []float32{1, 0}, 9, nil)
	if err != nil || len(found) != 2 || found[0].Passage != "b0" || found[1].Passage != "c0" {
		t.Errorf("found %v, %v", found, err)
	}
	if x, err = newIndex(2, 4, 3); err != nil || kind() != large {
		t.Errorf("expected to be large: %s, %v", kind(), err)
	}
}
