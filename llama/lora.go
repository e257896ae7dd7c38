package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"unsafe"
)

// LoRA is a low-rank adapter of a model. Loading and Metadata are safe for concurrent use; its owner closes it, after
// the contexts that apply it and before the model.
type LoRA struct {
	m     *Model
	ptr   *C.struct_llama_adapter_lora
	meta  map[string]string
	users atomic.Int32 // contexts that apply it
	alora []Token
}

// AppliedLoRA is an adapter with the factor it is applied with.
type AppliedLoRA struct {
	LoRA  *LoRA
	Scale float32
}

// LoadLoRA reads an adapter from a GGUF file. Errors are those of Load; an adapter of another model is ErrCorrupt with
// llama.cpp's reason.
func (m *Model) LoadLoRA(path string) (*LoRA, error) {
	const op = "load adapter"
	g, err := ReadGGUFFile(path)
	if err != nil {
		return nil, err
	}
	if err := checkAdapter(g, m.facts.Architecture); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.facts.VocabOnly {
		return nil, fail(op, ErrUnsupported, "the model was loaded without weights")
	}
	if err := m.adopt(op); err != nil {
		return nil, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e C.core_err
	// llama.cpp keeps the adapters in a list of the model.
	m.mu.Lock()
	ptr := C.core_lora_load(m.ptr, cpath, &e)
	m.mu.Unlock()
	if ptr == nil {
		m.disown()
		return nil, cFailure(op, 0, &e, ErrCorrupt)
	}
	l := &LoRA{m: m, ptr: ptr}
	l.meta = readMeta(func(i C.int32_t, buf *C.char, n C.size_t) C.int32_t {
		return C.llama_adapter_meta_key_by_index(ptr, i, buf, n)
	},
		func(i C.int32_t, buf *C.char, n C.size_t) C.int32_t {
			return C.llama_adapter_meta_val_str_by_index(ptr, i, buf, n)
		},
		int(C.llama_adapter_meta_count(ptr)))
	if n := int(C.llama_adapter_get_alora_n_invocation_tokens(ptr)); n > 0 {
		l.alora = slices.Clone(unsafe.Slice((*Token)(unsafe.Pointer(C.llama_adapter_get_alora_invocation_tokens(ptr))), n))
	}
	owners.lora.Add(1)
	return l, nil
}

// checkAdapter looks at the keys whose types llama.cpp takes for granted.
func checkAdapter(g *GGUF, arch string) error {
	const op = "check header"
	for _, want := range []struct{ key, value string }{{"general.type", "adapter"}, {"general.architecture", arch}, {"adapter.type", "lora"}} {
		if v, _ := g.Meta[want.key].(string); v != want.value {
			return fail(op, ErrCorrupt, "%s must be %q, not %v", want.key, want.value, g.Meta[want.key])
		}
	}
	if v, ok := g.Meta["adapter.lora.alpha"]; ok {
		if _, ok := v.(float64); !ok {
			return fail(op, ErrCorrupt, "adapter.lora.alpha must be a float, not %v", v)
		}
	}
	return checkTensorTypes(g)
}

// Metadata returns a copy of the adapter's metadata, values as text.
func (l *LoRA) Metadata() map[string]string { return maps.Clone(l.meta) }

// InvocationTokens are the tokens that switch on an activated adapter (aLoRA); none for an ordinary one.
func (l *LoRA) InvocationTokens() []Token { return slices.Clone(l.alora) }

// Close frees the adapter. It refuses with ErrInUse while a context applies it, and may be called again.
func (l *LoRA) Close() error {
	if n := l.users.Load(); n > 0 {
		return fail("close adapter", ErrInUse, "%d contexts apply it", n)
	}
	l.m.mu.Lock()
	if l.ptr == nil {
		l.m.mu.Unlock()
		return nil
	}
	C.llama_adapter_lora_free(l.ptr)
	l.ptr = nil
	l.m.children--
	l.m.mu.Unlock()
	owners.lora.Add(-1)
	return nil
}

// SetLoRA applies exactly these adapters from the next Decode on; none removes all. What is in memory was computed with
// the adapters of its time: clear it, or keep sequences apart by adapter.
func (c *Context) SetLoRA(adapters ...AppliedLoRA) error {
	const op = "apply adapters"
	c.touched++
	if c.ptr == nil {
		return fail(op, ErrClosed, "the context was closed")
	}
	ptrs := (**C.struct_llama_adapter_lora)(C.calloc(C.size_t(len(adapters)+1), C.size_t(unsafe.Sizeof(c.ptr))))
	defer C.free(unsafe.Pointer(ptrs))
	scales := make([]C.float, len(adapters)+1)
	used := make([]*LoRA, 0, len(adapters))
	for i, a := range adapters {
		switch {
		case a.LoRA == nil || a.LoRA.ptr == nil:
			return fail(op, ErrClosed, "adapter %d was closed", i)
		case a.LoRA.m != c.m:
			return fail(op, ErrInvalid, "adapter %d belongs to another model", i)
		case slices.Contains(used, a.LoRA):
			return fail(op, ErrInvalid, "adapter %d is there twice", i)
		case !finite(a.Scale):
			return fail(op, ErrInvalid, "adapter %d has scale %v", i, a.Scale)
		}
		unsafe.Slice(ptrs, len(adapters))[i] = a.LoRA.ptr
		scales[i] = C.float(a.Scale)
		used = append(used, a.LoRA)
	}
	if !C.core_lora_set(c.ptr, ptrs, C.size_t(len(adapters)), &scales[0], c.err) {
		return cFailure(op, 0, c.err, ErrInvalid)
	}
	for _, l := range used {
		l.users.Add(1)
	}
	for _, l := range c.loras {
		l.users.Add(-1)
	}
	c.loras = used
	return nil
}
