package models

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/x448/float16"
)

// ggufAlignment is where tensors begin in a GGUF file. (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)
const ggufAlignment = 32

// tensorType is ggml's number of a tensor format.
type tensorType uint32

const (
	typeF32  tensorType = 0
	typeF16  tensorType = 1
	typeQ8_0 tensorType = 8
)

// q8Block is how many numbers of a row share a scale in Q8_0.
const q8Block = 32

// ggufFile is what will be written: metadata in order, then tensors in order.
type ggufFile struct {
	keys    []ggufKey
	tensors []ggufTensor
}

type ggufKey struct {
	name  string
	value any // uint32, float32, bool, string, []string or []int32
}

type ggufTensor struct {
	name string
	// shape is innermost first, as ggml counts.
	shape []uint64
	kind  tensorType
	data  func() ([]float32, error)
}

func (g *ggufFile) set(name string, value any) { g.keys = append(g.keys, ggufKey{name, value}) }

func (t *ggufTensor) bytes() uint64 {
	n := uint64(1)
	for _, d := range t.shape {
		n *= d
	}
	switch t.kind {
	case typeF16:
		return 2 * n
	case typeQ8_0:
		return n / q8Block * (2 + q8Block)
	default:
		return 4 * n
	}
}

// write writes the file, version 3, little-endian. done is told how many tensors are written.
func (g *ggufFile) write(w io.Writer, done func(tensors int) error) error {
	out := &ggufWriter{w: bufio.NewWriterSize(w, 1<<20)}
	out.raw([]byte("GGUF"))
	out.u32(3)
	out.u64(uint64(len(g.tensors)))
	out.u64(uint64(len(g.keys)))
	for _, k := range g.keys {
		out.text(k.name)
		out.value(k.value)
	}
	offset := uint64(0)
	for _, t := range g.tensors {
		out.text(t.name)
		out.u32(uint32(len(t.shape)))
		for _, d := range t.shape {
			out.u64(d)
		}
		out.u32(uint32(t.kind))
		out.u64(offset)
		offset += (t.bytes() + ggufAlignment - 1) / ggufAlignment * ggufAlignment
	}
	for i, t := range g.tensors {
		out.align()
		data, err := t.data()
		if err != nil {
			return err
		}
		if !t.kind.holds(data) {
			return fmt.Errorf("%w: the tensor %q holds numbers that are not finite or too large for its format", ErrInvalidFile, t.name)
		}
		out.floats(t.kind, data)
		if out.err != nil {
			return out.err
		}
		if err := done(i + 1); err != nil {
			return err
		}
	}
	out.align()
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.err
}

// holds tells whether the format has all the numbers: they are finite, and no half-precision number in it overflows.
func (k tensorType) holds(data []float32) bool {
	const half = 65504 // the largest half-precision number
	most := map[tensorType]float64{typeF32: math.MaxFloat32, typeF16: half, typeQ8_0: 127 * half}[k]
	for _, f := range data {
		if n := float64(f); math.IsNaN(n) || math.Abs(n) > most {
			return false
		}
	}
	return true
}

// ggufWriter keeps the first error.
type ggufWriter struct {
	w   *bufio.Writer
	n   uint64
	err error
}

func (o *ggufWriter) raw(b []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(b)
		o.n += uint64(len(b))
	}
}

func (o *ggufWriter) u32(v uint32) { o.raw(binary.LittleEndian.AppendUint32(nil, v)) }
func (o *ggufWriter) u64(v uint64) { o.raw(binary.LittleEndian.AppendUint64(nil, v)) }

func (o *ggufWriter) text(s string) {
	o.u64(uint64(len(s)))
	o.raw([]byte(s))
}

func (o *ggufWriter) align() {
	if rest := o.n % ggufAlignment; rest != 0 {
		o.raw(make([]byte, ggufAlignment-rest))
	}
}

// The numbers of GGUF's value types.
const (
	ggufUint32  = 4
	ggufInt32   = 5
	ggufFloat32 = 6
	ggufBool    = 7
	ggufString  = 8
	ggufArray   = 9
)

func (o *ggufWriter) value(v any) {
	switch v := v.(type) {
	case uint32:
		o.u32(ggufUint32)
		o.u32(v)
	case float32:
		o.u32(ggufFloat32)
		o.u32(math.Float32bits(v))
	case bool:
		o.u32(ggufBool)
		b := byte(0)
		if v {
			b = 1
		}
		o.raw([]byte{b})
	case string:
		o.u32(ggufString)
		o.text(v)
	case []string:
		o.u32(ggufArray)
		o.u32(ggufString)
		o.u64(uint64(len(v)))
		for _, s := range v {
			o.text(s)
		}
	case []int32:
		o.u32(ggufArray)
		o.u32(ggufInt32)
		o.u64(uint64(len(v)))
		for _, n := range v {
			o.u32(uint32(n))
		}
	default:
		o.err = fmt.Errorf("gguf: no way to write a %T", v)
	}
}

func (o *ggufWriter) floats(kind tensorType, data []float32) {
	switch kind {
	case typeF16:
		b := make([]byte, 0, 2*len(data))
		for _, f := range data {
			b = binary.LittleEndian.AppendUint16(b, float16.Fromfloat32(f).Bits())
		}
		o.raw(b)
	case typeQ8_0:
		o.raw(quantizeQ8(data))
	default:
		b := make([]byte, 0, 4*len(data))
		for _, f := range data {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
		o.raw(b)
	}
}

// quantizeQ8 writes blocks of 32 numbers: a half-precision scale, then each number as a signed byte of that scale. The length
// of data is a multiple of 32.
func quantizeQ8(data []float32) []byte {
	out := make([]byte, 0, len(data)/q8Block*(2+q8Block))
	for ; len(data) >= q8Block; data = data[q8Block:] {
		block := data[:q8Block]
		most := float32(0)
		for _, f := range block {
			most = max(most, float32(math.Abs(float64(f))))
		}
		scale := most / 127
		inverse := float32(0)
		if scale != 0 {
			inverse = 1 / scale
		}
		out = binary.LittleEndian.AppendUint16(out, float16.Fromfloat32(scale).Bits())
		for _, f := range block {
			out = append(out, byte(int8(math.Round(float64(f*inverse)))))
		}
	}
	return out
}
