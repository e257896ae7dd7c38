package llama

/*
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "ggml.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

// attention computes scaled dot-product attention of rows in heads over cells. It returns 0, or -1 where something failed.
static int attention(int threads, int reference, int times, int64_t size, int64_t heads, int64_t key_heads, int64_t rows, int64_t cells,
                     const float * q, const uint16_t * k, const uint16_t * v, const uint16_t * mask, float * out) {
	struct ggml_init_params p = {ggml_tensor_overhead() * 16 + ggml_graph_overhead(), NULL, 1};
	struct ggml_context * c = ggml_init(p);
	ggml_backend_t cpu = ggml_backend_cpu_init();
	ggml_backend_cpu_set_n_threads(cpu, threads);
	ggml_backend_cpu_set_use_ref(cpu, reference != 0);
	// A cell holds its key heads side by side, as in a KV cache.
	struct ggml_tensor * tq = ggml_new_tensor_3d(c, GGML_TYPE_F32, size, heads, rows);
	struct ggml_tensor * tk = ggml_new_tensor_3d(c, GGML_TYPE_F16, size, key_heads, cells);
	struct ggml_tensor * tv = ggml_new_tensor_3d(c, GGML_TYPE_F16, size, key_heads, cells);
	struct ggml_tensor * tm = ggml_new_tensor_2d(c, GGML_TYPE_F16, cells, rows);
	struct ggml_tensor * to = ggml_flash_attn_ext(c, ggml_permute(c, tq, 0, 2, 1, 3), ggml_permute(c, tk, 0, 2, 1, 3),
		ggml_permute(c, tv, 0, 2, 1, 3), tm, 0.125f, 0, 0);
	struct ggml_cgraph * g = ggml_new_graph(c);
	ggml_build_forward_expand(g, to);
	ggml_backend_buffer_t b = ggml_backend_alloc_ctx_tensors(c, cpu);
	int rc = -1;
	if (b) {
		memcpy(tq->data, q, ggml_nbytes(tq));
		memcpy(tk->data, k, ggml_nbytes(tk));
		memcpy(tv->data, v, ggml_nbytes(tv));
		memcpy(tm->data, mask, ggml_nbytes(tm));
		rc = 0;
		for (int i = 0; i < times && rc == 0; i++) {
			rc = ggml_backend_graph_compute(cpu, g) == GGML_STATUS_SUCCESS ? 0 : -1;
		}
		memcpy(out, to->data, ggml_nbytes(to));
		ggml_backend_buffer_free(b);
	}
	ggml_backend_free(cpu);
	ggml_free(c);
	return rc;
}
*/
import "C"

import (
	"errors"
	"unsafe"
)

// attention is this one operation of ggml, so that tests can look at attention.cpp without a model: rows of heads queries of size
// numbers each, over cells that hold keyHeads keys and values.
type attention struct {
	size, heads, keyHeads, rows, cells int

	q    []float32 // rows × heads × size
	k, v []uint16  // cells × keyHeads × size, in half precision
	mask []uint16  // rows × cells: 0, or minus infinity in half precision
}

// run computes it some times with so many threads, as a model would or, for reference, as ggml does without anything that makes it
// fast, and returns rows × heads × size numbers.
func (a attention) run(threads, times int, reference bool) ([]float32, error) {
	out := make([]float32, len(a.q))
	ref := C.int(0)
	if reference {
		ref = 1
	}
	rc := C.attention(C.int(threads), ref, C.int(times), C.int64_t(a.size), C.int64_t(a.heads), C.int64_t(a.keyHeads), C.int64_t(a.rows), C.int64_t(a.cells),
		(*C.float)(unsafe.SliceData(a.q)), (*C.uint16_t)(unsafe.SliceData(a.k)), (*C.uint16_t)(unsafe.SliceData(a.v)),
		(*C.uint16_t)(unsafe.SliceData(a.mask)), (*C.float)(unsafe.SliceData(out)))
	if rc != 0 {
		return nil, errors.New("ggml did not compute it")
	}
	return out, nil
}
