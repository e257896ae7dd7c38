// Package indextest is the suite that every index.Index passes: it is held against exact search.
package indextest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/retrieval/index"
)

// Suite says what is tested and how near to exact search it must come.
type Suite struct {
	New func(t *testing.T, dimensions int) index.Index
	// Recall is the least share of the exact top 10 that is found; 1 for exhaustive indexes.
	Recall float64
	// Tolerance is how far a cosine may be off.
	Tolerance float64
}

const dimensions = 48

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("empty", s.empty)
	t.Run("against exact search", s.exact)
	t.Run("among some documents", s.filtered)
	t.Run("changes", s.changes)
	t.Run("wrong sizes", s.wrong)
	t.Run("order of equals", s.equals)
	t.Run("concurrent use", s.concurrent)
}

func (s Suite) empty(t *testing.T) {
	x := s.New(t, dimensions)
	for _, k := range []int{0, 1, 10} {
		if found, err := x.Search(t.Context(), unit(rand.New(rand.NewPCG(1, 1))), k, nil); err != nil || len(found) != 0 {
			t.Errorf("k %d: %v, %v", k, found, err)
		}
	}
	if err := x.Put(t.Context(), "none", nil, nil); err != nil || x.Len() != 0 {
		t.Errorf("removing what isn't there: %v, %d", err, x.Len())
	}
}

func (s Suite) exact(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	x, exact := s.New(t, dimensions), newBrute()
	for i := range 300 {
		passages, vectors := document(r, fmt.Sprint(i), 1+r.IntN(20))
		exact.put(fmt.Sprint(i), passages, vectors)
		put(t, x, fmt.Sprint(i), passages, vectors)
	}
	if x.Len() != exact.len() {
		t.Fatalf("%d of %d passages", x.Len(), exact.len())
	}
	found, wanted := 0, 0
	for range 50 {
		q := unit(r)
		for _, k := range []int{1, 10, 200} {
			got, err := x.Search(t.Context(), q, k, nil)
			if err != nil || len(got) != k {
				t.Fatalf("%d of %d, %v", len(got), k, err)
			}
			s.ordered(t, got)
			for _, m := range got {
				if off := math.Abs(m.Cosine - exact.cosine(m.Passage, q)); off > s.Tolerance {
					t.Fatalf("cosine of %s is off by %g", m.Passage, off)
				}
			}
			if k == 10 {
				want := exact.search(q, k, nil)
				found += s.asNear(got, want)
				wanted += k
			}
		}
	}
	if recall := float64(found) / float64(wanted); recall < s.Recall {
		t.Errorf("recall@10 is %.4f, want %.4f", recall, s.Recall)
	}
	if all, err := x.Search(t.Context(), unit(r), 1_000_000, nil); err != nil || len(all) != exact.len() {
		t.Errorf("%d of all %d, %v", len(all), exact.len(), err)
	}
}

// changes puts, replaces and removes documents at random: what is gone is never found, what is there always.
func (s Suite) changes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	x, exact := s.New(t, dimensions), newBrute()
	for step := range 400 {
		name := fmt.Sprint(r.IntN(40))
		var passages []string
		var vectors [][]float32
		if r.IntN(3) > 0 {
			passages, vectors = document(r, fmt.Sprintf("%s.%d", name, step), 1+r.IntN(6))
		}
		exact.put(name, passages, vectors)
		put(t, x, name, passages, vectors)
		if x.Len() != exact.len() {
			t.Fatalf("step %d: %d of %d passages", step, x.Len(), exact.len())
		}
		if step%20 == 0 {
			got, err := x.Search(t.Context(), unit(r), exact.len()+5, nil)
			if err != nil || len(got) != exact.len() {
				t.Fatalf("step %d: %d of %d found, %v", step, len(got), exact.len(), err)
			}
			one, err := x.Search(t.Context(), unit(r), 100, []string{name})
			if err != nil || len(one) != len(passages) {
				t.Fatalf("step %d: %d of %d passages of document %s, %v", step, len(one), len(passages), name, err)
			}
			for _, m := range one {
				if !slices.Contains(passages, m.Passage) {
					t.Fatalf("step %d: %s is not of document %s", step, m.Passage, name)
				}
			}
			for _, m := range got {
				if _, there := exact.vectors[m.Passage]; !there {
					t.Fatalf("step %d: %s is gone and was found", step, m.Passage)
				}
			}
		}
	}
}

func (s Suite) wrong(t *testing.T) {
	x := s.New(t, dimensions)
	if err := x.Put(t.Context(), "a", []string{"a.0"}, nil); err == nil {
		t.Error("a passage without vector")
	}
	if err := x.Put(t.Context(), "a", []string{"a.0"}, [][]float32{{1}}); err == nil {
		t.Error("a short vector")
	}
	if _, err := x.Search(t.Context(), []float32{1}, 1, nil); err == nil {
		t.Error("a short question")
	}
	if x.Len() != 0 {
		t.Errorf("%d passages", x.Len())
	}
}

func (s Suite) equals(t *testing.T) {
	x := s.New(t, dimensions)
	v := unit(rand.New(rand.NewPCG(4, 4)))
	for _, name := range []string{"c", "a", "b"} {
		put(t, x, name, []string{name + ".1", name + ".0"}, [][]float32{slices.Clone(v), slices.Clone(v)})
	}
	got, err := x.Search(t.Context(), v, 6, nil)
	if err != nil || len(got) != 6 {
		t.Fatal(got, err)
	}
	s.ordered(t, got)
	if math.Abs(got[0].Cosine-1) > s.Tolerance {
		t.Errorf("cosine of the same is %g", got[0].Cosine)
	}
}

// concurrent searches while documents are replaced as a whole: each search sees all of a document or its successor.
func (s Suite) concurrent(t *testing.T) {
	x := s.New(t, dimensions)
	const documents, size = 10, 4
	r := rand.New(rand.NewPCG(5, 5))
	for d := range documents {
		passages, vectors := document(r, fmt.Sprintf("%d.0", d), size)
		put(t, x, fmt.Sprint(d), passages, vectors)
	}
	names := make([]string, documents)
	for d := range documents {
		names[d] = fmt.Sprint(d)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for n := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(6, uint64(n)))
			for {
				select {
				case <-done:
					return
				default:
				}
				var only []string // every second time, the same by their names
				if n++; n%2 == 0 {
					only = names
				}
				got, err := x.Search(context.Background(), unit(r), documents*size, only)
				if err != nil || len(got) != documents*size {
					t.Errorf("%d found, %v", len(got), err)
					return
				}
				versions := make(map[string]int)
				for _, m := range got {
					versions[m.Passage[:len(m.Passage)-2]]++
				}
				for v, n := range versions {
					if n != size {
						t.Errorf("%d of %d passages of %s", n, size, v)
					}
				}
			}
		})
	}
	for version := 1; version <= 100; version++ {
		d := version % documents
		passages, vectors := document(r, fmt.Sprintf("%d.%d", d, version), size)
		put(t, x, fmt.Sprint(d), passages, vectors)
	}
	close(done)
	wg.Wait()
}

func (s Suite) ordered(t *testing.T, found []index.Match) {
	t.Helper()
	if !slices.IsSortedFunc(found, func(a, b index.Match) int {
		return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Passage, b.Passage))
	}) {
		t.Errorf("not in order: %v", found)
	}
}

func put(t *testing.T, x index.Index, name string, passages []string, vectors [][]float32) {
	t.Helper()
	if err := x.Put(t.Context(), name, passages, vectors); err != nil {
		t.Fatal(err)
	}
}

// document makes passages named NAME.0, NAME.1 … with random vectors.
func document(r *rand.Rand, name string, n int) ([]string, [][]float32) {
	passages, vectors := make([]string, n), make([][]float32, n)
	for i := range n {
		passages[i], vectors[i] = fmt.Sprintf("%s.%d", name, i), unit(r)
	}
	return passages, vectors
}

func unit(r *rand.Rand) []float32 {
	v := make([]float32, dimensions)
	var norm float64
	for i := range v {
		v[i] = float32(r.NormFloat64())
		norm += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(norm))
	}
	return v
}

// brute is exact search by the definition.
type brute struct {
	documents map[string][]string
	vectors   map[string][]float32
}

func newBrute() *brute {
	return &brute{documents: make(map[string][]string), vectors: make(map[string][]float32)}
}

func (b *brute) put(name string, passages []string, vectors [][]float32) {
	for _, p := range b.documents[name] {
		delete(b.vectors, p)
	}
	b.documents[name] = passages
	for i, p := range passages {
		b.vectors[p] = slices.Clone(vectors[i])
	}
}

func (b *brute) len() int { return len(b.vectors) }

func (b *brute) cosine(passage string, q []float32) float64 {
	var sum float64
	for i, x := range b.vectors[passage] {
		sum += float64(x) * float64(q[i])
	}
	return sum
}

// search searches the passages of some documents; nil is all.
func (b *brute) search(q []float32, k int, only []string) []index.Match {
	if only == nil {
		for name := range b.documents {
			only = append(only, name)
		}
	}
	var out []index.Match
	for _, name := range slices.Compact(slices.Sorted(slices.Values(only))) {
		for _, p := range b.documents[name] {
			out = append(out, index.Match{Passage: p, Cosine: b.cosine(p, q)})
		}
	}
	slices.SortFunc(out, func(a, b index.Match) int { return cmp.Compare(b.Cosine, a.Cosine) })
	return out[:min(k, len(out))]
}
