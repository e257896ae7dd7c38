package indextest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/retrieval/index"
)

// filtered searches among few, many and all documents: what is found is theirs, and as near as exact search finds it.
func (s Suite) filtered(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	x, exact := s.New(t, dimensions), newBrute()
	const documents = 400
	for i := range documents {
		passages, vectors := document(r, fmt.Sprint(i), 1+r.IntN(20))
		exact.put(fmt.Sprint(i), passages, vectors)
		put(t, x, fmt.Sprint(i), passages, vectors)
	}
	// Some are replaced, so that they stand elsewhere, and some are gone.
	for i := 0; i < documents; i += 7 {
		passages, vectors := document(r, fmt.Sprint(i), i%3*4)
		exact.put(fmt.Sprint(i), passages, vectors)
		put(t, x, fmt.Sprint(i), passages, vectors)
	}
	for _, n := range []int{0, 1, 2, 4, 20, 100, 200, 396, documents} {
		found, wanted := 0, 0
		for range 30 {
			only := make([]string, 0, n+4)
			for _, d := range r.Perm(documents)[:n] {
				only = append(only, fmt.Sprint(d))
			}
			if n > 1 {
				only = append(only, only[0], only[n-1]) // named twice, found once
			}
			only = append(only, "unknown", "")
			q := unit(r)
			for _, k := range []int{1, 10, 100_000} {
				got, err := x.Search(t.Context(), q, k, only)
				want := exact.search(q, k, only)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%d documents: %d of %d, %v", n, len(got), len(want), err)
				}
				s.ordered(t, got)
				allowed, seen := make(map[string]bool), make(map[string]bool)
				for _, d := range only {
					allowed[d] = true
				}
				for _, m := range got {
					name, _, _ := strings.Cut(m.Passage, ".")
					if !allowed[name] || seen[m.Passage] {
						t.Fatalf("%d documents: %s is not of them, or there twice", n, m.Passage)
					}
					seen[m.Passage] = true
					if off := math.Abs(m.Cosine - exact.cosine(m.Passage, q)); off > s.Tolerance {
						t.Fatalf("cosine of %s is off by %g", m.Passage, off)
					}
				}
				if k == 10 {
					found += s.asNear(got, want)
					wanted += len(want)
				}
			}
		}
		if recall := float64(found) / float64(max(1, wanted)); wanted > 0 && recall < s.Recall {
			t.Errorf("%d documents: recall@10 is %.4f, want %.4f", n, recall, s.Recall)
		}
	}
	for _, none := range [][]string{{}, {"unknown"}} {
		if got, err := x.Search(t.Context(), unit(r), 10, none); err != nil || len(got) != 0 {
			t.Errorf("among %v: %v, %v", none, got, err)
		}
	}
}

// asNear counts those found that are as near as the last of the wanted, up to the tolerance: they are as good.
func (s Suite) asNear(got, want []index.Match) int {
	n := 0
	for _, m := range got {
		if m.Cosine >= want[len(want)-1].Cosine-s.Tolerance {
			n++
		}
	}
	return n
}
