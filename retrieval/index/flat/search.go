package flat

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quipu-ai/quipu/retrieval/index"
)

// Of k wanted, the best max(again·k, leastAgain) by high bytes are looked at in full.
const (
	again      = 4
	leastAgain = 64
)

// blockBytes is what a kernel is given at a time: it can't be interrupted.
const (
	blockBytes = 128 << 10
	blockRows  = 256
)

// Search implements index.Index. It takes no lock.
func (x *Index) Search(ctx context.Context, vector []float32, k int, only []string) ([]index.Match, error) {
	if len(vector) != x.dimensions {
		return nil, fmt.Errorf("index: a question of %d dimensions, not %d", len(vector), x.dimensions)
	}
	q, err := newQuestion(vector)
	if err != nil {
		return nil, err
	}
	s := &scan{dots: x.dots, stride: x.stride, snapshot: x.current.Load(), question: q}
	rows := s.passages
	if only != nil {
		rows = s.allow(only, x.share)
	}
	if k = min(k, rows); k < 1 {
		return nil, ctx.Err()
	}
	s.keep = min(max(again*k, leastAgain), rows)
	s.divide()
	best := s.best(ctx, rows, x.share)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]index.Match, len(best))
	for i, c := range best {
		seg := s.segments[c.slot]
		from, to := int(c.row)*x.stride, (int(c.row)+1)*x.stride
		out[i] = index.Match{Passage: seg.passages[c.row], Cosine: q.cosine(x.dots, seg.high[from:to], seg.low[from:to], seg.scales[c.row])}
	}
	slices.SortFunc(out, func(a, b index.Match) int {
		return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Passage, b.Passage))
	})
	return out[:min(k, len(out))], nil
}

// scan is a search under way, which several goroutines may share.
type scan struct {
	*snapshot
	dots     kernel
	stride   int
	question *question
	only     []bitmap // by slot, the rows that are searched; nil: all
	keep     int      // candidates

	pieces []piece
	next   atomic.Int64 // the first piece that nobody has taken
	// floor is what all candidates of some goroutine reach, so that nothing below it is among the best of all; in the bits of
	// orderedBits.
	floor atomic.Uint32
}

// piece is what is taken at a time.
type piece struct {
	slot, from, to int
}

// lookups is how many documents a goroutine finds the places of at a time: some hundredth of a millisecond.
const lookups = 512

// allow restricts the scan to some documents and gives their number of passages.
func (s *scan) allow(documents []string, share func(int, func())) int {
	s.only = make([]bitmap, len(s.segments))
	words := 0
	for _, seg := range s.segments {
		if seg != nil {
			words += (seg.used + 63) / 64
		}
	}
	all := make(bitmap, words)
	for slot, seg := range s.segments {
		if seg != nil {
			n := (seg.used + 63) / 64
			s.only[slot], all = all[:n], all[n:]
		}
	}
	var next, rows atomic.Int64
	share((len(documents)+lookups-1)/lookups, func() {
		for {
			to := int(next.Add(lookups))
			from := to - lookups
			if from >= len(documents) {
				return
			}
			for _, d := range documents[from:min(to, len(documents))] {
				// One that is named twice is counted once.
				if at, ok := s.documents.find(d); ok && s.only[at.slot].claim(int(at.from), int(at.from+at.rows)) {
					rows.Add(int64(at.rows))
				}
			}
		}
	})
	return int(rows.Load())
}

// divide cuts what there is to scan into pieces.
func (s *scan) divide() {
	s.pieces = make([]piece, 0, len(s.segments))
	for slot, seg := range s.segments {
		if seg == nil {
			continue
		}
		for from := 0; from < seg.used; from += segmentRows {
			s.pieces = append(s.pieces, piece{slot, from, min(from+segmentRows, seg.used)})
		}
	}
}

// best scans all pieces, by as many goroutines as rows are worth the trouble, and gives the candidates of all.
func (s *scan) best(ctx context.Context, rows int, share func(int, func())) []candidate {
	s.floor.Store(orderedBits(float32(math.Inf(-1))))
	var mu sync.Mutex
	var best []candidate
	share(min(rows/segmentRows+1, len(s.pieces)), func() {
		t := s.work(ctx)
		mu.Lock()
		defer mu.Unlock()
		best = append(best, t.heap...)
	})
	slices.SortFunc(best, func(a, b candidate) int { return worse(b, a) })
	return best[:min(s.keep, len(best))]
}

// share does work in up to n goroutines at once, its own and one for each further processor that is idle. A search that finds
// none idle works all the same, alone.
func (x *Index) share(n int, work func()) {
	taken := x.take(n)
	defer x.idle.Add(int32(taken))
	var wg sync.WaitGroup
	defer wg.Wait()
	for range taken - 1 {
		wg.Go(work)
	}
	work()
}

// take takes up to n processors, as many as are idle.
func (x *Index) take(n int) int {
	for {
		idle := x.idle.Load()
		got := min(idle, int32(n))
		if got <= 0 {
			return 0
		}
		if x.idle.CompareAndSwap(idle, idle-got) {
			return int(got)
		}
	}
}

// work scans pieces until there are none left, or the search isn't wanted any more.
func (s *scan) work(ctx context.Context) *top {
	t := newTop(s.keep)
	dots := make([]int32, min(blockRows, max(1, blockBytes/s.stride)))
	for {
		i := int(s.next.Add(1)) - 1
		if i >= len(s.pieces) || ctx.Err() != nil {
			return t
		}
		p := s.pieces[i]
		seg := s.segments[p.slot]
		var only bitmap
		if s.only != nil {
			only = s.only[p.slot]
		}
		for from, to := run(only, seg.dead, p.from, p.to); from < to; from, to = run(only, seg.dead, to, p.to) {
			for ; from < to; from += len(dots) {
				s.block(t, p.slot, from, dots[:min(len(dots), to-from)])
			}
		}
	}
}

// block scans as many rows as dots has place for.
func (s *scan) block(t *top, slot, from int, dots []int32) {
	seg := s.segments[slot]
	s.dots(dots, seg.high[from*s.stride:(from+len(dots))*s.stride], &s.question.high)
	t.floor = max(t.floor, fromOrderedBits(s.floor.Load()))
	floor, off := t.floor, zero*s.question.high.sum
	scales := seg.scales[from : from+len(dots)]
	for i, d := range dots {
		if score := float32(d-off) * scales[i]; score >= floor {
			t.offer(candidate{score, int32(slot), int32(from + i)})
			floor = t.floor
		}
	}
	s.raise(floor)
}

// raise tells the others what a candidate must reach.
func (s *scan) raise(floor float32) {
	for b := orderedBits(floor); ; {
		old := s.floor.Load()
		if b <= old || s.floor.CompareAndSwap(old, b) {
			return
		}
	}
}

// orderedBits are a number's bits, turned so that they order as the numbers do.
func orderedBits(f float32) uint32 {
	b := math.Float32bits(f)
	if b>>31 == 1 {
		return ^b
	}
	return b | 1<<31
}

func fromOrderedBits(b uint32) float32 {
	if b>>31 == 1 {
		return math.Float32frombits(b &^ (1 << 31))
	}
	return math.Float32frombits(^b)
}
