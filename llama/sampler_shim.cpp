// Samplers: chains whose grammars are asked before they are told.
#include "core_shim.h"

#include "core_guard.hpp"

#include <cmath>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <vector>

using core::guarded;
using core::with_stack;

namespace {

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

struct core_sampler {
    llama_sampler * chain;
    const llama_vocab * vocab; // of the grammars
    std::vector<grammar_stage> grammars;
    bool broken = false; // a grammar lost its place; only reset helps
};

extern "C" {

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

struct llama_sampler * core_sampler_grammar(core_sampler * s) {
    if (s->broken || s->grammars.size() != 1 || s->grammars[0].gave_up) {
        return nullptr;
    }
    return llama_sampler_chain_get(s->chain, s->grammars[0].index);
}

uint32_t core_sampler_seed(const core_sampler * s) { return llama_sampler_get_seed(s->chain); }

void core_sampler_free(core_sampler * s) {
    llama_sampler_free(s->chain);
    delete s;
}

} // extern "C"
