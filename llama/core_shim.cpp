#include "core_shim.h"

#include "assertions.hpp"

#include <pthread.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// Written in Go, in log.go and model.go.
extern "C" void quipuLog(uintptr_t handle, int level, const char * text, size_t len);
extern "C" bool quipuProgress(uintptr_t handle, float progress);

thread_local assertions::mode assertions::current = assertions::end_process;

// Of libgomp; null where ggml has threads of its own, which wait for the one that computes as well.
extern "C" int omp_in_parallel(void) __attribute__((weak));

namespace {

std::atomic<uintptr_t> log_handle{0};

// The first error line that llama.cpp logs on this thread while a call is under way, and the line being put together.
thread_local std::string * first_error = nullptr;
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
            if (first_error && line_level == GGML_LOG_LEVEL_ERROR && (first_error->empty() || continues)) {
                *first_error += continues ? ";" + full : without_function(full);
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

// Runs f, which returns whether it succeeded; everything it logs as an error or throws ends up in err.
template <typename F>
bool guarded(core_err * err, F && f, assertions::mode mode = assertions::throw_always) {
    assertions::scope scope(mode);
    err->kind   = CORE_OK;
    err->msg[0] = 0;

    std::string text;
    std::string * outer = first_error;
    first_error = &text;
    bool ok = false;
    try {
        ok = f();
        first_error = outer;
        if (!ok) {
            set_error(err, classify(text), text);
        }
    } catch (const std::bad_alloc &) {
        first_error = outer;
        set_error(err, CORE_NO_MEMORY, text);
    } catch (const std::exception & e) {
        first_error = outer;
        set_error(err, classify(e.what()), e.what());
    } catch (...) {
        first_error = outer;
        set_error(err, CORE_FAILED, "unknown C++ exception");
    }
    return ok;
}

// Runs f in a thread with that many bytes of stack, and waits for it.
template <typename F>
bool with_stack(size_t bytes, F & f) {
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    pthread_t thread;
    const bool started = pthread_attr_setstacksize(&attr, bytes) == 0 &&
        pthread_create(&thread, &attr, [](void * arg) -> void * { (*(F *) arg)(); return nullptr; }, &f) == 0;
    pthread_attr_destroy(&attr);
    return started && pthread_join(thread, nullptr) == 0;
}

bool on_progress(float progress, void * handle) {
    return quipuProgress((uintptr_t) handle, progress);
}

// A grammar in a chain. A lazy one searches its patterns in everything since the start, for each token, with regular
// expressions whose recursion grows with the text. Past own_stack bytes that runs in a thread with enough stack, past
// max_awaiting the grammar is left alone.
constexpr size_t own_stack    = 4 * 1024;
constexpr size_t max_awaiting = 64 * 1024;
constexpr size_t stack_per_byte = 1024;

struct grammar_stage {
    int    index; // in the chain
    bool   lazy;
    bool   gave_up;
    bool   active;  // known to have been triggered
    size_t awaited; // bytes accepted
};

} // namespace

struct core_stop {
    std::atomic<int> value{0};
};

struct core_sampler {
    llama_sampler * chain;
    const llama_vocab * vocab; // of the grammars
    std::vector<grammar_stage> grammars;
    bool broken = false; // a grammar lost its place; only reset helps
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

// samplers

core_sampler * core_sampler_new(void) {
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    return new core_sampler{llama_sampler_chain_init(params), nullptr, {}};
}

void core_sampler_add(core_sampler * s, struct llama_sampler * stage) { llama_sampler_chain_add(s->chain, stage); }

bool core_sampler_add_grammar(core_sampler * s, const struct llama_vocab * vocab, const char * grammar, const char * root,
                              bool lazy, const char ** patterns, size_t n_patterns, const llama_token * tokens, size_t n_tokens, core_err * err) {
    return guarded(err, [&] {
        llama_sampler * stage = lazy
            ? llama_sampler_init_grammar_lazy_patterns(vocab, grammar, root, patterns, n_patterns, tokens, n_tokens)
            : llama_sampler_init_grammar(vocab, grammar, root);
        if (!stage) {
            return false;
        }
        s->vocab = vocab;
        s->grammars.push_back({llama_sampler_chain_n(s->chain), lazy, false, false, 0});
        llama_sampler_chain_add(s->chain, stage);
        return true;
    });
}

struct llama_sampler * core_sampler_init_dry(const struct llama_vocab * vocab, float multiplier, float base, int32_t allowed, int32_t last_n,
                                             const char ** breakers, size_t n_breakers, core_err * err) {
    llama_sampler * stage = nullptr;
    guarded(err, [&] {
        stage = llama_sampler_init_dry(vocab, multiplier, base, allowed, last_n, breakers, n_breakers);
        return stage != nullptr;
    });
    return stage;
}

bool core_sampler_apply(core_sampler * s, llama_token_data * data, core_choice * choice, core_err * err) {
    return guarded(err, [&] {
        if (s->broken) {
            throw std::runtime_error("the grammar lost its place; reset the sampler");
        }
        llama_token_data_array array{data, choice->n, -1, choice->sorted};
        llama_sampler_apply(s->chain, &array);
        if (array.data != data) { // some samplers move the start instead of the items
            memmove(data, array.data, array.size * sizeof(*data));
        }
        choice->n        = array.size;
        choice->selected = array.selected >= 0 && array.selected < (int64_t) array.size ? array.selected : -1;
        choice->sorted   = array.sorted;
        return true;
    });
}

// Whether an active grammar forbids something; one that still awaits its trigger forbids nothing.
static bool forbids_something(const core_sampler * s, llama_sampler * stage) {
    const int32_t n = llama_vocab_n_tokens(s->vocab);
    std::vector<llama_token_data> all(n);
    for (int32_t i = 0; i < n; i++) {
        all[i] = {i, 0.0f, 0.0f};
    }
    llama_token_data_array array{all.data(), all.size(), -1, false};
    llama_sampler_apply(stage, &array);
    for (const auto & c : all) {
        if (std::isinf(c.logit)) {
            return true;
        }
    }
    return false;
}

// Tells a lazy grammar about a token, on a stack that its patterns cannot overflow.
static void accept_lazily(const core_sampler * s, grammar_stage & g, llama_token token) {
    llama_sampler * stage = llama_sampler_chain_get(s->chain, g.index);
    char piece[256];
    const int32_t len = llama_token_to_piece(s->vocab, token, piece, sizeof(piece), 0, true);
    const size_t before = g.awaited;
    g.awaited += len < 0 ? -len : len;
    auto passed = [&](size_t mark) { return before <= mark && g.awaited > mark; };
    if (passed(own_stack) || passed(max_awaiting)) {
        g.active  = forbids_something(s, stage);
        g.gave_up = !g.active && g.awaited > max_awaiting;
    }
    if (g.gave_up) {
        return;
    }
    if (g.active || g.awaited <= own_stack) {
        llama_sampler_accept(stage, token);
        return;
    }
    std::exception_ptr thrown;
    auto accept = [&] {
        assertions::scope scope(assertions::throw_always);
        try {
            llama_sampler_accept(stage, token);
        } catch (...) {
            thrown = std::current_exception();
        }
    };
    if (!with_stack((g.awaited + 1024) * stack_per_byte, accept)) {
        throw std::bad_alloc();
    }
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

bool core_sampler_accept(core_sampler * s, llama_token token, core_err * err) {
    bool rejected = false;
    const bool ok = guarded(err, [&] {
        if (s->broken) {
            throw std::runtime_error("the grammar lost its place; reset the sampler");
        }
        // Ask before telling: a grammar that is told a token which it forbids throws or aborts.
        for (const auto & g : s->grammars) {
            llama_token_data one{token, 0.0f, 0.0f};
            llama_token_data_array array{&one, 1, -1, false};
            llama_sampler_apply(llama_sampler_chain_get(s->chain, g.index), &array);
            if (std::isinf(one.logit)) {
                rejected = true;
                return false;
            }
        }
        const int n = llama_sampler_chain_n(s->chain);
        auto grammar = s->grammars.begin();
        try {
            for (int i = 0; i < n; i++) {
                if (grammar == s->grammars.end() || grammar->index != i) {
                    llama_sampler_accept(llama_sampler_chain_get(s->chain, i), token);
                    continue;
                }
                if (!grammar->lazy) {
                    llama_sampler_accept(llama_sampler_chain_get(s->chain, i), token);
                } else if (!grammar->gave_up) {
                    accept_lazily(s, *grammar, token);
                }
                ++grammar;
            }
        } catch (...) {
            s->broken = true;
            throw;
        }
        return true;
    });
    if (rejected) {
        err->kind = CORE_REJECTED;
    }
    return ok;
}

bool core_sampler_reset(core_sampler * s, core_err * err) {
    return guarded(err, [&] {
        llama_sampler_reset(s->chain);
        for (auto & g : s->grammars) {
            g.awaited = 0;
            g.gave_up = g.active = false;
        }
        s->broken = false;
        return true;
    });
}

core_sampler * core_sampler_clone(const core_sampler * s, core_err * err) {
    core_sampler * clone = nullptr;
    guarded(err, [&] {
        clone = new core_sampler(*s);
        clone->chain = nullptr;
        clone->chain = llama_sampler_clone(s->chain);
        return true;
    });
    if (err->kind != CORE_OK) {
        delete clone;
        return nullptr;
    }
    return clone;
}

int32_t core_sampler_len(const core_sampler * s) { return llama_sampler_chain_n(s->chain); }

const char * core_sampler_name(const core_sampler * s, int32_t i) { return llama_sampler_name(llama_sampler_chain_get(s->chain, i)); }

uint32_t core_sampler_seed(const core_sampler * s) { return llama_sampler_get_seed(s->chain); }

void core_sampler_free(core_sampler * s) {
    llama_sampler_free(s->chain);
    delete s;
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

// quantization

bool core_quantize(const char * in, const char * out, const struct llama_model_quantize_params * params, core_err * err) {
    return guarded(err, [&] { return llama_model_quantize(in, out, params) == 0; });
}

} // extern "C"
