package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"context"
	"errors"
	"maps"
	"math"
	"runtime/cgo"
	"strings"
	"sync"
	"unsafe"
)

// LoadMode says how weights come into memory.
type LoadMode int

// The load modes.
const (
	LoadAuto      LoadMode = C.LLAMA_LOAD_MODE_AUTO       // what the devices do best
	LoadRead      LoadMode = C.LLAMA_LOAD_MODE_NONE       // read into memory
	LoadMmap      LoadMode = C.LLAMA_LOAD_MODE_MMAP       // map the file: a second load of the same file costs nothing
	LoadMlock     LoadMode = C.LLAMA_LOAD_MODE_MLOCK      // read, and lock into memory
	LoadMmapMlock LoadMode = C.LLAMA_LOAD_MODE_MMAP_MLOCK // map, and lock into memory
	LoadDirect    LoadMode = C.LLAMA_LOAD_MODE_DIRECT_IO  // read past the page cache, where the system can
)

// SplitMode says how a model is spread over several GPUs.
type SplitMode int

// The split modes.
const (
	SplitNone   SplitMode = C.LLAMA_SPLIT_MODE_NONE // one device: MainGPU
	SplitLayer  SplitMode = C.LLAMA_SPLIT_MODE_LAYER
	SplitRow    SplitMode = C.LLAMA_SPLIT_MODE_ROW
	SplitTensor SplitMode = C.LLAMA_SPLIT_MODE_TENSOR
)

// ModelParams says how to load a model. Start from DefaultModelParams.
type ModelParams struct {
	GPULayers       int       // layers on GPUs; negative means all
	Devices         []string  // names from Devices to use, in order; none means all
	Split           SplitMode // over several devices
	MainGPU         int       // the device of SplitNone
	TensorSplit     []float32 // share of each device; none means by free memory
	Load            LoadMode
	VocabOnly       bool // tokenizer and facts, no weights: cannot make a Context
	CheckTensors    bool // look for NaN and Inf in the weights; slow
	UseExtraBuffers bool // let the CPU repack weights into faster layouts (at a cost in memory and without mmap)
	// Progress is called while loading with 0..1, from the loading goroutine.
	Progress func(done float32)
}

// DefaultModelParams are llama.cpp's: everything on the GPU if there is one, mmap, repacking.
func DefaultModelParams() ModelParams {
	d := C.llama_model_default_params()
	return ModelParams{
		GPULayers: int(d.n_gpu_layers), Split: SplitMode(d.split_mode), MainGPU: int(d.main_gpu), Load: LoadMode(d.load_mode),
		UseExtraBuffers: bool(d.use_extra_bufts),
	}
}

// Facts describe a loaded model; they never change.
type Facts struct {
	Description   string // "llama 135M Q4_1" in llama.cpp's words
	Architecture  string
	Name          string // general.name, may be empty
	FileType      string // Q4_1, F16 …
	Parameters    uint64
	SizeBytes     uint64 // of all tensors
	ContextTrain  int    // tokens
	Embedding     int    // floats per token inside the model
	EmbeddingOut  int    // floats per row of embeddings that come out
	Layers        int
	Heads         int
	HeadsKV       int
	SlidingWindow int // tokens, 0 for full attention
	MaxPositions  int // positions beyond it do not exist (learned position embeddings); 0 means no such limit
	RopeType      string
	HasEncoder    bool
	HasDecoder    bool
	DecoderStart  Token // what the decoder of an encoder-decoder model starts with, else NoToken
	Recurrent     bool
	Hybrid        bool
	Diffusion     bool
	ClassLabels   []string // of a classifier or reranker; empty strings where the file names none
	VocabOnly     bool
}

// Model is a model in memory. It is safe for concurrent use. Its owner closes it, after everything made from it.
type Model struct {
	facts Facts
	meta  map[string]string
	vocab *Vocab

	mu       sync.RWMutex // held for reading by users of ptr, for writing by Close
	ptr      *C.struct_llama_model
	children int // open contexts, samplers and adapters; guarded by mu

	headDim int // of K, when the file tells it
}

// Load reads a GGUF file (or the first file of a split one) into memory. Before llama.cpp sees the file it is checked
// here, so a file that is none, cut off or corrupt is a typed error: ErrNotGGUF, ErrTruncated, ErrCorrupt,
// ErrMissingTensor, ErrUnsupportedArch, or an *fs.PathError. When ctx ends, loading stops with ErrAborted.
func Load(ctx context.Context, path string, p ModelParams) (*Model, error) {
	const op = "load model"
	if err := ctx.Err(); err != nil {
		return nil, aborted(ctx, op)
	}
	if err := ready(); err != nil {
		return nil, err
	}
	header, err := checkModelFile(path)
	if err != nil {
		return nil, err
	}
	c := C.llama_model_default_params()
	c.n_gpu_layers = C.int32_t(clampInt32(p.GPULayers))
	c.split_mode = C.enum_llama_split_mode(p.Split)
	c.load_mode = C.enum_llama_load_mode(p.Load)
	c.main_gpu = C.int32_t(clampInt32(p.MainGPU))
	c.vocab_only = C.bool(p.VocabOnly)
	c.check_tensors = C.bool(p.CheckTensors)
	c.use_extra_bufts = C.bool(p.UseExtraBuffers)

	if len(p.Devices) > 0 {
		list, err := deviceList(p.Devices)
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(list))
		c.devices = list
	}
	if len(p.TensorSplit) > 0 {
		n := int(C.llama_max_devices())
		if len(p.TensorSplit) > n {
			return nil, fail(op, ErrInvalid, "tensor split names %d devices; llama.cpp knows at most %d", len(p.TensorSplit), n)
		}
		split := (*C.float)(C.calloc(C.size_t(n), C.size_t(unsafe.Sizeof(C.float(0)))))
		defer C.free(unsafe.Pointer(split))
		for i, f := range p.TensorSplit {
			if f < 0 || math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
				return nil, fail(op, ErrInvalid, "tensor split %v must be finite and not negative", f)
			}
			unsafe.Slice(split, n)[i] = C.float(f)
		}
		c.tensor_split = split
	}

	progress := cgo.NewHandle(&loading{ctx: ctx, progress: p.Progress})
	defer progress.Delete()
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e C.core_err
	var ptr *C.struct_llama_model
	onThread(func() { ptr = C.core_model_load(cpath, c, C.uintptr_t(progress), &e) })
	if ptr == nil {
		if ctx.Err() != nil {
			return nil, aborted(ctx, op)
		}
		return nil, cFailure(op, 0, &e, ErrCorrupt)
	}
	m := &Model{ptr: ptr, headDim: header.headDim}
	m.meta = readMeta(func(i C.int32_t, buf *C.char, n C.size_t) C.int32_t {
		return C.llama_model_meta_key_by_index(ptr, i, buf, n)
	},
		func(i C.int32_t, buf *C.char, n C.size_t) C.int32_t {
			return C.llama_model_meta_val_str_by_index(ptr, i, buf, n)
		},
		int(C.llama_model_meta_count(ptr)))
	m.vocab = newVocab(m)
	m.facts = readFacts(ptr, m.meta, header, p.VocabOnly)
	owners.model.Add(1)
	err = m.vocab.check()
	if header.sections == 0 && strings.Contains(m.facts.RopeType, "mrope") {
		err = fail(op, ErrCorrupt, "its positions are several numbers, of which none rotates a dimension")
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// loading is what the progress callback reaches through its handle.
type loading struct {
	ctx      context.Context
	progress func(float32)
}

//export quipuProgress
func quipuProgress(handle C.uintptr_t, done C.float) (goOn C.bool) {
	// A panic must not unwind into C; it stops the load instead.
	defer func() {
		if recover() != nil {
			goOn = false
		}
	}()
	l := cgo.Handle(handle).Value().(*loading)
	if l.ctx.Err() != nil {
		return false
	}
	if l.progress != nil {
		l.progress(float32(done))
	}
	return true
}

func deviceList(names []string) (*C.ggml_backend_dev_t, error) {
	list := (*C.ggml_backend_dev_t)(C.calloc(C.size_t(len(names)+1), C.size_t(unsafe.Sizeof(C.ggml_backend_dev_t(nil)))))
	for i, name := range names {
		cname := C.CString(name)
		dev := C.ggml_backend_dev_by_name(cname)
		C.free(unsafe.Pointer(cname))
		if dev == nil {
			C.free(unsafe.Pointer(list))
			return nil, fail("load model", ErrInvalid, "there is no device %q", name)
		}
		unsafe.Slice(list, len(names)+1)[i] = dev
	}
	return list, nil
}

// readMeta copies a metadata table. Both functions fill a buffer and return the whole length.
func readMeta(key, value func(i C.int32_t, buf *C.char, n C.size_t) C.int32_t, count int) map[string]string {
	read := func(f func(C.int32_t, *C.char, C.size_t) C.int32_t, i int) string {
		size := 256
		for {
			buf := make([]byte, size)
			n := int(f(C.int32_t(i), (*C.char)(unsafe.Pointer(&buf[0])), C.size_t(size)))
			if n < 0 {
				return ""
			}
			if n < size {
				return string(buf[:n])
			}
			size = n + 1
		}
	}
	meta := make(map[string]string, count)
	for i := range count {
		meta[read(key, i)] = read(value, i)
	}
	return meta
}

func readFacts(ptr *C.struct_llama_model, meta map[string]string, header *modelHeader, vocabOnly bool) Facts {
	var desc [256]C.char
	C.llama_model_desc(ptr, &desc[0], C.size_t(len(desc)))
	f := Facts{
		Description:  C.GoString(&desc[0]),
		Architecture: header.arch,
		Name:         meta["general.name"],
		FileType:     C.GoString(C.llama_ftype_name(C.llama_model_ftype(ptr))),
		Parameters:   uint64(C.llama_model_n_params(ptr)),
		SizeBytes:    uint64(C.llama_model_size(ptr)),
		MaxPositions: header.maxPositions,
		DecoderStart: NoToken,
		VocabOnly:    vocabOnly,
	}
	if vocabOnly { // llama.cpp read no hyperparameters, and some of its functions then abort
		f.ContextTrain, f.Layers = header.int("context_length"), header.int("block_count")
		f.Embedding, f.EmbeddingOut = header.int("embedding_length"), header.int("embedding_length")
		f.Heads, f.HeadsKV = header.int("attention.head_count"), header.int("attention.head_count_kv")
		return f
	}
	f.ContextTrain = int(C.llama_model_n_ctx_train(ptr))
	f.Embedding = int(C.llama_model_n_embd(ptr))
	f.EmbeddingOut = int(C.llama_model_n_embd_out(ptr))
	f.Layers = int(C.llama_model_n_layer(ptr))
	f.Heads = int(C.llama_model_n_head(ptr))
	f.HeadsKV = int(C.llama_model_n_head_kv(ptr))
	f.SlidingWindow = int(C.llama_model_n_swa(ptr))
	f.HasEncoder = bool(C.llama_model_has_encoder(ptr))
	f.HasDecoder = bool(C.llama_model_has_decoder(ptr))
	f.DecoderStart = Token(C.llama_model_decoder_start_token(ptr))
	f.Recurrent = bool(C.llama_model_is_recurrent(ptr))
	f.Hybrid = bool(C.llama_model_is_hybrid(ptr))
	f.Diffusion = bool(C.llama_model_is_diffusion(ptr))
	switch C.llama_model_rope_type(ptr) {
	case C.LLAMA_ROPE_TYPE_NONE:
		f.RopeType = "none"
	case C.LLAMA_ROPE_TYPE_NORM:
		f.RopeType = "norm"
	case C.LLAMA_ROPE_TYPE_NEOX:
		f.RopeType = "neox"
	case C.LLAMA_ROPE_TYPE_MROPE:
		f.RopeType = "mrope"
	case C.LLAMA_ROPE_TYPE_IMROPE:
		f.RopeType = "imrope"
	default:
		f.RopeType = "vision"
	}
	if header.classifier {
		for i := range C.llama_model_n_cls_out(ptr) {
			f.ClassLabels = append(f.ClassLabels, C.GoString(C.llama_model_cls_label(ptr, i)))
		}
	}
	return f
}

// Facts returns what the model is.
func (m *Model) Facts() Facts { return m.facts }

// Vocab returns the model's tokenizer.
func (m *Model) Vocab() *Vocab { return m.vocab }

// Metadata returns a copy of the file's metadata, values as text. Arrays, such as the vocabulary, are left out or cut.
func (m *Model) Metadata() map[string]string { return maps.Clone(m.meta) }

// Meta returns one value of the metadata.
func (m *Model) Meta(key string) (string, bool) {
	v, ok := m.meta[key]
	return v, ok
}

// ChatTemplate returns the model's chat template: the default one for an empty name, or a named one such as tool_use.
func (m *Model) ChatTemplate(name string) (string, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.ptr == nil {
		return "", false
	}
	var cname *C.char
	if name != "" {
		cname = C.CString(name)
		defer C.free(unsafe.Pointer(cname))
	}
	t := C.llama_model_chat_template(m.ptr, cname)
	return C.GoString(t), t != nil
}

// Close frees the weights. It waits for tokenizations under way, refuses with ErrInUse while a Context, Sampler or LoRA
// of this model is open, and may be called again.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == nil {
		return nil
	}
	if m.children > 0 {
		return fail("close model", ErrInUse, "%d contexts, samplers or adapters of it are open", m.children)
	}
	C.llama_model_free(m.ptr)
	m.ptr = nil
	owners.model.Add(-1)
	return nil
}

// adopt registers a child, which disown gives back; it fails on a closed model.
func (m *Model) adopt(op string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == nil {
		return fail(op, ErrClosed, "the model was closed")
	}
	m.children++
	return nil
}

func (m *Model) disown() {
	m.mu.Lock()
	m.children--
	m.mu.Unlock()
}

func aborted(ctx context.Context, op string) error {
	return &Error{Op: op, Kind: abortedBy{context.Cause(ctx)}}
}

// abortedBy is both ErrAborted and what ended the context.
type abortedBy struct{ cause error }

func (a abortedBy) Error() string   { return ErrAborted.Error() + ": " + a.cause.Error() }
func (a abortedBy) Unwrap() []error { return []error{ErrAborted, a.cause} }

func clampInt32(n int) int { return max(math.MinInt32, min(math.MaxInt32, n)) }
