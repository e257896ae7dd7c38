package flat

import (
	"math/bits"
	"sync/atomic"
)

const (
	// segmentRows is what a segment of several documents has place for, and what a goroutine scans at a time.
	segmentRows = 2048
	// alone is from how many passages on a document has a segment for itself. So less than a quarter of a segment stays free.
	alone = segmentRows / 4
)

// rows is the memory of a segment, which snapshots share: written once, behind what any of them shows.
type rows struct {
	high, low []byte    // a stride a row; zero behind its dimensions
	scales    []float32 // of each row
	passages  []string  // of each row
	// documents that were put here, for the writer alone. They may have moved since, or be there twice.
	documents []string
}

// segment is what a snapshot shows of rows. It never changes.
type segment struct {
	*rows
	used  int    // rows written
	alive int    // of them
	dead  bitmap // nil: none
}

func newSegment(capacity, stride int) *segment {
	return &segment{rows: &rows{
		high: make([]byte, capacity*stride), low: make([]byte, capacity*stride),
		scales: make([]float32, capacity), passages: make([]string, capacity),
	}}
}

func (s *segment) capacity() int { return len(s.scales) }

// sparse says that moving what is alive frees at least as much.
func (s *segment) sparse() bool { return 2*s.alive <= s.used }

// bitmap has a bit a row.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

// set sets the bits from up to to.
func (b bitmap) set(from, to int) {
	for from < to {
		n := min(64-from%64, to-from)
		b[from/64] |= ^uint64(0) >> (64 - n) << (from % 64)
		from += n
	}
}

// claim sets bits as set does, beside others who do, and says whether it was the first to set the bit of from.
func (b bitmap) claim(from, to int) bool {
	first := true
	for at := from; at < to; {
		n := min(64-at%64, to-at)
		old := atomic.OrUint64(&b[at/64], ^uint64(0)>>(64-n)<<(at%64))
		if at == from {
			first = old>>(from%64)&1 == 0
		}
		at += n
	}
	return first
}

// run finds the first unbroken run of rows of from up to to that are in only, if there is one, and not in without. Where
// there are none it is empty.
func run(only, without bitmap, from, to int) (int, int) {
	if only == nil && without == nil {
		return from, to
	}
	word := func(i int) uint64 {
		w := ^uint64(0)
		if only != nil {
			w = only[i]
		}
		if without != nil {
			w &^= without[i]
		}
		return w
	}
	first := next(word, 0, from, to)
	return first, next(word, ^uint64(0), first, to)
}

// next finds the first bit of from up to to that is set after word was turned by flip; to where there is none.
func next(word func(int) uint64, flip uint64, from, to int) int {
	for from < to {
		if w := (word(from/64) ^ flip) >> (from % 64); w != 0 {
			return min(to, from+bits.TrailingZeros64(w))
		}
		from += 64 - from%64
	}
	return to
}
