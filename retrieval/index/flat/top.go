package flat

import (
	"cmp"
	"math"
)

// candidate is a row that may be among the nearest.
type candidate struct {
	score     float32 // the dot product of high bytes and the row's scale, which orders as the cosine does
	slot, row int32
}

// worse orders candidates, the worst first. No two are equal, so which are kept doesn't hang on who scans what, or when.
func worse(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.slot, a.slot), cmp.Compare(b.row, a.row))
}

// top keeps the best candidates, the worst of them at the root of a heap.
type top struct {
	heap  []candidate
	keep  int
	floor float32 // what scores less isn't kept
}

func newTop(keep int) *top {
	return &top{heap: make([]candidate, 0, keep), keep: keep, floor: float32(math.Inf(-1))}
}

func (t *top) full() bool { return len(t.heap) == t.keep }

func (t *top) offer(c candidate) {
	h := t.heap
	if !t.full() {
		h = append(h, c)
		i := len(h) - 1
		for i > 0 && worse(h[i], h[(i-1)/2]) < 0 {
			h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
			i = (i - 1) / 2
		}
		t.heap = h
	} else {
		if worse(c, h[0]) < 0 {
			return
		}
		h[0] = c
		for i := 0; ; {
			least := i
			for _, child := range [2]int{2*i + 1, 2*i + 2} {
				if child < len(h) && worse(h[child], h[least]) < 0 {
					least = child
				}
			}
			if least == i {
				break
			}
			h[i], h[least] = h[least], h[i]
			i = least
		}
	}
	if t.full() {
		t.floor = max(t.floor, h[0].score)
	}
}
