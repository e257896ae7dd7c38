package llama

// #include "core_shim.h"
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"unsafe"
)

// Rotation moves saved sequence states to other positions, as Memory.Shift does for cells. RoPE turns pairs of a key's elements
// by angles in proportion to its position (Su et al. 2021, "RoFormer"), so a key of position p becomes one of position p+d when
// it is turned by d angles more. Shift does that for every cell of the cache; a Rotation only for the tokens of a state.
//
// It is plain Go memory, safe for concurrent use, and may outlive the model.
type Rotation struct {
	neox   bool        // pairs are (i, i+rot/2) of a head; otherwise (2i, 2i+1)
	head   int         // elements of a head
	rot    int         // of them, those that turn, from the first on
	angles [][]float64 // of each layer, of each pair of a head: what one position turns it by
}

// NewRotation learns the angles from llama.cpp itself: it shifts keys that are known by one position, in a small context of its
// own. So whatever scales them (frequency factors, a base of its own for some layers) is in them. ErrUnsupported means that the
// model's memory cannot be moved in this way.
func NewRotation(m *Model) (*Rotation, error) {
	const op = "learn rotation"
	f := &m.facts
	r := &Rotation{neox: f.RopeType == "neox", head: m.headDim}
	switch {
	case f.RopeType != "neox" && f.RopeType != "norm":
		return nil, fail(op, ErrUnsupported, "positions of the kind %q", f.RopeType)
	case f.Recurrent || f.Hybrid || f.SlidingWindow > 0 || !f.HasDecoder || f.HasEncoder:
		return nil, fail(op, ErrUnsupported, "only plain attention can be moved")
	}
	if r.rot = r.head; r.head == 0 || r.head > 4096 || r.head%2 != 0 {
		return nil, fail(op, ErrUnsupported, "the size of its heads is unknown")
	}
	if text, ok := m.Meta(f.Architecture + ".rope.dimension_count"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 || n > r.head || n%2 != 0 {
			return nil, fail(op, ErrUnsupported, "%s of a head's %d elements turn", text, r.head)
		}
		r.rot = n
	}
	return r, r.learn(m)
}

func (r *Rotation) learn(m *Model) (err error) {
	p := DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences, p.Threads, p.BatchThreads = 32, 8, 8, 1, 1, 1
	p.CacheTypeK, p.CacheTypeV, p.FlashAttention = CacheF32, CacheF32, FlashOff
	c, err := NewContext(m, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b, err := NewBatch(1, 1)
	if err != nil {
		return err
	}
	defer b.Close()
	step := func(position int) error {
		b.Clear()
		return errors.Join(b.Add(0, position, true, 0), c.Decode(context.Background(), b))
	}
	if err := step(0); err != nil {
		return err
	}
	state, err := c.SequenceState(nil, 0, 0)
	if err != nil {
		return err
	}
	known, err := parseState(state)
	if err != nil {
		return err
	}
	for _, k := range known.keys {
		for i := range k.elements {
			value := float32(0)
			if first, _ := r.pair(i); first {
				value = 1
			}
			binary.LittleEndian.PutUint32(k.data[4*i:], math.Float32bits(value))
		}
	}
	if err := errors.Join(c.SetSequenceState(state, 0, 0), c.Memory().Shift(0, 0, -1, 1)); err != nil {
		return err
	}
	if err := step(2); err != nil { // applies the shift
		return err
	}
	if state, err = c.SequenceState(state[:0], 0, 0); err != nil {
		return err
	}
	moved, err := parseState(state)
	if err != nil {
		return err
	}
	for _, k := range moved.keys {
		at := func(i int) float64 { // of the token that was moved; it is the first cell
			return float64(math.Float32frombits(binary.LittleEndian.Uint32(k.data[4*i:])))
		}
		angles := make([]float64, r.rot/2)
		for i := range k.elements {
			first, pair := r.pair(i)
			if !first {
				continue
			}
			other := i + 1
			if r.neox {
				other = i + r.rot/2
			}
			x, y := at(i), at(other)
			angle := math.Atan2(y, x)
			if math.Abs(math.Hypot(x, y)-1) > 1e-3 || i >= r.head && math.Abs(angle-angles[pair]) > 1e-6 {
				return fail("learn rotation", ErrUnsupported, "its keys do more than turn")
			}
			angles[pair] = angle
		}
		r.angles = append(r.angles, angles)
	}
	return nil
}

// pair tells whether an element of a row is the first of a pair, and of which.
func (r *Rotation) pair(element int) (first bool, pair int) {
	i := element % r.head
	switch {
	case i >= r.rot:
		return false, 0
	case r.neox:
		return i < r.rot/2, i % (r.rot / 2)
	default:
		return i%2 == 0, i / 2
	}
}

// Move shifts the positions of a state that SequenceState returned by delta, in place. Keys must be F16 or F32.
func (r *Rotation) Move(state []byte, delta int) error {
	const op = "move state"
	s, err := parseState(state)
	if err != nil {
		return err
	}
	if len(s.keys) != len(r.angles) {
		return fail(op, ErrWrongState, "a state of %d layers; the model has %d", len(s.keys), len(r.angles))
	}
	for _, at := range s.positions {
		p := int(int32(binary.LittleEndian.Uint32(state[at:]))) + delta
		if p < 0 || p > maxPos {
			return fail(op, ErrInvalid, "position %d", p)
		}
	}
	turn := make([]float32, r.rot)
	for layer, k := range s.keys {
		if k.elements%r.head != 0 || k.kind != CacheF16 && k.kind != CacheF32 {
			return fail(op, ErrUnsupported, "keys of type %d with %d elements", k.kind, k.elements)
		}
		for i, angle := range r.angles[layer] {
			sin, cos := math.Sincos(math.Mod(angle*float64(delta), 2*math.Pi))
			turn[2*i], turn[2*i+1] = float32(cos), float32(sin)
		}
		rows := len(k.data) / k.size()
		C.core_rotate(unsafe.Pointer(&k.data[0]), C.bool(k.kind == CacheF16), C.size_t(rows*k.elements/r.head),
			C.size_t(r.head), C.size_t(r.rot), C.bool(r.neox), (*C.float)(&turn[0]))
	}
	for _, at := range s.positions {
		binary.LittleEndian.PutUint32(state[at:], binary.LittleEndian.Uint32(state[at:])+uint32(int32(delta)))
	}
	return nil
}

// parsedState says where in a state's bytes things lie, as llama_kv_cache::state_write of the pinned release puts them there.
type parsedState struct {
	positions []int // offsets of the cells' positions
	keys      []stateKeys
}

// stateKeys are the keys of one layer, a row a cell.
type stateKeys struct {
	kind     CacheType
	elements int // of a row
	data     []byte
}

func (k stateKeys) size() int {
	if k.kind == CacheF16 {
		return 2 * k.elements
	}
	return 4 * k.elements
}

// parseState finds positions and keys of a state of one sequence, and makes sure that nothing else is in it than a plain cache
// of F16 or F32 keys.
func parseState(state []byte) (*parsedState, error) {
	const op = "read state"
	bad := func() (*parsedState, error) {
		return nil, fail(op, ErrUnsupported, "it is not that of a plain KV cache")
	}
	at := stateHeader
	ok := true
	word := func() (v int) {
		if ok = ok && at+4 <= len(state); ok {
			v = int(int32(binary.LittleEndian.Uint32(state[at:])))
		}
		at += 4
		return v
	}
	long := func() int { lo, hi := word(), word(); ok = ok && hi == 0 && lo >= 0; return lo }
	word() // llama.cpp's magic number
	word() // the sequence it was of
	streams, cells := word(), word()
	if !ok || streams != 1 || cells <= 0 || cells > len(state)/12 {
		return bad()
	}
	s := &parsedState{positions: make([]int, cells)}
	for i := range s.positions {
		s.positions[i] = at
		word()
		if n := word(); n != 1 {
			return bad()
		}
		word() // the sequence
	}
	transposed, layers := word(), word()
	if !ok || transposed < 0 || transposed > 1 || layers <= 0 || layers > len(state)/12 {
		return bad()
	}
	skip := func(n int) []byte {
		if ok = ok && n >= 0 && at+n <= len(state); !ok {
			return nil
		}
		at += n
		return state[at-n : at]
	}
	for range layers {
		k := stateKeys{kind: CacheType(word())}
		row := long()
		switch k.kind {
		case CacheF16:
			k.elements = row / 2
		case CacheF32:
			k.elements = row / 4
		default:
			return bad()
		}
		if k.data = skip(row * cells); !ok || k.elements == 0 {
			return bad()
		}
		s.keys = append(s.keys, k)
	}
	for range layers {
		word() // the values' type
		if transposed == 1 {
			size, elements := word(), word()
			skip(size * elements * cells)
		} else {
			skip(long() * cells)
		}
	}
	if !ok || at != len(state) {
		return bad()
	}
	return s, nil
}
