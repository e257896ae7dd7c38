package flat

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/indextest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIndex(t *testing.T) {
	for _, k := range kernels() {
		t.Run(k.name, func(t *testing.T) {
			indextest.Suite{
				New: func(t *testing.T, dimensions int) index.Index {
					x, err := newIndex(dimensions, k.dots)
					if err != nil {
						t.Fatal(err)
					}
					return x
				},
				Recall: .99, Tolerance: Tolerance,
			}.Run(t)
		})
	}
	for _, dimensions := range []int{-1, 0, maxDimensions + 1} {
		if _, err := New(dimensions); err == nil {
			t.Errorf("%d dimensions", dimensions)
		}
	}
}

// clusters makes vectors as embeddings are: near to others of their subject.
type clusters struct {
	r       *rand.Rand
	centres [][]float32
}

func newClusters(seed uint64, n, dimensions int) *clusters {
	c := &clusters{r: rand.New(rand.NewPCG(seed, 1))}
	for range n {
		c.centres = append(c.centres, c.around(make([]float32, dimensions), 1))
	}
	return c
}

func (c *clusters) around(centre []float32, spread float64) []float32 {
	v := make([]float32, len(centre))
	each := spread / math.Sqrt(float64(len(v)))
	var norm float64
	for i := range v {
		v[i] = centre[i] + float32(each*c.r.NormFloat64())
		norm += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(norm))
	}
	return v
}

func (c *clusters) vector() []float32 { return c.around(c.centres[c.r.IntN(len(c.centres))], .7) }

func (c *clusters) document(name string, n int) ([]string, [][]float32) {
	passages, vectors := make([]string, n), make([][]float32, n)
	for i := range n {
		passages[i], vectors[i] = fmt.Sprintf("%s.%d", name, i), c.vector()
	}
	return passages, vectors
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// Of clustered vectors of a usual size the nearest are found, by all kernels in the same way, with cosines that are right to
// millionths.
func TestRecall(t *testing.T) {
	const dimensions, n = 384, 4000
	c := newClusters(1, 40, dimensions)
	passages, vectors := c.document("p", n)
	questions := make([][]float32, 40)
	for i := range questions {
		questions[i] = c.vector()
	}
	var first [][]index.Match
	for _, k := range kernels() {
		x, err := newIndex(dimensions, k.dots)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < n; i += 20 {
			if err := x.Put(t.Context(), fmt.Sprint(i), passages[i:i+20], vectors[i:i+20]); err != nil {
				t.Fatal(err)
			}
		}
		found, worst := 0, 0.
		for j, q := range questions {
			exact := make([]float64, n)
			cosines := make(map[string]float64, n)
			for i, v := range vectors {
				exact[i] = dot(v, q)
				cosines[passages[i]] = exact[i]
			}
			slices.Sort(exact)
			got, err := x.Search(t.Context(), q, 10, nil)
			if err != nil || len(got) != 10 {
				t.Fatal(got, err)
			}
			for _, m := range got {
				worst = max(worst, math.Abs(m.Cosine-cosines[m.Passage]))
				if cosines[m.Passage] >= exact[n-10] {
					found++
				}
			}
			switch {
			case len(first) <= j:
				first = append(first, got)
			case !slices.Equal(first[j], got):
				t.Errorf("%s finds %v, the first kernel %v", k.name, got, first[j])
			}
		}
		if recall := float64(found) / float64(10*len(questions)); recall < .995 || worst > 1e-5 {
			t.Errorf("%s: recall@10 %.4f, cosines off by up to %g", k.name, recall, worst)
		}
	}
}

// Documents of all sizes come, change and go: what is found is what is there, and memory follows what is there.
func TestChurn(t *testing.T) {
	const dimensions = 8
	r := rand.New(rand.NewPCG(2, 2))
	c := newClusters(2, 10, dimensions)
	x, err := New(dimensions)
	if err != nil {
		t.Fatal(err)
	}
	size := func() int {
		switch r.IntN(20) {
		case 0:
			return alone + r.IntN(3*segmentRows)
		case 1, 2, 3:
			return r.IntN(alone)
		case 4:
			return alone - 1
		case 5, 6:
			return 0
		default:
			return r.IntN(30)
		}
	}
	there, passages := make(map[string]int), 0
	for step := range 6000 {
		if step == 4000 {
			size = func() int { return r.IntN(2) } // nearly all of it goes
		}
		name := fmt.Sprint(r.IntN(300))
		n := size()
		ids, vectors := c.document(fmt.Sprintf("%s/%d", name, step), n)
		before := x.current.Load()
		if err := x.Put(t.Context(), name, ids, vectors); err != nil {
			t.Fatal(err)
		}
		passages += n - there[name]
		there[name] = n
		now := x.current.Load()
		if now.passages != passages {
			t.Fatalf("step %d: %d passages, want %d", step, now.passages, passages)
		}
		check(t, now, x)
		if moved := written(before, now) - n; moved > 3*segmentRows {
			t.Fatalf("step %d: %d rows were moved", step, moved)
		}
		if step%500 == 0 {
			for name, n := range there {
				got, err := x.Search(t.Context(), c.vector(), 1<<20, []string{name})
				if err != nil || len(got) != n {
					t.Fatalf("step %d: %d of %d passages of %s, %v", step, len(got), n, name, err)
				}
			}
		}
	}
}

// written counts the rows that the second snapshot has and the first has not.
func written(before, now *snapshot) int {
	used := make(map[*rows]int)
	for _, s := range before.segments {
		if s != nil {
			used[s.rows] = s.used
		}
	}
	n := 0
	for _, s := range now.segments {
		if s != nil {
			n += s.used - used[s.rows]
		}
	}
	return n
}

// check holds a snapshot against itself.
func check(t *testing.T, s *snapshot, x *Index) {
	t.Helper()
	alive, capacity, slots := 0, 0, 0
	for slot, seg := range s.segments {
		if seg == nil {
			slots++
			continue
		}
		n := 0
		for from, to := run(nil, seg.dead, 0, seg.used); from < to; from, to = run(nil, seg.dead, to, seg.used) {
			n += to - from
		}
		if n != seg.alive || n == 0 || slot != x.tail && seg.sparse() {
			t.Fatalf("slot %d: %d alive, %d counted of %d", slot, seg.alive, n, seg.used)
		}
		alive += n
		if slot != x.tail {
			capacity += seg.capacity()
		}
	}
	if alive != s.passages || slots != len(x.free) || capacity > 3*alive {
		t.Fatalf("%d alive, %d counted, place for %d, %d slots free, %d counted", alive, s.passages, capacity, slots, len(x.free))
	}
	for _, b := range s.documents.root {
		if b == nil {
			continue
		}
		for _, leaf := range b {
			for _, e := range leaf {
				seg := s.segments[e.place.slot]
				alive -= int(e.place.rows)
				if from, to := run(nil, seg.dead, int(e.place.from), int(e.place.from+e.place.rows)); to-from != int(e.place.rows) {
					t.Fatalf("document %s has dead rows", e.document)
				}
			}
		}
	}
	if alive != 0 {
		t.Fatalf("%d rows are no document's", alive)
	}
}

// A search goes on in the snapshot that it began with, whatever is written meanwhile.
func TestSnapshots(t *testing.T) {
	const dimensions = 8
	c := newClusters(3, 10, dimensions)
	x, _ := New(dimensions)
	for i := range 200 {
		ids, vectors := c.document(fmt.Sprintf("%d/a", i), 20)
		if err := x.Put(t.Context(), fmt.Sprint(i), ids, vectors); err != nil {
			t.Fatal(err)
		}
	}
	old, q := x.current.Load(), c.vector()
	want, _ := x.Search(t.Context(), q, 5000, nil)
	for i := range 200 {
		ids, vectors := c.document(fmt.Sprintf("%d/b", i), i%25)
		if err := x.Put(t.Context(), fmt.Sprint(i), ids, vectors); err != nil {
			t.Fatal(err)
		}
	}
	x.current.Store(old)
	if got, err := x.Search(t.Context(), q, 5000, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("the old snapshot has changed: %d found, %d before, %v", len(got), len(want), err)
	}
}

// However many search at once, all find the same, and all processors are given back.
func TestShared(t *testing.T) {
	const dimensions = 16
	c := newClusters(4, 10, dimensions)
	x, _ := New(dimensions)
	x.idle.Store(4)
	for i := range 15 {
		ids, vectors := c.document(fmt.Sprint(i), 1000)
		copy(vectors[500:], vectors[:500]) // equals, that any order of work must choose among alike
		if err := x.Put(t.Context(), fmt.Sprint(i), ids, vectors); err != nil {
			t.Fatal(err)
		}
	}
	q := c.vector()
	want, err := x.Search(t.Context(), q, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	only := make([]string, 4*lookups) // enough of them that looking them up is shared as well
	for i := range only {
		only[i] = fmt.Sprint(i)
		if i > 2*lookups {
			only[i] = fmt.Sprint(i % 15)
		}
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if i%2 == n%2 { // by the names of all too
					if got, err := x.Search(context.Background(), q, 10, only); err != nil || !slices.Equal(got, want) {
						t.Errorf("by names: %v, %v, want %v", got, err, want)
					}
				}
				if got, err := x.Search(context.Background(), q, 10, nil); err != nil || !slices.Equal(got, want) {
					t.Errorf("%v, %v, want %v", got, err, want)
				}
			}
		})
	}
	wg.Wait()
	if idle := x.idle.Load(); idle != 4 {
		t.Errorf("%d of 4 processors idle", idle)
	}
	x.idle.Store(0)
	if got, err := x.Search(t.Context(), q, 10, nil); err != nil || !slices.Equal(got, want) || x.idle.Load() != 0 {
		t.Errorf("with no processor idle: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Search(ctx, q, 10, nil); err == nil {
		t.Error("a search that isn't wanted any more")
	}
}

func TestNotFinite(t *testing.T) {
	x, _ := New(2)
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if err := x.Put(t.Context(), "a", []string{"a"}, [][]float32{{1, v}}); err == nil {
			t.Errorf("a passage with %v", v)
		}
		if _, err := x.Search(t.Context(), []float32{v, 1}, 1, nil); err == nil {
			t.Errorf("a question with %v", v)
		}
	}
	if x.Len() != 0 {
		t.Errorf("%d passages", x.Len())
	}
	for _, v := range [][]float32{{0, 0}, {math.SmallestNonzeroFloat32, 0}, {1e-30, 1e-30}, {1, 0}} {
		if err := x.Put(t.Context(), fmt.Sprint(v), []string{fmt.Sprint(v)}, [][]float32{v}); err != nil {
			t.Error(err)
		}
		if got, err := x.Search(t.Context(), v, 9, nil); err != nil || len(got) != x.Len() {
			t.Errorf("%v: %v, %v", v, got, err)
		}
	}
}
