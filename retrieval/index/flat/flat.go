package flat

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Index implements index.Index.
type Index struct {
	dimensions, stride int
	dots               kernel
	idle               atomic.Int32 // processors that no search has taken
	current            atomic.Pointer[snapshot]

	mu   sync.Mutex // held by the Put that runs
	tail int        // the slot of the segment that is being filled; none: -1
	free []int      // slots without a segment
}

// snapshot is all that a search sees. It never changes.
type snapshot struct {
	segments  []*segment // nil in free slots
	documents documents
	passages  int
}

// New returns an empty index for vectors of this many dimensions.
func New(dimensions int) (*Index, error) { return newIndex(dimensions, kernels()[0].dots) }

func newIndex(dimensions int, dots kernel) (*Index, error) {
	if dimensions < 1 || dimensions > maxDimensions {
		return nil, fmt.Errorf("index: %d dimensions, of 1 to %d", dimensions, maxDimensions)
	}
	x := &Index{dimensions: dimensions, stride: stride(dimensions), dots: dots, tail: -1}
	x.idle.Store(int32(runtime.GOMAXPROCS(0)))
	x.current.Store(&snapshot{documents: newDocuments()})
	return x, nil
}

// Len implements index.Index.
func (x *Index) Len() int { return x.current.Load().passages }

// Put implements index.Index. It takes as long as its own passages and at most a few segments that it moves.
func (x *Index) Put(_ context.Context, document string, passages []string, vectors [][]float32) error {
	if len(passages) != len(vectors) {
		return fmt.Errorf("index: %d vectors of %d passages", len(vectors), len(passages))
	}
	sizes := make([]float64, len(vectors))
	for i, v := range vectors {
		if len(v) != x.dimensions {
			return fmt.Errorf("index: passage %s has %d dimensions, not %d", passages[i], len(v), x.dimensions)
		}
		var err error
		if sizes[i], err = largest(v); err != nil {
			return fmt.Errorf("passage %s: %w", passages[i], err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.edit()
	if old, ok := e.documents.find(document); ok {
		e.kill(old)
		e.documents = e.documents.with(document, nil)
	}
	if n := len(passages); n > 0 {
		at := e.place(document, n)
		s := e.segments[at.slot]
		for i, v := range vectors {
			row := int(at.from) + i
			from, to := row*x.stride, (row+1)*x.stride
			s.scales[row] = encode(v, sizes[i], s.high[from:to], s.low[from:to])
			s.passages[row] = passages[i]
		}
	}
	e.compact()
	x.current.Store(&e.snapshot)
	return nil
}

// edit is a snapshot in the making, under Index.mu.
type edit struct {
	*Index
	snapshot
	sparse []int // slots of segments that may be worth moving
}

func (x *Index) edit() *edit {
	e := &edit{Index: x, snapshot: *x.current.Load()}
	e.segments = slices.Clone(e.segments)
	return e
}

// place finds rows for a document, which the caller writes. Searches don't see them before the snapshot is published.
func (e *edit) place(document string, n int) place {
	slot := e.tail
	switch {
	case n >= alone:
		slot = e.open(n)
	case slot < 0 || e.segments[slot].used+n > e.segments[slot].capacity():
		if slot >= 0 {
			e.sparse = append(e.sparse, slot) // nothing may ever be deleted from it any more
		}
		slot = e.open(segmentRows)
		e.tail = slot
	}
	s := *e.segments[slot]
	at := place{int32(slot), int32(s.used), int32(n)}
	s.used += n
	s.alive += n
	s.documents = append(s.documents, document)
	e.segments[slot] = &s
	e.documents = e.documents.with(document, &at)
	e.passages += n
	return at
}

func (e *edit) open(capacity int) int {
	s := newSegment(capacity, e.stride)
	if n := len(e.free); n > 0 {
		slot := e.free[n-1]
		e.free = e.free[:n-1]
		e.segments[slot] = s
		return slot
	}
	e.segments = append(e.segments, s)
	return len(e.segments) - 1
}

// kill marks a document's rows as dead.
func (e *edit) kill(at place) {
	slot, n := int(at.slot), int(at.rows)
	s := *e.segments[slot]
	e.passages -= n
	if s.alive -= n; s.alive == 0 {
		e.release(slot)
		return
	}
	if s.dead = slices.Clone(s.dead); s.dead == nil {
		s.dead = newBitmap(s.capacity())
	}
	s.dead.set(int(at.from), int(at.from)+n)
	e.segments[slot] = &s
	e.sparse = append(e.sparse, slot)
}

// release gives up a segment. Searches that still read it keep it alive.
func (e *edit) release(slot int) {
	e.segments[slot] = nil
	e.free = append(e.free, slot)
	if slot == e.tail {
		e.tail = -1
	}
}

// compact moves the documents of segments that are half dead to the end. Each Put makes at most one segment so by what it
// deletes, and one by filling the next, so there is little to move.
func (e *edit) compact() {
	for len(e.sparse) > 0 {
		slot := e.sparse[len(e.sparse)-1]
		e.sparse = e.sparse[:len(e.sparse)-1]
		s := e.segments[slot]
		if s == nil || slot == e.tail || !s.sparse() {
			continue
		}
		for _, document := range s.documents {
			at, ok := e.documents.find(document)
			if !ok || int(at.slot) != slot {
				continue // deleted, or moved already
			}
			to := e.place(document, int(at.rows))
			e.passages -= int(at.rows) // which place has counted again
			copyRows(e.segments[to.slot].rows, int(to.from), s.rows, int(at.from), int(at.rows), e.stride)
		}
		e.release(slot)
	}
}

func copyRows(to *rows, at int, from *rows, first, n, stride int) {
	copy(to.high[at*stride:], from.high[first*stride:(first+n)*stride])
	copy(to.low[at*stride:], from.low[first*stride:(first+n)*stride])
	copy(to.scales[at:], from.scales[first:first+n])
	copy(to.passages[at:], from.passages[first:first+n])
}
