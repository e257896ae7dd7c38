package llama

// #include "ggml.h"
import "C"

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"strings"
)

// GGUF is the header of a GGUF file: metadata and the list of tensors, not their data.
//
// It is read here in Go, strictly, before llama.cpp sees a file: each length, count, type and offset is held against
// the file's size, so that reading costs no more memory than the header has bytes.
type GGUF struct {
	Version   uint32
	Alignment uint64
	// Meta holds scalars as bool, int64, uint64, float64 or string, and arrays as GGUFArray.
	Meta    map[string]any
	Tensors []GGUFTensor
	// Data is where the tensors' data begins, in bytes from the start of the file.
	Data uint64
}

// GGUFArray describes an array of the metadata. Values holds the numbers of short numeric arrays (at most 4096).
type GGUFArray struct {
	Type   GGUFType
	Len    uint64
	Values []float64

	twice string // the first string that occurs a second time, of the arrays where that matters
}

// ggufTokens is the vocabulary, on whose repetitions llama.cpp aborts.
const ggufTokens = "tokenizer.ggml.tokens"

// GGUFTensor describes a tensor. Shape starts with the row length; Offset counts from GGUF.Data; Size is in bytes.
type GGUFTensor struct {
	Name   string
	Type   uint32 // ggml_type
	Shape  []uint64
	Offset uint64
	Size   uint64
}

// GGUFType is the type of a metadata value.
type GGUFType uint32

// The types of metadata values.
const (
	GGUFUint8 GGUFType = iota
	GGUFInt8
	GGUFUint16
	GGUFInt16
	GGUFUint32
	GGUFInt32
	GGUFFloat32
	GGUFBool
	GGUFString
	GGUFArrayType
	GGUFUint64
	GGUFInt64
	GGUFFloat64
)

var ggufTypeSize = [...]uint64{
	GGUFUint8: 1, GGUFInt8: 1, GGUFUint16: 2, GGUFInt16: 2, GGUFUint32: 4, GGUFInt32: 4, GGUFFloat32: 4, GGUFBool: 1,
	GGUFString: 8, GGUFArrayType: 0, GGUFUint64: 8, GGUFInt64: 8, GGUFFloat64: 8, // a string is at least its length
}

// Limits beyond which no real file goes; llama.cpp's work on some of them grows with the square.
const (
	ggufMaxKeys    = 1 << 16
	ggufMaxTensors = 1 << 17
	ggufMaxName    = 63 // bytes of a tensor's name
	ggufMaxValues  = 4096
)

// ReadGGUFFile reads the header of the file at path.
func ReadGGUFFile(path string) (*GGUF, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fail("read "+path, ErrNotGGUF, "not a regular file")
	}
	g, err := ReadGGUF(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// ReadGGUF reads a header from r, whose whole content is size bytes long. Errors are ErrNotGGUF, ErrTruncated,
// ErrCorrupt, or those of r.
func ReadGGUF(r io.Reader, size int64) (*GGUF, error) {
	d := &ggufReader{r: bufio.NewReaderSize(r, 1<<16), left: uint64(max(size, 0)), size: uint64(max(size, 0))}
	g := d.read()
	if d.err != nil {
		return nil, d.err
	}
	return g, nil
}

// ggufReader reads little-endian values until the first error, which stays.
type ggufReader struct {
	r    *bufio.Reader
	left uint64 // bytes not read yet
	size uint64
	buf  [8]byte
	err  error
}

func (d *ggufReader) fail(kind error, format string, args ...any) {
	if d.err == nil {
		d.err = fail("read header", kind, format, args...)
	}
}

func (d *ggufReader) bytes(n uint64) []byte {
	clear(d.buf[:])
	if d.err != nil {
		return d.buf[:n]
	}
	if n > d.left {
		d.fail(ErrTruncated, "the header goes on past the end of the file, %d bytes", d.size)
		return d.buf[:n]
	}
	if _, err := io.ReadFull(d.r, d.buf[:n]); err != nil {
		d.readError(err)
	}
	d.left -= n
	return d.buf[:n]
}

func (d *ggufReader) readError(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.fail(ErrTruncated, "the file ends early")
	} else if d.err == nil {
		d.err = err
	}
}

func (d *ggufReader) u32() uint32 { return binary.LittleEndian.Uint32(d.bytes(4)) }
func (d *ggufReader) u64() uint64 { return binary.LittleEndian.Uint64(d.bytes(8)) }

func (d *ggufReader) skip(n uint64) {
	if d.err != nil {
		return
	}
	if n > d.left {
		d.fail(ErrTruncated, "the header goes on past the end of the file, %d bytes", d.size)
		return
	}
	d.left -= n
	for n > 0 && d.err == nil {
		k, err := d.r.Discard(int(min(n, 1<<30)))
		if err != nil {
			d.readError(err)
		}
		n -= uint64(k)
	}
}

func (d *ggufReader) text(what string, limit uint64) string {
	n := d.u64()
	if d.err != nil {
		return ""
	}
	if n > d.left {
		d.fail(ErrTruncated, "%s of %d bytes goes past the end of the file", what, n)
		return ""
	}
	if n > limit {
		d.fail(ErrCorrupt, "%s has %d bytes", what, n)
		return ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.readError(err)
	}
	d.left -= n
	return string(b)
}

func (d *ggufReader) read() *GGUF {
	if d.left < 4 {
		d.fail(ErrNotGGUF, "it has %d bytes", d.size)
		return nil
	}
	if magic := string(d.bytes(4)); magic != "GGUF" {
		d.fail(ErrNotGGUF, "it starts with %q", magic)
		return nil
	}
	g := &GGUF{Version: d.u32(), Alignment: 32, Meta: map[string]any{}}
	tensors, keys := d.u64(), d.u64()
	switch {
	case d.err != nil:
		return nil
	case g.Version < 2 || g.Version > 3:
		d.fail(ErrCorrupt, "GGUF version %d; 2 and 3 can be read", g.Version)
		return nil
	case keys > ggufMaxKeys || tensors > ggufMaxTensors:
		d.fail(ErrCorrupt, "%d keys and %d tensors", keys, tensors)
		return nil
	}
	for range keys {
		key := d.text("a key", 1<<16-1)
		if d.err != nil {
			return nil
		}
		if key == "" {
			d.fail(ErrCorrupt, "an empty key")
		}
		if _, twice := g.Meta[key]; twice {
			d.fail(ErrCorrupt, "key %.64q twice", key)
		}
		g.Meta[key] = d.value(key)
		if d.err != nil {
			return nil
		}
	}
	if v, ok := g.Meta["general.alignment"]; ok {
		n, _ := v.(uint64)
		if n == 0 || n > 1<<20 || bits.OnesCount64(n) != 1 {
			d.fail(ErrCorrupt, "general.alignment must be a power of two, not %d", n)
			return nil
		}
		g.Alignment = n
	}
	names := map[string]struct{}{}
	var end uint64
	for range tensors {
		t := d.tensor(g, end)
		if d.err != nil {
			return nil
		}
		if _, twice := names[t.Name]; twice {
			d.fail(ErrCorrupt, "tensor %.64q twice", t.Name)
			return nil
		}
		names[t.Name] = struct{}{}
		g.Tensors = append(g.Tensors, t)
		end = t.Offset + pad(t.Size, g.Alignment)
	}
	g.Data = pad(d.size-d.left, g.Alignment)
	if n := len(g.Tensors); n > 0 {
		last := g.Tensors[n-1]
		if need := g.Data + last.Offset + last.Size; need > d.size {
			d.fail(ErrTruncated, "the tensors need %d bytes, the file has %d", need, d.size)
			return nil
		}
	}
	return g
}

func (d *ggufReader) value(key string) any {
	t := GGUFType(d.u32())
	if key == "general.alignment" && t != GGUFUint32 { // llama.cpp aborts on some others
		d.fail(ErrCorrupt, "general.alignment must be a uint32, not of type %d", t)
		return nil
	}
	if t != GGUFArrayType {
		return d.scalar(key, t)
	}
	item, n := GGUFType(d.u32()), d.u64()
	if d.err != nil {
		return nil
	}
	if item == GGUFArrayType || int(item) >= len(ggufTypeSize) {
		d.fail(ErrCorrupt, "key %.64q: array of type %d", key, item)
		return nil
	}
	if n > d.left/ggufTypeSize[item] {
		d.fail(ErrTruncated, "key %.64q: array of %d items goes past the end of the file", key, n)
		return nil
	}
	a := GGUFArray{Type: item, Len: n}
	switch {
	case item == GGUFString && key == ggufTokens:
		seen := make(map[string]struct{}, min(n, 1<<18))
		for range n {
			token := d.text("a token", 1<<16)
			if d.err != nil {
				return nil
			}
			token, _, _ = strings.Cut(token, "\x00") // as far as llama.cpp reads it
			if _, twice := seen[token]; twice && token != "" && a.twice == "" {
				a.twice = token
			}
			seen[token] = struct{}{}
		}
	case item == GGUFString:
		for range n {
			d.skip(d.u64())
			if d.err != nil {
				return nil
			}
		}
	case n <= ggufMaxValues:
		a.Values = make([]float64, n)
		for i := range a.Values {
			a.Values[i] = number(d.scalar(key, item))
		}
	default:
		d.skip(n * ggufTypeSize[item])
	}
	return a
}

func (d *ggufReader) scalar(key string, t GGUFType) any {
	switch t {
	case GGUFString:
		return d.text("a value", 1<<30)
	case GGUFBool:
		return d.bytes(1)[0] != 0
	case GGUFUint8:
		return uint64(d.bytes(1)[0])
	case GGUFInt8:
		return int64(int8(d.bytes(1)[0]))
	case GGUFUint16:
		return uint64(binary.LittleEndian.Uint16(d.bytes(2)))
	case GGUFInt16:
		return int64(int16(binary.LittleEndian.Uint16(d.bytes(2))))
	case GGUFUint32:
		return uint64(d.u32())
	case GGUFInt32:
		return int64(int32(d.u32()))
	case GGUFUint64:
		return d.u64()
	case GGUFInt64:
		return int64(d.u64())
	case GGUFFloat32:
		return float64(math.Float32frombits(d.u32()))
	case GGUFFloat64:
		return math.Float64frombits(d.u64())
	}
	d.fail(ErrCorrupt, "key %.64q: unknown type %d", key, t)
	return nil
}

func (d *ggufReader) tensor(g *GGUF, end uint64) GGUFTensor {
	t := GGUFTensor{Name: d.text("a tensor's name", ggufMaxName)}
	dims := d.u32()
	if d.err == nil && (dims < 1 || dims > 4) {
		d.fail(ErrCorrupt, "tensor %.64q has %d dimensions", t.Name, dims)
	}
	if d.err != nil {
		return t
	}
	elements := uint64(1)
	for range dims {
		n := d.u64()
		hi, lo := bits.Mul64(elements, n)
		if n == 0 || hi != 0 || lo > math.MaxInt64/16 {
			d.fail(ErrCorrupt, "tensor %.64q has a dimension of %d", t.Name, n)
			return t
		}
		elements = lo
		t.Shape = append(t.Shape, n)
	}
	t.Type, t.Offset = d.u32(), d.u64()
	if d.err != nil {
		return t
	}
	if t.Type >= C.GGML_TYPE_COUNT {
		d.fail(ErrCorrupt, "tensor %.64q has type %d", t.Name, t.Type)
		return t
	}
	block, size := uint64(C.ggml_blck_size(t.Type)), uint64(C.ggml_type_size(t.Type))
	if block == 0 || size == 0 || t.Shape[0]%block != 0 {
		d.fail(ErrCorrupt, "tensor %.64q: rows of %d are not whole blocks of type %d", t.Name, t.Shape[0], t.Type)
		return t
	}
	hi, lo := bits.Mul64(elements/block, size)
	if hi != 0 || lo > math.MaxInt64/2 {
		d.fail(ErrCorrupt, "tensor %.64q has %d elements", t.Name, elements)
		return t
	}
	t.Size = lo
	if t.Offset != end {
		d.fail(ErrCorrupt, "tensor %.64q lies at %d, not at %d where the one before it ends", t.Name, t.Offset, end)
		return t
	}
	if t.Size > d.size {
		d.fail(ErrTruncated, "tensor %.64q has %d bytes, the file %d", t.Name, t.Size, d.size)
	}
	return t
}

func pad(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

// number turns a scalar of the metadata into a float; 0 for what is none.
func number(v any) float64 {
	switch v := v.(type) {
	case uint64:
		return float64(v)
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}
