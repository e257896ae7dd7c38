package models

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"

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
	DType   string    `json:"dtype"`
	Shape   []uint64  `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

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

// readSafetensors reads the header and checks every tensor against the size of the file.
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
	for name, text := range raw {
		if name == "__metadata__" {
			continue
		}
		var e tensorEntry
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, bad("tensor %q: %v", name, err)
		}
		if e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > data {
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
			if elements*width != e.Offsets[1]-e.Offsets[0] {
				return nil, bad("tensor %q: %v of %s do not fill %d bytes", name, e.Shape, e.DType, e.Offsets[1]-e.Offsets[0])
			}
		}
		s.tensors[name] = e
	}
	return s, nil
}

var dtypeWidth = map[string]uint64{"F32": 4, "F16": 2, "BF16": 2}

// floats reads a tensor as float32, whatever of the three float formats it is in.
func (s *safetensors) floats(name string) ([]float32, []uint64, error) {
	e, ok := s.tensors[name]
	if !ok {
		return nil, nil, fmt.Errorf("%w: the tensor %q is missing", ErrInvalidFile, name)
	}
	width, ok := dtypeWidth[e.DType]
	if !ok {
		return nil, nil, fmt.Errorf("%w: the tensor %q is in %s; F32, F16 and BF16 are known", ErrUnsupported, name, e.DType)
	}
	data := make([]byte, e.Offsets[1]-e.Offsets[0])
	if _, err := s.file.ReadAt(data, s.start+int64(e.Offsets[0])); err != nil {
		return nil, nil, fmt.Errorf("read tensor %q: %w", name, err)
	}
	out := make([]float32, uint64(len(data))/width)
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
	return out, e.Shape, nil
}

func (s *safetensors) close() { s.file.Close() }
