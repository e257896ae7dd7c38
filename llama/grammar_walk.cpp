// What a grammar allows next, found by walking it along the texts of all tokens at once, or along the only text there is.
// llama.cpp asks each token by itself, which takes it 10 to 100 times as long.
#include "core_shim.h"

#include "core_guard.hpp"

#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

using core::guarded;

// As in src/llama-grammar.h and src/llama-sampler.cpp of the release: llama.h offers no way to a grammar's state.
enum llama_gretype {
    LLAMA_GRETYPE_END            = 0,
    LLAMA_GRETYPE_ALT            = 1,
    LLAMA_GRETYPE_RULE_REF       = 2,
    LLAMA_GRETYPE_CHAR           = 3,
    LLAMA_GRETYPE_CHAR_NOT       = 4,
    LLAMA_GRETYPE_CHAR_RNG_UPPER = 5,
    LLAMA_GRETYPE_CHAR_ALT       = 6,
    LLAMA_GRETYPE_CHAR_ANY       = 7,
    LLAMA_GRETYPE_TOKEN          = 8,
    LLAMA_GRETYPE_TOKEN_NOT      = 9,
};

struct llama_grammar_element {
    enum llama_gretype type;
    uint32_t           value;
};

using element = llama_grammar_element;
using stack   = std::vector<const element *>;
using stacks  = std::vector<stack>;

struct llama_grammar { // its beginning
    const llama_vocab *               vocab;
    std::vector<std::vector<element>> rules;
    ::stacks                          stacks;
    struct {
        uint32_t value;
        int      n_remain;
    } partial_utf8;
    bool lazy;
    bool awaiting_trigger;
};

stacks & llama_grammar_get_stacks(struct llama_grammar * grammar);
void     llama_grammar_accept(struct llama_grammar * grammar, uint32_t chr);

namespace {

struct grammar_sampler {
    const llama_vocab * vocab;
    std::string         text;
    std::string         root;
    llama_grammar *     grammar;
};

// The grammar, where it constrains and stands between two characters; else null.
llama_grammar * constraining(llama_sampler * stage) {
    llama_grammar * g = static_cast<grammar_sampler *>(stage->ctx)->grammar;
    if (!g || &llama_grammar_get_stacks(g) != &g->stacks || g->awaiting_trigger || g->partial_utf8.n_remain != 0) {
        return nullptr;
    }
    return g;
}

// Puts a grammar's stacks back as they were.
struct restored {
    llama_grammar * g;
    stacks saved;
    explicit restored(llama_grammar * g) : g(g), saved(g->stacks) {}
    ~restored() { g->stacks.swap(saved); }
    restored(const restored &) = delete;
    restored & operator=(const restored &) = delete;
};

bool is_token(const element * e) { return e->type == LLAMA_GRETYPE_TOKEN || e->type == LLAMA_GRETYPE_TOKEN_NOT; }

// Calls f with each range of a set of characters until it returns true.
template <typename F>
bool any_range(const element * e, F && f) {
    do {
        const bool range = e[1].type == LLAMA_GRETYPE_CHAR_RNG_UPPER;
        if (f(e->value, range ? e[1].value : e->value)) {
            return true;
        }
        e += range ? 2 : 1;
    } while (e->type == LLAMA_GRETYPE_CHAR_ALT);
    return false;
}

bool matches(const element * e, uint32_t c) {
    if (e->type == LLAMA_GRETYPE_CHAR_ANY) {
        return true;
    }
    const bool listed = any_range(e, [c](uint32_t low, uint32_t high) { return low <= c && c <= high; });
    return listed == (e->type == LLAMA_GRETYPE_CHAR);
}

// Whether a set has characters beyond ASCII.
bool is_wide(const element * e) {
    return e->type != LLAMA_GRETYPE_CHAR || any_range(e, [](uint32_t, uint32_t high) { return high >= 0x80; });
}

// Whether a set has one character.
bool is_single(const element * e, uint32_t & c) {
    if (e->type != LLAMA_GRETYPE_CHAR) {
        return false;
    }
    c = e->value;
    return !any_range(e, [&](uint32_t low, uint32_t high) { return low != c || high != c; });
}

// A place in the grammar, with the places that its characters lead to. Which of its stacks go on decides where.
struct place {
    ::stacks stacks;
    bool wide  = false;
    bool known = true; // no tokens as elements
    std::vector<std::pair<uint64_t, size_t>> next;
};

constexpr size_t max_places = 2000;

struct walk {
    llama_grammar *    g;
    const core_node *  nodes;
    const llama_token * tokens;
    const llama_token * partial;
    int64_t            budget;
    uint64_t *         allowed;
    std::deque<place>  places;
    std::vector<llama_token_data> doubtful;

    size_t add(const ::stacks & s) {
        for (size_t i = 0; i < places.size(); i++) {
            if (places[i].stacks == s) {
                return i;
            }
        }
        place p;
        p.stacks = s;
        p.known  = s.size() <= 64 && places.size() < max_places;
        for (const auto & one : s) {
            if (!one.empty()) {
                p.known = p.known && !is_token(one.back());
                p.wide  = p.wide || (p.known && is_wide(one.back()));
            }
        }
        places.push_back(std::move(p));
        return places.size() - 1;
    }

    size_t follow(size_t at, uint64_t going, uint32_t c) {
        for (const auto & n : places[at].next) {
            if (n.first == going) {
                return n.second;
            }
        }
        g->stacks = places[at].stacks;
        llama_grammar_accept(g, c);
        const size_t next = add(g->stacks);
        places[at].next.emplace_back(going, next);
        return next;
    }

    void take(size_t node, size_t at) {
        for (int32_t i = nodes[node].tokens; i < nodes[node + 1].tokens; i++) {
            allowed[tokens[i] / 64] |= uint64_t(1) << (tokens[i] % 64);
        }
        if (places[at].wide) {
            for (int32_t i = nodes[node].partial; i < nodes[node + 1].partial; i++) {
                doubtful.push_back({partial[i], 0.0f, 0.0f});
            }
        }
    }

    // Goes down from a node whose text leads to a place. Returns false when it can't tell.
    bool down(size_t node, size_t at) {
        if (!places[at].known) {
            return false;
        }
        for (size_t child = node + 1; child < (size_t) nodes[node].end; child = nodes[child].end) {
            const uint32_t c = nodes[child].c;
            if (c >= 0x80 && !places[at].wide) {
                break; // children are in the order of their characters
            }
            if (--budget < 0) {
                return false;
            }
            uint64_t going = 0;
            for (size_t i = 0; i < places[at].stacks.size(); i++) {
                const stack & one = places[at].stacks[i];
                if (!one.empty() && matches(one.back(), c)) {
                    going |= uint64_t(1) << i;
                }
            }
            if (!going) {
                continue;
            }
            const size_t next = follow(at, going, c);
            take(child, next);
            if (!down(child, next)) {
                return false;
            }
        }
        return true;
    }
};

void append_utf8(std::string & to, uint32_t c) {
    if (c < 0x80) {
        to += (char) c;
    } else if (c < 0x800) {
        to += {(char) (0xC0 | c >> 6), (char) (0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
        to += {(char) (0xE0 | c >> 12), (char) (0x80 | (c >> 6 & 0x3F)), (char) (0x80 | (c & 0x3F))};
    } else {
        to += {(char) (0xF0 | c >> 18), (char) (0x80 | (c >> 12 & 0x3F)), (char) (0x80 | (c >> 6 & 0x3F)), (char) (0x80 | (c & 0x3F))};
    }
}

} // namespace

extern "C" {

bool core_grammar_allowed(struct llama_sampler * stage, const core_spellings * spellings, int64_t budget, uint64_t * allowed, core_err * err) {
    bool told = false;
    guarded(err, [&] {
        llama_grammar * g = constraining(stage);
        if (!g) {
            return true;
        }
        walk w{g, spellings->nodes, spellings->tokens, spellings->partial, budget, allowed, {}, {}};
        {
            restored scope(g);
            const size_t start = w.add(g->stacks);
            w.take(0, start);
            if (!w.down(0, start)) {
                return true;
            }
        }
        for (const auto & s : g->stacks) {
            if (s.empty()) {
                for (size_t i = 0; i < spellings->n_ends; i++) {
                    const llama_token t = spellings->ends[i];
                    allowed[t / 64] |= uint64_t(1) << (t % 64);
                }
                break;
            }
        }
        for (size_t i = 0; i < spellings->n_odd; i++) {
            w.doubtful.push_back({spellings->odd[i], 0.0f, 0.0f});
        }
        if (!w.doubtful.empty()) {
            llama_token_data_array array{w.doubtful.data(), w.doubtful.size(), -1, false};
            llama_sampler_apply(stage, &array);
            for (const auto & d : w.doubtful) {
                if (d.logit == 0.0f) {
                    allowed[d.id / 64] |= uint64_t(1) << (d.id % 64);
                }
            }
        }
        return told = true;
    });
    return told;
}

size_t core_grammar_forced(struct llama_sampler * stage, char * out, size_t cap, bool * complete, core_err * err) {
    size_t length = 0;
    *complete = false;
    guarded(err, [&] {
        llama_grammar * g = constraining(stage);
        uint32_t c = 0, other = 0;
        auto forced = [&] {
            for (const auto & s : g->stacks) {
                if (s.empty() || !is_single(s.back(), other) || (&s != &g->stacks.front() && other != c)) {
                    return false;
                }
                c = other;
            }
            return c != 0 && !g->stacks.empty();
        };
        if (!g || !forced()) {
            return true;
        }
        restored scope(g);
        std::string text;
        do {
            append_utf8(text, c);
            if (text.size() > cap) {
                return true; // what fitted
            }
            length = text.size();
            memcpy(out, text.data(), length);
            llama_grammar_accept(g, c);
        } while (forced());
        *complete = g->stacks.size() == 1 && g->stacks.front().empty();
        return true;
    });
    return length;
}

} // extern "C"
