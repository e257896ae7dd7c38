#include "core_shim.h"

#include "core_guard.hpp"

#include "ggml-cpu.h"

#include <atomic>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <string>

using core::guarded;
using core::set_error;
using core::with_stack;

// Written in Go, in log.go and model.go.
extern "C" void quipuLog(uintptr_t handle, int level, const char * text, size_t len);
extern "C" bool quipuProgress(uintptr_t handle, float progress);

thread_local assertions::mode assertions::current = assertions::end_process;

#ifdef __ELF__
// Of libgomp; null where ggml has threads of its own, which wait for the one that computes as well.
extern "C" int omp_in_parallel(void) __attribute__((weak));
#else
static int (*const omp_in_parallel)(void) = nullptr;
#endif

namespace {

std::atomic<uintptr_t> log_handle{0};

// The line being put together.
thread_local std::string line;
thread_local int line_level = GGML_LOG_LEVEL_INFO;

// "function: text" without the function, whose name tells a user nothing.
std::string without_function(const std::string & text) {
    size_t i = 0;
    while (i < text.size() && (isalnum((unsigned char) text[i]) || text[i] == '_')) {
        i++;
    }
    if (i > 0 && i + 2 <= text.size() && text[i] == ':' && text[i + 1] == ' ') {
        return text.substr(i + 2);
    }
    return text;
}

void on_log(enum ggml_log_level level, const char * text, void *) {
    try {
        if (level != GGML_LOG_LEVEL_CONT) {
            line_level = level;
        }
        line += text;
        bool continues = false; // one message of several lines
        size_t end;
        while ((end = line.find('\n')) != std::string::npos) {
            const std::string full = line.substr(0, end);
            line.erase(0, end + 1);
            if (core::first_error && line_level == GGML_LOG_LEVEL_ERROR && (core::first_error->empty() || continues)) {
                *core::first_error += continues ? ";" + full : without_function(full);
            }
            continues = true;
            const uintptr_t handle = log_handle.load(std::memory_order_acquire);
            if (handle != 0 && !full.empty()) {
                quipuLog(handle, line_level, full.data(), full.size());
            }
        }
    } catch (...) {
        line.clear(); // a log line is not worth an exception through C
    }
}

// ggml_abort calls this before abort().
void on_abort(const char * message) {
    if (const char * slash = strrchr(message, '/')) { // a folder of the machine that it was built on
        message = slash + 1;
    }
    if (assertions::current == assertions::throw_always ||
        (assertions::current == assertions::throw_outside && omp_in_parallel && !omp_in_parallel())) {
        throw assertions::failed(message);
    }
    fprintf(stderr, "llama.cpp: %s\n", message); // the default would also run a debugger
}

bool contains(const std::string & text, const char * what) {
    return text.find(what) != std::string::npos;
}

bool on_progress(float progress, void * handle) {
    return quipuProgress((uintptr_t) handle, progress);
}

} // namespace

namespace core {

thread_local std::string * first_error = nullptr;

// llama.cpp has no error codes for files, only these texts. A test holds each against the pinned release.
int classify(const std::string & text) {
    if (contains(text, "missing tensor '") || (contains(text, "tensor '") && contains(text, "not found"))) {
        return CORE_MISSING_TENSOR;
    }
    if (contains(text, "unknown model architecture")) {
        return CORE_UNKNOWN_ARCH;
    }
    if (contains(text, "allocate")) {
        return CORE_NO_MEMORY;
    }
    if (contains(text, "error loading model") || contains(text, "gguf") || contains(text, "corrupt") || contains(text, "tensor")) {
        return CORE_CORRUPT;
    }
    return CORE_FAILED;
}

void set_error(core_err * err, int kind, const std::string & text) {
    err->kind = kind;
    snprintf(err->msg, sizeof(err->msg), "%s", text.c_str());
}

} // namespace core

struct core_stop {
    std::atomic<int> value{0};
};

extern "C" {

void core_init(void) {
    static std::once_flag once;
    std::call_once(once, [] {
        llama_log_set(on_log, nullptr);
        ggml_set_abort_callback(on_abort);
        llama_backend_init();
    });
}

void core_log_set(uintptr_t handle) {
    log_handle.store(handle, std::memory_order_release);
}

// models

struct llama_model * core_model_load(const char * path, struct llama_model_params params, uintptr_t go_progress, core_err * err) {
    llama_model * model = nullptr;
    if (go_progress != 0) {
        params.progress_callback           = on_progress;
        params.progress_callback_user_data = (void *) go_progress;
    }
    guarded(err, [&] {
        model = llama_model_load_from_file(path, params);
        return model != nullptr;
    });
    return model;
}

// contexts

core_stop * core_stop_new(void) { return new (std::nothrow) core_stop; }

void core_stop_set(core_stop * stop, int value) { stop->value.store(value, std::memory_order_relaxed); }

void core_stop_free(core_stop * stop) { delete stop; }

static bool core_stop_poll(void * stop) {
    return ((core_stop *) stop)->value.load(std::memory_order_relaxed) != 0;
}

struct llama_context * core_context_new(struct llama_model * model, struct llama_context_params params, core_stop * stop, core_err * err) {
    llama_context * ctx = nullptr;
    params.abort_callback      = core_stop_poll;
    params.abort_callback_data = stop;
    guarded(err, [&] {
        ctx = llama_init_from_model(model, params);
        return ctx != nullptr;
    });
    return ctx;
}

int core_decode(struct llama_context * ctx, struct llama_batch batch, bool encode, core_err * err) {
    int code = -4; // what an exception leaves
    guarded(err, [&] {
        code = encode ? llama_encode(ctx, batch) : llama_decode(ctx, batch);
        return code == 0;
    }, assertions::throw_outside);
    return code;
}

// vocabulary

int32_t core_tokenize(const struct llama_vocab * vocab, const char * text, int32_t len, llama_token * out, int32_t cap, bool add_special, bool parse_special, size_t stack, core_err * err) {
    int32_t n = INT32_MIN;
    auto tokenize = [&] {
        guarded(err, [&] {
            n = llama_tokenize(vocab, text, len, out, cap, add_special, parse_special);
            return n != INT32_MIN;
        });
    };
    if (stack == 0) {
        tokenize();
    } else if (!with_stack(stack, tokenize)) {
        set_error(err, CORE_NO_MEMORY, "no thread with " + std::to_string(stack >> 20) + " MiB of stack");
    }
    return n;
}

int32_t core_detokenize(const struct llama_vocab * vocab, const llama_token * tokens, int32_t n, char * out, int32_t cap, bool remove_special, bool unparse_special, core_err * err) {
    int32_t len = INT32_MIN;
    guarded(err, [&] {
        len = llama_detokenize(vocab, tokens, n, out, cap, remove_special, unparse_special);
        return true;
    });
    return len;
}

// memory

bool core_memory(struct llama_context * ctx, enum core_mem_op op, int32_t a, int32_t b, int32_t p0, int32_t p1, int32_t arg, core_err * err) {
    return guarded(err, [&] {
        llama_memory_t mem = llama_get_memory(ctx);
        switch (op) {
            case CORE_MEM_RM:    return llama_memory_seq_rm(mem, a, p0, p1);
            case CORE_MEM_CP:    llama_memory_seq_cp(mem, a, b, p0, p1); break;
            case CORE_MEM_KEEP:  llama_memory_seq_keep(mem, a); break;
            case CORE_MEM_ADD:   llama_memory_seq_add(mem, a, p0, p1, arg); break;
            case CORE_MEM_DIV:   llama_memory_seq_div(mem, a, p0, p1, arg); break;
            case CORE_MEM_CLEAR: llama_memory_clear(mem, arg != 0); break;
        }
        return true;
    });
}

// adapters

struct llama_adapter_lora * core_lora_load(struct llama_model * model, const char * path, core_err * err) {
    llama_adapter_lora * lora = nullptr;
    guarded(err, [&] {
        lora = llama_adapter_lora_init(model, path);
        return lora != nullptr;
    });
    return lora;
}

bool core_lora_set(struct llama_context * ctx, struct llama_adapter_lora ** adapters, size_t n, float * scales, core_err * err) {
    return guarded(err, [&] { return llama_set_adapters_lora(ctx, adapters, n, scales) == 0; });
}

// state

size_t core_state_size(struct llama_context * ctx, int32_t seq, uint32_t flags, core_err * err) {
    size_t n = 0;
    guarded(err, [&] {
        n = seq < 0 ? llama_state_get_size(ctx) : llama_state_seq_get_size_ext(ctx, seq, flags);
        return n > 0;
    });
    return n;
}

size_t core_state_get(struct llama_context * ctx, uint8_t * dst, size_t size, int32_t seq, uint32_t flags, core_err * err) {
    size_t n = 0;
    guarded(err, [&] {
        n = seq < 0 ? llama_state_get_data(ctx, dst, size) : llama_state_seq_get_data_ext(ctx, dst, size, seq, flags);
        return n > 0;
    });
    return n;
}

size_t core_state_set(struct llama_context * ctx, const uint8_t * src, size_t size, int32_t seq, uint32_t flags, core_err * err) {
    size_t n = 0;
    guarded(err, [&] {
        n = seq < 0 ? llama_state_set_data(ctx, src, size) : llama_state_seq_set_data_ext(ctx, src, size, seq, flags);
        return n > 0;
    });
    return n;
}

void core_rotate(void * heads, bool f16, size_t n, size_t size, size_t rot, bool neox, const float * turn) {
    const size_t half = rot / 2;
    const size_t step = neox ? 1 : 2, other = neox ? half : 1;
    float row[4096];
    for (size_t h = 0; h < n; h++) {
        float * x = f16 ? row : (float *) heads + h * size;
        ggml_fp16_t * stored = (ggml_fp16_t *) heads + h * size;
        if (f16) {
            ggml_cpu_fp16_to_fp32(stored, x, (int64_t) rot);
        }
        for (size_t i = 0; i < half; i++) {
            const float a = x[i * step], b = x[i * step + other];
            x[i * step]         = a * turn[2 * i] - b * turn[2 * i + 1];
            x[i * step + other] = a * turn[2 * i + 1] + b * turn[2 * i];
        }
        if (f16) {
            ggml_cpu_fp32_to_fp16(x, stored, (int64_t) rot);
        }
    }
}

// quantization

bool core_quantize(const char * in, const char * out, const struct llama_model_quantize_params * params, core_err * err) {
    return guarded(err, [&] { return llama_model_quantize(in, out, params) == 0; });
}

} // extern "C"
