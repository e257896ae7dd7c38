package models

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/x448/float16"
)

// maxHeader bounds the JSON header of a safetensors file, as the format's own library does.
const maxHeader = 100 << 20

// safetensors is an open file of tensors. (https://github.com/huggingface/safetensors)
type safetensors struct {
	file    *os.File
	start   int64 // of the data
	tensors map[string]tensorEntry
}

type tensorEntry struct {
	DType   string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offsets []uint64 `json:"data_offsets"` // begin and end, from the start of the data
}

func (e tensorEntry) bytes() uint64 { return e.Offsets[1] - e.Offsets[0] }

func openSafetensors(path string) (*safetensors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var s *safetensors
		if s, err = readSafetensors(f, info.Size()); err == nil {
			s.file = f
			return s, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("%s: %w", path, err)
}

// readSafetensors reads the header and checks every tensor against the size of the file. The tensors fill the data without
// gaps and without sharing a byte, as the format demands.
func readSafetensors(r io.Reader, size int64) (*safetensors, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalidFile, fmt.Sprintf(format, args...))
	}
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, bad("too short for safetensors")
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader || int64(n) > size-8 {
		return nil, bad("its header would have %d bytes", n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, bad("its header is cut off")
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(header, &raw); err != nil {
		return nil, bad("its header is not JSON: %v", err)
	}
	s := &safetensors{start: 8 + int64(n), tensors: map[string]tensorEntry{}}
	data := uint64(size - s.start)
	var names []string
	for name, text := range raw {
		if name == "__metadata__" {
			continue
		}
		var e tensorEntry
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, bad("tensor %q: %v", name, err)
		}
		if len(e.Offsets) != 2 || e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > data {
			return nil, bad("tensor %q lies outside the file", name)
		}
		if width, known := dtypeWidth[e.DType]; known {
			elements := uint64(1)
			for _, d := range e.Shape {
				if d != 0 && elements > math.MaxUint32/d {
					return nil, bad("tensor %q has shape %v", name, e.Shape)
				}
				elements *= d
			}
			if elements*width != e.bytes() {
				return nil, bad("tensor %q: %v of %s do not fill %d bytes", name, e.Shape, e.DType, e.bytes())
			}
		}
		s.tensors[name] = e
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := s.tensors[a].Offsets, s.tensors[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	end := uint64(0)
	for _, name := range names {
		if begin := s.tensors[name].Offsets[0]; begin != end {
			return nil, bad("tensor %q begins at byte %d of the data, where the one before it ends at %d", name, begin, end)
		}
		end = s.tensors[name].Offsets[1]
	}
	if end != data {
		return nil, bad("its tensors fill %d bytes of %d", end, data)
	}
	return s, nil
}

var dtypeWidth = map[string]uint64{"F32": 4, "F16": 2, "BF16": 2}

// floats reads a tensor that is there, in one of the three float formats, as float32.
func (s *safetensors) floats(name string) ([]float32, error) {
	e := s.tensors[name]
	data := make([]byte, e.bytes())
	if _, err := s.file.ReadAt(data, s.start+int64(e.Offsets[0])); err != nil {
		return nil, fmt.Errorf("read tensor %q: %w", name, err)
	}
	out := make([]float32, uint64(len(data))/dtypeWidth[e.DType])
	for i := range out {
		switch e.DType {
		case "F32":
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		case "F16":
			out[i] = float16.Frombits(binary.LittleEndian.Uint16(data[2*i:])).Float32()
		case "BF16":
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	}
	return out, nil
}

func (s *safetensors) close() { s.file.Close() }
