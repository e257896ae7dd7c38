package models

import (
	"bytes"
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/x448/float16"
)

// encode writes numbers in a format of safetensors.
func encode(dtype string, values ...float32) []byte {
	var out []byte
	for _, f := range values {
		switch dtype {
		case "F32":
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
		case "F16":
			out = binary.LittleEndian.AppendUint16(out, float16.Fromfloat32(f).Bits())
		case "BF16":
			out = binary.LittleEndian.AppendUint16(out, uint16(math.Float32bits(f)>>16))
		}
	}
	return out
}

// safetensorsFile is a header's length, the header and data.
func safetensorsFile(header string, data ...[]byte) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), slices.Concat(data...)...)
}

var smallSafetensors = safetensorsFile(`{"__metadata__":{"format":"pt"},
	"half":{"dtype":"F16","shape":[2,2],"data_offsets":[12,20]},
	"full":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
	"brain":{"dtype":"BF16","shape":[1,3],"data_offsets":[20,26]},
	"scalar":{"dtype":"F32","shape":[],"data_offsets":[26,30]},
	"ids":{"dtype":"I64","shape":[1],"data_offsets":[30,38]},
	"none":{"dtype":"F32","shape":[0,4],"data_offsets":[38,38]}}  `,
	encode("F32", 1.5, -2.25, 1e-30), encode("F16", 0.5, 65504, -1, 6e-8), encode("BF16", 1, -3, 0.5), encode("F32", 7), make([]byte, 8))

func TestSafetensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	write(t, path, smallSafetensors)
	s, err := openSafetensors(path)
	must(t, err)
	defer s.close()
	for name, want := range map[string][]float32{
		"full": {1.5, -2.25, 1e-30}, "half": {0.5, 65504, -1, 5.9604645e-08}, "brain": {1, -3, 0.5}, "scalar": {7}, "none": {},
	} {
		got, err := s.floats(name)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if len(s.tensors) != 6 || !slices.Equal(s.tensors["half"].Shape, []uint64{2, 2}) || s.tensors["ids"].DType != "I64" {
		t.Errorf("tensors %+v", s.tensors)
	}
	if _, err := openSafetensors(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was opened")
	}
	write(t, path, smallSafetensors[:40])
	_, err = openSafetensors(path)
	wantError(t, err, ErrInvalidFile, path)
}

func TestBrokenSafetensors(t *testing.T) {
	tensors := func(list string, data int) []byte { return safetensorsFile("{"+list+"}", make([]byte, data)) }
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                  {nil, "too short"},
		"seven bytes":            {make([]byte, 7), "too short"},
		"header past the end":    {append(binary.LittleEndian.AppendUint64(nil, 3), "{}"...), "3 bytes"},
		"header of 2^64 bytes":   {append(huge, "{}"...), "18446744073709551615 bytes"},
		"header over the limit":  {append(binary.LittleEndian.AppendUint64(nil, maxHeader+1), "{}"...), "bytes"},
		"not JSON":               {safetensorsFile("hello"), "not JSON"},
		"an array":               {safetensorsFile("[]"), "not JSON"},
		"JSON cut off":           {safetensorsFile(`{"a":{"dtype":"F32"`), "not JSON"},
		"a tensor that is none":  {tensors(`"a":7`, 0), `"a"`},
		"negative shape":         {tensors(`"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}`, 4), `"a"`},
		"no offsets":             {tensors(`"a":{"dtype":"F32","shape":[1]}`, 4), "outside the file"},
		"three offsets":          {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}`, 8), "outside the file"},
		"offsets turned":         {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}`, 4), "outside the file"},
		"past the end":           {tensors(`"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`, 7), "outside the file"},
		"far past the end":       {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615]}`, 4), "outside the file"},
		"fewer bytes than shape": {tensors(`"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}`, 20), "do not fill"},
		"more bytes than shape":  {tensors(`"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}`, 8), "do not fill"},
		"wrong size of format":   {tensors(`"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}`, 8), "do not fill"},
		"shape past 2^64":        {tensors(`"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`, 0), "has shape"},
		"overlapping":            {tensors(`"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}`, 12), `"b" begins at byte 4`},
		"the same bytes":         {tensors(`"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`, 8), `"b" begins at byte 0`},
		"a gap":                  {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}`, 12), `"b" begins at byte 8`},
		"bytes before":           {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}`, 8), `"a" begins at byte 4`},
		"bytes behind":           {tensors(`"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, 5), "4 bytes of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readSafetensors(bytes.NewReader(c.file), int64(len(c.file)))
			wantError(t, err, ErrInvalidFile, c.want)
		})
	}
	for n := range smallSafetensors { // wherever it is cut
		if _, err := readSafetensors(bytes.NewReader(smallSafetensors[:n]), int64(n)); err == nil {
			t.Errorf("cut at %d it is read", n)
		}
	}
}

// Whatever the bytes, reading ends with tensors that lie in the file, or with ErrInvalidFile.
func FuzzSafetensors(f *testing.F) {
	f.Add(smallSafetensors)
	f.Add(safetensorsFile(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 4)))
	f.Add(safetensorsFile(`{"a":{"dtype":"F8","shape":[9,9],"data_offsets":[0,0]}}`))
	f.Add(safetensorsFile("{" + strings.Repeat(`"a":`, 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readSafetensors(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			wantError(t, err, ErrInvalidFile)
			return
		}
		sum := uint64(0)
		for name, e := range s.tensors {
			if e.Offsets[1] > uint64(len(data))-uint64(s.start) {
				t.Errorf("%q lies at %v in %d bytes", name, e.Offsets, len(data))
			}
			sum += e.bytes()
		}
		if sum != uint64(int64(len(data))-s.start) {
			t.Errorf("tensors of %d bytes fill %d", sum, int64(len(data))-s.start)
		}
	})
}
