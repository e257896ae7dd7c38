package flat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// reference is the kernels' sum by its definition.
func reference(rows []byte, h *half, row int) int32 {
	var sum int32
	for i, q := range h.bytes {
		sum += int32(rows[row*len(h.bytes)+i]) * int32(q)
	}
	return sum
}

func compare(t *testing.T, n int, rows []byte, h *half) {
	t.Helper()
	for _, k := range kernels() {
		out := make([]int32, n+1)
		out[n] = 42
		k.dots(out[:n], rows, h)
		for i := range n {
			if want := reference(rows, h, i); out[i] != want {
				t.Fatalf("%s, %d bytes a row: row %d of %d is %d, want %d", k.name, len(h.bytes), i, n, out[i], want)
			}
		}
		if out[n] != 42 {
			t.Fatalf("%s writes behind its rows", k.name)
		}
	}
}

func TestKernels(t *testing.T) {
	names := ""
	for _, k := range kernels() {
		names += " " + k.name
	}
	t.Log("kernels:" + names)
	r := rand.New(rand.NewPCG(1, 1))
	for dimensions := 1; dimensions <= 600; dimensions++ {
		vector := make([]float32, dimensions)
		for i := range vector {
			vector[i] = float32(r.NormFloat64())
		}
		q, err := newQuestion(vector)
		if err != nil {
			t.Fatal(err)
		}
		n := dimensions % 14
		rows := make([]byte, n*stride(dimensions))
		for i := range rows {
			rows[i] = byte(r.Uint32())
		}
		compare(t, n, rows, &q.high)
		compare(t, n, rows, &q.low)
	}
	// The largest sums there are.
	for _, v := range []int32{127, -128} {
		h := newHalf(maxDimensions)
		for i := range maxDimensions {
			h.set(i, v)
		}
		rows := make([]byte, 5*maxDimensions)
		for i := range rows {
			rows[i] = 255
		}
		compare(t, 5, rows, &h)
	}
	for _, k := range kernels() {
		h := newHalf(lane)
		k.dots(nil, nil, &h)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s reads behind its rows", k.name)
				}
			}()
			k.dots(make([]int32, 2), make([]byte, 2*lane-1), &h)
		}()
	}
}

func FuzzKernels(f *testing.F) {
	f.Add([]byte("a question and its rows"), uint8(3))
	f.Add(make([]byte, 700), uint8(9))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		rows := int(n % 17)
		s := stride(max(1, len(data)/(rows+1)))
		h := newHalf(min(s, 4096))
		s = len(h.bytes)
		for i := range min(s, len(data)) {
			h.set(i, int32(int8(data[i])))
		}
		all := make([]byte, rows*s)
		copy(all, data[min(s, len(data)):])
		compare(t, rows, all, &h)
	})
}

// A number is kept to half of the smallest step, and by the high byte alone to half of its own and of the smallest.
func TestCode(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		vector := make([]float32, 1+r.IntN(100))
		for i := range vector {
			vector[i] = float32(r.NormFloat64() * math.Pow(10, 4*r.Float64()-2))
			if r.IntN(5) == 0 {
				vector[i] = 0
			}
		}
		size, err := largest(vector)
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			vector[0] = float32(size * float64(1-2*r.IntN(2))) // the largest, of either sign
		}
		high, low := make([]byte, len(vector)), make([]byte, len(vector))
		scale := float64(encode(vector, size, high, low))
		for i, v := range vector {
			h, l := float64(high[i])-zero, float64(low[i])-zero
			if math.Abs(h) > 127 || v == 0 && (h != 0 || l != 0) {
				t.Fatalf("%v is %v and %v", v, h, l)
			}
			if off := math.Abs(scale*(256*h+l) - float64(v)); off > .501*scale {
				t.Fatalf("%v is off by %g steps", v, off/scale)
			}
			if off := math.Abs(256*scale*h - float64(v)); off > (.5+1./256)*256*scale {
				t.Fatalf("%v by its high byte is off by %g of its steps", v, off/scale/256)
			}
		}
	}
}

// run against the definition of a run.
func TestRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 2000 {
		n := 1 + r.IntN(300)
		random := func() (bitmap, []bool) {
			plain := make([]bool, n)
			if r.IntN(4) == 0 {
				return nil, nil
			}
			b := newBitmap(n)
			for range r.IntN(6) {
				from := r.IntN(n)
				to := from + r.IntN(n-from+1)
				if r.IntN(2) == 0 {
					b.set(from, to)
				} else if from < to && b.claim(from, to) == plain[from] {
					t.Fatalf("%d is claimed twice, or never", from)
				}
				for i := from; i < to; i++ {
					plain[i] = true
				}
			}
			return b, plain
		}
		only, allowed := random()
		without, dead := random()
		var want, got []int
		from := r.IntN(n)
		for i := from; i < n; i++ {
			if (only == nil || allowed[i]) && (without == nil || !dead[i]) {
				want = append(want, i)
			}
		}
		last := -1
		for a, b := run(only, without, from, n); a < b; a, b = run(only, without, b, n) {
			if a == last {
				t.Fatal("a run was cut")
			}
			for i := a; i < b; i++ {
				got = append(got, i)
			}
			last = b
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestTop(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		keep, n := 1+r.IntN(20), r.IntN(100)
		top := newTop(keep)
		var all []candidate
		for i := range n {
			c := candidate{float32(r.IntN(30) - 15), int32(r.IntN(3)), int32(i)}
			all = append(all, c)
			if c.score >= top.floor {
				top.offer(c)
			}
		}
		slices.SortFunc(all, func(a, b candidate) int { return worse(b, a) })
		slices.SortFunc(top.heap, func(a, b candidate) int { return worse(b, a) })
		if !slices.Equal(top.heap, all[:min(n, keep)]) {
			t.Fatalf("kept %v of %v", top.heap, all)
		}
	}
	numbers := []float32{float32(math.Inf(-1)), -3, -1e-40, 0, 1e-40, 2, float32(math.Inf(1))}
	for i, a := range numbers {
		if fromOrderedBits(orderedBits(a)) != a {
			t.Errorf("%v isn't itself", a)
		}
		for _, b := range numbers[i+1:] {
			if orderedBits(a) >= orderedBits(b) {
				t.Errorf("%v isn't before %v", a, b)
			}
		}
	}
}
