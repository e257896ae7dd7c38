// Clearing a buffer without touching it. llama.cpp zeroes the KV cache when a context is made, and so takes all of its memory at
// once, for a server that may never see as many clients. Linux gives zeroes for pages that it was told to drop, and only takes memory
// for those that are written later.
//
// Linkers that know --wrap put it in ggml's place; see scripts/llama.
#ifdef QUIPU_WRAP
#include "ggml-backend.h"

#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

extern "C" {
void __real_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
void __wrap_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
}

// drop makes a range of the program's own memory read as zeroes. False: the system didn't (it is locked, for one) and it is as before.
static bool drop(char * from, size_t size) {
    const uintptr_t page = sysconf(_SC_PAGESIZE);
    char * first = (char *) (((uintptr_t) from + page - 1) & ~(page - 1));
    char * last  = (char *) (((uintptr_t) from + size) & ~(page - 1));
    if (first >= last || madvise(first, last - first, MADV_DONTNEED) != 0) {
        return false;
    }
    memset(from, 0, first - from);
    memset(last, 0, from + size - last);
    return true;
}

void __wrap_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    // Only what ggml allocated as plain memory: others' pages may be a file's, or seen by a device.
    if (value != 0 || ggml_backend_buffer_get_type(buffer) != ggml_backend_cpu_buffer_type() ||
        !drop((char *) ggml_backend_buffer_get_base(buffer), ggml_backend_buffer_get_size(buffer))) {
        __real_ggml_backend_buffer_clear(buffer, value);
    }
}
#endif
