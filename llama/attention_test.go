package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

const hidden = 0xfc00 // minus infinity in half precision

// cellsOf are attention masks: what a row reads.
var cellsOf = map[string]func(rng *rand.Rand, row, rows, cells, cell int) bool{
	"all":       func(_ *rand.Rand, _, _, _, _ int) bool { return true },
	"none":      func(_ *rand.Rand, _, _, _, _ int) bool { return false },
	"causal":    func(_ *rand.Rand, row, rows, cells, cell int) bool { return cell <= cells-rows+row },
	"own":       func(_ *rand.Rand, row, rows, cells, cell int) bool { return cell*rows/cells == row },
	"scattered": func(rng *rand.Rand, _, _, _, _ int) bool { return rng.IntN(7) == 0 },
	"last":      func(_ *rand.Rand, _, _, cells, cell int) bool { return cell == cells-1 },
}

func operation(seed uint64, size, heads, keyHeads, rows, cells int, reads func(rng *rand.Rand, row, rows, cells, cell int) bool) attention {
	rng := rand.New(rand.NewPCG(seed, 1))
	a := attention{size: size, heads: heads, keyHeads: keyHeads, rows: rows, cells: cells,
		q: make([]float32, rows*heads*size), k: make([]uint16, cells*keyHeads*size), v: make([]uint16, cells*keyHeads*size), mask: make([]uint16, rows*cells)}
	for i := range a.q {
		a.q[i] = float32(rng.NormFloat64() * 2)
	}
	for i := range a.k { // halves of either sign between 2^-5 and 4
		a.k[i] = uint16(rng.UintN(2)<<15 | 10<<10 + rng.UintN(7<<10))
		a.v[i] = uint16(rng.UintN(2)<<15 | 10<<10 + rng.UintN(7<<10))
	}
	for i := range a.mask {
		if !reads(rng, i/cells, rows, cells, i%cells) {
			a.mask[i] = hidden
		}
	}
	return a
}

// Attention is what ggml's reference says it is, whatever its shape, what a row reads, and however many threads compute it.
func TestAttention(t *testing.T) {
	for _, shape := range [][3]int{{32, 12, 12}, {64, 9, 3}, {64, 14, 2}, {64, 4, 4}, {64, 10, 1}, {80, 8, 8}, {96, 8, 2}, {128, 32, 8}, {128, 12, 2}, {256, 8, 1}, {72, 4, 2}, {64, 11, 1}} {
		for _, rows := range []int{1, 2, 5, 16, 40} {
			for name, reads := range cellsOf {
				t.Run(fmt.Sprintf("%d of %d for %d, %d rows, %s", shape[1], shape[0], shape[2], rows, name), func(t *testing.T) {
					for i, cells := range []int{256, 768, 1280} {
						a := operation(uint64(i), shape[0], shape[1], shape[2], rows, cells, reads)
						want, err := a.run(1, 1, true)
						if err != nil {
							t.Fatal(err)
						}
						for _, threads := range []int{1, 2, 3} {
							got, err := a.run(threads, 1, false)
							if err != nil {
								t.Fatal(err)
							}
							for j := range got {
								// The reference sums in half precision.
								if diff := math.Abs(float64(got[j] - want[j])); !(diff <= 0.02) {
									t.Fatalf("%d cells, %d threads: number %d is %g, want %g", cells, threads, j, got[j], want[j])
								}
							}
						}
					}
				})
			}
		}
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, c := range []struct {
		name        string
		rows, cells int
	}{{"nothing", 1, 32}, {"single", 1, 512}, {"single behind much", 1, 4096}, {"16 streams of 100", 16, 1792}, {"8 streams of 1100", 8, 8960}, {"prompt of 64", 64, 1024}, {"prompt of 512", 512, 512}} {
		reads := cellsOf["own"]
		switch c.rows {
		case 1, 64, 512: // of one sequence
			reads = cellsOf["causal"]
		}
		a := operation(1, 64, 9, 3, c.rows, c.cells, reads)
		for _, reference := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/reference=%t", c.name, reference), func(b *testing.B) {
				if _, err := a.run(2, b.N, reference); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
