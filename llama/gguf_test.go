package llama

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"testing"
)

// ggufBuilder writes headers, also wrong ones.
type ggufBuilder struct{ bytes.Buffer }

func (b *ggufBuilder) num(values ...any) *ggufBuilder {
	for _, v := range values {
		binary.Write(b, binary.LittleEndian, v)
	}
	return b
}

func (b *ggufBuilder) str(s string) *ggufBuilder {
	b.num(uint64(len(s)))
	b.WriteString(s)
	return b
}

func newGGUF(tensors, keys uint64) *ggufBuilder {
	b := &ggufBuilder{}
	b.WriteString("GGUF")
	return b.num(uint32(3), tensors, keys)
}

func (b *ggufBuilder) key(key string, t GGUFType, value any) *ggufBuilder {
	return b.str(key).num(uint32(t), value)
}

func (b *ggufBuilder) tensor(name string, kind uint32, offset uint64, shape ...uint64) *ggufBuilder {
	return b.str(name).num(uint32(len(shape)), shape, kind, offset)
}

func (b *ggufBuilder) data(n int) []byte {
	b.Write(make([]byte, (32-b.Len()%32)%32+n))
	return b.Bytes()
}

func smallGGUF() []byte {
	b := newGGUF(2, 6)
	b.str("general.architecture").num(uint32(GGUFString)).str("llama")
	b.key("a", GGUFFloat32, float32(1.5)).key("b", GGUFInt8, int8(-3)).key("c", GGUFBool, uint8(1))
	b.str("d").num(uint32(GGUFArrayType), uint32(GGUFUint16), uint64(2), uint16(7), uint16(8))
	b.str("e").num(uint32(GGUFArrayType), uint32(GGUFString), uint64(2)).str("x").str("yy")
	b.tensor("one", 0, 0, 4, 2).tensor("two", 8, 32, 64) // F32 4×2, Q8_0 64
	return b.data(32 + 68)
}

func TestReadGGUF(t *testing.T) {
	data := smallGGUF()
	g, err := ReadGGUF(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	if g.Version != 3 || g.Alignment != 32 || g.Meta["general.architecture"] != "llama" || g.Meta["a"] != 1.5 || g.Meta["b"] != int64(-3) || g.Meta["c"] != true {
		t.Errorf("read %+v", g)
	}
	if d := g.Meta["d"].(GGUFArray); d.Len != 2 || d.Values[1] != 8 {
		t.Errorf("array %+v", d)
	}
	if e := g.Meta["e"].(GGUFArray); e.Len != 2 || e.Type != GGUFString {
		t.Errorf("array %+v", e)
	}
	if len(g.Tensors) != 2 || g.Tensors[0].Size != 32 || g.Tensors[1].Size != 68 || g.Data%32 != 0 {
		t.Errorf("tensors %+v at %d", g.Tensors, g.Data)
	}
	for n := range data { // wherever it is cut, it is an error
		_, err := ReadGGUF(bytes.NewReader(data[:n]), int64(n))
		if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrNotGGUF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if _, err := ReadGGUF(bytes.NewReader(data[:n]), int64(len(data))); err == nil && n < int(g.Data)-32 {
			t.Fatalf("a reader that ends at %d: %v", n, err)
		}
	}
}

func TestReadGGUFRefuses(t *testing.T) {
	huge := uint64(math.MaxUint64)
	tests := map[string]struct {
		data []byte
		want error
	}{
		"version 1":             {(&ggufBuilder{}).raw("GGUF").num(uint32(1), uint64(0), uint64(0)).Bytes(), ErrCorrupt},
		"version 9":             {(&ggufBuilder{}).raw("GGUF").num(uint32(9), uint64(0), uint64(0)).Bytes(), ErrCorrupt},
		"keys":                  {newGGUF(0, huge).Bytes(), ErrCorrupt},
		"tensors":               {newGGUF(huge, 0).Bytes(), ErrCorrupt},
		"length of a key":       {newGGUF(0, 1).num(huge).Bytes(), ErrTruncated},
		"empty key":             {newGGUF(0, 1).key("", GGUFInt8, int8(1)).Bytes(), ErrCorrupt},
		"key twice":             {newGGUF(0, 2).key("a", GGUFInt8, int8(1)).key("a", GGUFInt8, int8(1)).Bytes(), ErrCorrupt},
		"unknown type":          {newGGUF(0, 1).key("a", 77, int8(1)).Bytes(), ErrCorrupt},
		"array of arrays":       {newGGUF(0, 1).str("a").num(uint32(GGUFArrayType), uint32(GGUFArrayType), uint64(1)).Bytes(), ErrCorrupt},
		"array of unknown":      {newGGUF(0, 1).str("a").num(uint32(GGUFArrayType), uint32(99), uint64(1)).Bytes(), ErrCorrupt},
		"array too long":        {newGGUF(0, 1).str("a").num(uint32(GGUFArrayType), uint32(GGUFInt32), huge).Bytes(), ErrTruncated},
		"strings too many":      {newGGUF(0, 1).str("a").num(uint32(GGUFArrayType), uint32(GGUFString), huge/8).Bytes(), ErrTruncated},
		"string too long":       {newGGUF(0, 1).str("a").num(uint32(GGUFString), huge).Bytes(), ErrTruncated},
		"alignment as a string": {newGGUF(0, 1).str("general.alignment").num(uint32(GGUFString)).str("32").Bytes(), ErrCorrupt},
		"alignment as u64":      {newGGUF(0, 1).key("general.alignment", GGUFUint64, uint64(32)).Bytes(), ErrCorrupt},
		"alignment 0":           {newGGUF(0, 1).key("general.alignment", GGUFUint32, uint32(0)).Bytes(), ErrCorrupt},
		"alignment 24":          {newGGUF(0, 1).key("general.alignment", GGUFUint32, uint32(24)).Bytes(), ErrCorrupt},
		"no dimension":          {newGGUF(1, 0).tensor("t", 0, 0).data(0), ErrCorrupt},
		"five dimensions":       {newGGUF(1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).data(4), ErrCorrupt},
		"dimension 0":           {newGGUF(1, 0).tensor("t", 0, 0, 0).data(4), ErrCorrupt},
		"dimensions overflow":   {newGGUF(1, 0).tensor("t", 0, 0, 1<<40, 1<<40).data(4), ErrCorrupt},
		"unknown tensor type":   {newGGUF(1, 0).tensor("t", 5000, 0, 1).data(4), ErrCorrupt},
		"removed tensor type":   {newGGUF(1, 0).tensor("t", 4, 0, 32).data(64), ErrCorrupt},
		"part of a block":       {newGGUF(1, 0).tensor("t", 8, 0, 33).data(64), ErrCorrupt},
		"offset":                {newGGUF(1, 0).tensor("t", 0, 32, 1).data(64), ErrCorrupt},
		"tensor twice":          {newGGUF(2, 0).tensor("t", 0, 0, 1).tensor("t", 0, 32, 1).data(64), ErrCorrupt},
		"long name":             {newGGUF(1, 0).tensor(string(make([]byte, 64)), 0, 0, 1).data(64), ErrCorrupt},
		"data past the end":     {newGGUF(1, 0).tensor("t", 0, 0, 100).data(399), ErrTruncated},
		"data far past the end": {newGGUF(1, 0).tensor("t", 0, 0, 1<<50).data(399), ErrTruncated},
		"text":                  {[]byte("hello, world"), ErrNotGGUF},
		"a ZIP file":            {[]byte("PK\x03\x04........"), ErrNotGGUF},
	}
	for name, test := range tests {
		if _, err := ReadGGUF(bytes.NewReader(test.data), int64(len(test.data))); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (b *ggufBuilder) raw(s string) *ggufBuilder {
	b.WriteString(s)
	return b
}

func TestRealHeaders(t *testing.T) {
	for _, name := range []string{chatModel, rerankModel, loraFile, embedModel} {
		t.Run(name, func(t *testing.T) {
			g, err := ReadGGUFFile(modelFile(t, name))
			must(t, err)
			if len(g.Tensors) == 0 || g.Meta["general.architecture"] == nil {
				t.Errorf("read %d tensors, %v", len(g.Tensors), g.Meta["general.architecture"])
			}
		})
	}
	_, err := ReadGGUFFile("absent")
	wantError(t, err, os.ErrNotExist)
}

func FuzzGGUF(f *testing.F) {
	f.Add(smallGGUF())
	f.Add(newGGUF(0, 1).key("general.alignment", GGUFUint32, uint32(64)).Bytes())
	f.Add(newGGUF(1, 0).tensor("t", 12, 0, 256, 3).data(500))
	f.Add([]byte("GGUF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ReadGGUF(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("an untyped error: %v", err)
			}
			return
		}
		for _, tensor := range g.Tensors {
			if g.Data+tensor.Offset+tensor.Size > uint64(len(data)) {
				t.Errorf("tensor %+v of a file of %d bytes", tensor, len(data))
			}
		}
		_, _ = checkHeader(g)
	})
}
