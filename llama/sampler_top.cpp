// The likeliest tokens, found without a list of all.
#include "core_shim.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

constexpr size_t lanes = 4;
typedef float vec __attribute__((vector_size(lanes * sizeof(float))));

vec load(const float * from) {
    vec v;
    memcpy(&v, from, sizeof(v));
    return v;
}

vec larger(vec a, vec b) { return a > b ? a : b; } // b where a is NaN

// The largest of a block's numbers; -inf when there is none.
float largest(const float * block) {
    static_assert(CORE_TOP_BLOCK % (4 * lanes) == 0, "a block is whole turns of the loop");
    vec most[4];
    for (auto & m : most) {
        m = vec{} - INFINITY;
    }
    for (size_t i = 0; i < CORE_TOP_BLOCK; i += 4 * lanes) {
        for (size_t j = 0; j < 4; j++) {
            most[j] = larger(load(block + i + j * lanes), most[j]);
        }
    }
    const vec m = larger(larger(most[0], most[1]), larger(most[2], most[3]));
    return std::max(std::max(m[0], m[1]), std::max(m[2], m[3]));
}

} // namespace

// k blocks have maxima of at least the k-th largest maximum, and with them at least k tokens; all that are as likely are
// found in one more look at these blocks.
extern "C" size_t core_top(const float * logits, size_t n, size_t k, float * maxima, float * order, llama_token_data * out, size_t cap) {
    const size_t whole = n / CORE_TOP_BLOCK;
    const size_t blocks = (n + CORE_TOP_BLOCK - 1) / CORE_TOP_BLOCK;
    if (k == 0 || k > blocks) {
        return 0;
    }
    for (size_t b = 0; b < whole; b++) {
        maxima[b] = largest(logits + b * CORE_TOP_BLOCK);
    }
    if (whole < blocks) {
        float most = -INFINITY;
        for (size_t i = whole * CORE_TOP_BLOCK; i < n; i++) {
            most = std::max(most, logits[i]); // most where the other is NaN
        }
        maxima[whole] = most;
    }
    std::copy(maxima, maxima + blocks, order);
    std::nth_element(order, order + (k - 1), order + blocks, [](float a, float b) { return a > b; });
    const float least = order[k - 1];
    if (std::isinf(least)) {
        return 0;
    }
    size_t found = 0;
    for (size_t b = 0; b < blocks; b++) {
        if (maxima[b] < least) {
            continue;
        }
        const size_t end = std::min(n, (b + 1) * CORE_TOP_BLOCK);
        for (size_t i = b * CORE_TOP_BLOCK; i < end; i++) {
            if (logits[i] >= least) {
                if (found == cap) {
                    return 0;
                }
                out[found++] = {(llama_token) i, logits[i], 0.0f};
            }
        }
    }
    return found;
}
