package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// FileType is a quantization of a whole file.
type FileType int

var fileTypes = map[string]FileType{
	"F32": C.LLAMA_FTYPE_ALL_F32, "F16": C.LLAMA_FTYPE_MOSTLY_F16, "BF16": C.LLAMA_FTYPE_MOSTLY_BF16,
	"Q8_0": C.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": C.LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_1": C.LLAMA_FTYPE_MOSTLY_Q4_1,
	"Q5_0": C.LLAMA_FTYPE_MOSTLY_Q5_0, "Q5_1": C.LLAMA_FTYPE_MOSTLY_Q5_1,
	"Q2_K": C.LLAMA_FTYPE_MOSTLY_Q2_K, "Q2_K_S": C.LLAMA_FTYPE_MOSTLY_Q2_K_S,
	"Q3_K_S": C.LLAMA_FTYPE_MOSTLY_Q3_K_S, "Q3_K_M": C.LLAMA_FTYPE_MOSTLY_Q3_K_M, "Q3_K_L": C.LLAMA_FTYPE_MOSTLY_Q3_K_L,
	"Q4_K_S": C.LLAMA_FTYPE_MOSTLY_Q4_K_S, "Q4_K_M": C.LLAMA_FTYPE_MOSTLY_Q4_K_M,
	"Q5_K_S": C.LLAMA_FTYPE_MOSTLY_Q5_K_S, "Q5_K_M": C.LLAMA_FTYPE_MOSTLY_Q5_K_M, "Q6_K": C.LLAMA_FTYPE_MOSTLY_Q6_K,
	"IQ4_NL": C.LLAMA_FTYPE_MOSTLY_IQ4_NL, "IQ4_XS": C.LLAMA_FTYPE_MOSTLY_IQ4_XS,
	"IQ3_S": C.LLAMA_FTYPE_MOSTLY_IQ3_S, "IQ3_M": C.LLAMA_FTYPE_MOSTLY_IQ3_M,
	"TQ1_0": C.LLAMA_FTYPE_MOSTLY_TQ1_0, "TQ2_0": C.LLAMA_FTYPE_MOSTLY_TQ2_0,
}

// FileTypes lists the names that ParseFileType knows: the quantizations that need no importance matrix.
func FileTypes() []string {
	names := make([]string, 0, len(fileTypes))
	for name := range fileTypes {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// ParseFileType finds a quantization by name, such as Q4_K_M, in either case.
func ParseFileType(name string) (FileType, error) {
	t, ok := fileTypes[strings.ToUpper(name)]
	if !ok {
		return 0, fail("quantize", ErrInvalid, "there is no quantization %q; known are %s", name, strings.Join(FileTypes(), ", "))
	}
	return t, nil
}

// QuantizeParams says how to quantize a file.
type QuantizeParams struct {
	Type          FileType
	Threads       int  // 0 is one per processor
	Requantize    bool // allow input that is quantized already; costs quality
	KeepOutput    bool // leave the output tensor as it is
	Pure          bool // the same format for all tensors, not more bits for the delicate ones
	CopyOnly      bool // copy, changing nothing
	DryRun        bool // compute sizes, which llama.cpp logs, and write nothing
	MaxBufferSize uint64
	PruneLayers   []int // layers to leave out: a smaller model of the same vocabulary, and a much worse one
}

// Quantize writes the model file in as out with other number formats. It runs for seconds to hours in one call into C:
// it reports no progress and cannot be stopped. out appears whole or not at all; with DryRun it is not touched and may
// be empty.
func Quantize(in, out string, p QuantizeParams) error {
	const op = "quantize"
	if err := ready(); err != nil {
		return err
	}
	if _, err := checkModelFile(in); err != nil {
		return err
	}
	if !p.CopyOnly && !slices.Contains(knownTypes(), p.Type) {
		return fail(op, ErrInvalid, "file type %d", p.Type)
	}
	c := C.llama_model_quantize_default_params()
	c.ftype = C.enum_llama_ftype(p.Type)
	c.nthread = C.int32_t(max(0, min(p.Threads, C.GGML_MAX_N_THREADS)))
	c.allow_requantize = C.bool(p.Requantize)
	c.quantize_output_tensor = C.bool(!p.KeepOutput)
	c.pure = C.bool(p.Pure)
	c.only_copy = C.bool(p.CopyOnly)
	c.dry_run = C.bool(p.DryRun)
	c.max_buf_size = C.size_t(p.MaxBufferSize)

	if len(p.PruneLayers) > 0 {
		prune, err := pruneList(p.PruneLayers)
		if err != nil {
			return err
		}
		defer C.free(unsafe.Pointer(prune))
		c.prune_layers = prune
	}

	part := out + ".part"
	if p.DryRun {
		part = filepath.Join(os.TempDir(), "unused.gguf")
	} else {
		defer os.Remove(part)
	}
	cin, cout := C.CString(in), C.CString(part)
	defer C.free(unsafe.Pointer(cin))
	defer C.free(unsafe.Pointer(cout))
	var e C.core_err
	if !C.core_quantize(cin, cout, &c, &e) {
		return cFailure(op, 0, &e, ErrInvalid)
	}
	if p.DryRun {
		return nil
	}
	return os.Rename(part, out)
}

// pruneList is a list of layers on the C heap, as llama.cpp reads it: the lowest first, -1 at the end.
func pruneList(layers []int) (*C.int32_t, error) {
	layers = slices.Sorted(slices.Values(layers))
	if layers[0] < 0 || layers[len(layers)-1] > 1<<16 {
		return nil, fail("quantize", ErrInvalid, "layers %v", layers)
	}
	list := (*C.int32_t)(C.calloc(C.size_t(len(layers)+1), C.size_t(unsafe.Sizeof(C.int32_t(0)))))
	if list == nil {
		return nil, fail("quantize", ErrNoMemory, "%d layers", len(layers))
	}
	view := unsafe.Slice(list, len(layers)+1)
	for i, l := range layers {
		view[i] = C.int32_t(l)
	}
	view[len(layers)] = -1
	return list, nil
}

func knownTypes() []FileType {
	types := make([]FileType, 0, len(fileTypes))
	for _, t := range fileTypes {
		types = append(types, t)
	}
	return types
}
