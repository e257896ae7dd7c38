// Attention on CPUs, over a cache that sequences share. ggml's own kernel looks at every cell for each head, others' cells too,
// and reads what a sequence has once for each query head. This one lists a row's cells once, passes over the others 32 at a time,
// and reads each key and value once for all the query heads that share it (grouped-query attention; Ainslie et al. 2023); sums are
// in single precision, by blocks with one rescaling each (online softmax; Milakov and Gimelshein 2018). What it does not know,
// quantized caches, ALiBi, capped logits, sinks, other head sizes and processors, goes to ggml's. docs/adr/0008 says why it is here.
//
// Linkers that know --wrap put it in ggml's place; see scripts/llama.
#ifdef QUIPU_WRAP
#include "internal/ggml-cpu-impl.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define QUIPU_LANES 16
#define QUIPU_REGISTERS 32
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#include <immintrin.h>
#define QUIPU_LANES 8
#define QUIPU_REGISTERS 16
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define QUIPU_LANES 4
#define QUIPU_REGISTERS 32
#endif

extern "C" {
void __real_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
}

#ifdef QUIPU_LANES
namespace {

constexpr int lanes = QUIPU_LANES, registers = QUIPU_REGISTERS;

typedef float vec __attribute__((vector_size(lanes * sizeof(float))));
typedef int32_t ints __attribute__((vector_size(lanes * sizeof(float))));

// halves reads numbers in half precision.
inline vec halves(const ggml_fp16_t * from) {
#if defined(__AVX512F__)
    return (vec) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from));
#elif defined(__AVX2__)
    return (vec) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from));
#else
    return (vec) vcvt_f32_f16(vld1_f16((const __fp16 *) from));
#endif
}

inline vec load(const float * from) {
    vec v;
    memcpy(&v, from, sizeof(v));
    return v;
}

inline void store(float * to, vec v) { memcpy(to, &v, sizeof(v)); }

inline float sum(vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512) v);
#else
    float s = 0;
    for (int i = 0; i < lanes; i++) {
        s += v[i];
    }
    return s;
#endif
}

// sums adds up the numbers of each of four vectors.
inline void sums(const vec v[4], float * to) {
#if defined(__AVX512F__)
    const __m512 a = (__m512) v[0], b = (__m512) v[1], c = (__m512) v[2], d = (__m512) v[3];
    const __m512d ab = (__m512d) _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); // a b a b, in each quarter
    const __m512d cd = (__m512d) _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps((__m512) _mm512_unpacklo_pd(ab, cd), (__m512) _mm512_unpackhi_pd(ab, cd)); // a b c d
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), (__m256) _mm512_extractf64x4_pd((__m512d) all, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif defined(__AVX2__)
    const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps((__m256) v[0], (__m256) v[1]), _mm256_hadd_ps((__m256) v[2], (__m256) v[3]));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
#else
    for (int i = 0; i < 4; i++) {
        to[i] = sum(v[i]);
    }
#endif
}

// largest of some numbers, which are filled up to whole vectors.
inline float largest(const float * from, int n) {
    vec m = load(from);
    for (int i = lanes; i < n; i += lanes) {
        const vec v = load(from + i);
        m = v > m ? v : m;
    }
    float most = m[0];
    for (int i = 1; i < lanes; i++) {
        most = std::max(most, m[i]);
    }
    return most;
}

// exponential of numbers that are not above 0, to 2e-7 of it; 1e-38 for those that have none. 2 to a whole number is an exponent,
// 2 to the rest, at most a half, is its series.
inline vec exponential(vec x) {
    vec t = x * 1.44269504f;
    t = t > -126.0f ? t : vec{} - 126.0f;
    const ints whole = __builtin_convertvector(t - 0.5f, ints); // which cuts off towards 0
    const vec r = t - __builtin_convertvector(whole, vec);
    vec p = r * 1.54035304e-4f + 1.33335581e-3f;
    p = p * r + 9.61812911e-3f;
    p = p * r + 5.55041087e-2f;
    p = p * r + 2.40226507e-1f;
    p = p * r + 6.93147181e-1f;
    p = p * r + 1.0f;
    return p * (vec) ((whole + 127) << 23);
}

constexpr int granule = 32; // cells that are looked at together for whether a row has any of them
constexpr int block = 128;  // cells between two rescalings
constexpr int most_heads = 8;

// cells lists the cells of a row that it may read: those whose mask is 0.
struct cells {
    const ggml_fp16_t * mask; // null when it reads all
    int64_t n, at, step;      // at is the next to look at, in granules a step apart

    // next fills a list with up to a block of cells, and returns how many.
    int next(int32_t * list) {
        int filled = 0;
        for (; at < n && filled + granule <= block; at += step) {
            const int64_t end = std::min(at + granule, n);
            if (!mask) {
                for (int64_t i = at; i < end; i++) {
                    list[filled++] = (int32_t) i;
                }
                continue;
            }
            constexpr uint16_t none = 0xfc00; // minus infinity
            if (end == at + granule) {
                uint32_t any = 0, gap = 0;
                for (int i = 0; i < granule; i++) {
                    any |= mask[at + i] ^ none;
                    gap |= mask[at + i];
                }
                if (!any) {
                    continue;
                }
                if (!gap) {
                    for (int i = 0; i < granule; i++) {
                        list[filled++] = (int32_t) at + i;
                    }
                    continue;
                }
            }
            for (int64_t i = at; i < end; i++) {
                list[filled] = (int32_t) i;
                filled += mask[i] != none;
            }
        }
        return filled;
    }
};

// operands are those of one row and the query heads of one key head.
struct operands {
    const float * q; // heads, one behind the other, scaled
    const char * k;
    const char * v;
    size_t k_stride, v_stride; // bytes from cell to cell
};

// fetch asks for the D numbers of a cell, which nothing but a list tells the processor of.
template <int D> void fetch(const char * from) {
    for (size_t i = 0; i < D * sizeof(ggml_fp16_t); i += 64) {
        __builtin_prefetch(from + i);
    }
}

constexpr int ahead = 12; // cells that keys are fetched before they are read

// scores multiplies the queries of G heads with the keys of n cells, up to three more than there are. Four cells and as many heads
// as registers hold are computed at a time.
template <int D, int G> void scores(const operands & o, const int32_t * list, int n, float (*s)[block]) {
    constexpr int H = std::min(G, (registers - 6) / 4);
    for (int i = 0; i < n; i += 4) {
        const ggml_fp16_t * k[4];
        for (int j = 0; j < 4; j++) {
            k[j] = (const ggml_fp16_t *) (o.k + list[std::min(i + j, n - 1)] * o.k_stride);
            fetch<D>(o.k + list[std::min(i + j + ahead, n - 1)] * o.k_stride);
            fetch<D>(o.v + list[std::min(i + j, n - 1)] * o.v_stride);
        }
        for (int from = 0; from < G; from += H) {
            vec dots[H][4] = {};
            for (int d = 0; d < D; d += lanes) {
                vec x[4];
                for (int j = 0; j < 4; j++) {
                    x[j] = halves(k[j] + d);
                }
                for (int h = 0; h < H && from + h < G; h++) {
                    const vec q = load(o.q + (from + h) * D + d);
                    for (int j = 0; j < 4; j++) {
                        dots[h][j] += x[j] * q;
                    }
                }
            }
            for (int h = 0; h < H && from + h < G; h++) {
                sums(dots[h], s[from + h] + i);
            }
        }
    }
}

// mix adds the values of n cells, by weights of G heads, to acc. As many numbers as registers hold are computed at a time.
template <int D, int G> void mix(const operands & o, const int32_t * list, int n, const float (*s)[block], float (*acc)[D]) {
    constexpr int C = D / lanes, W = std::max(1, std::min(C, (registers - 6) / G));
    for (int from = 0; from < C; from += W) {
        vec a[G][W];
        for (int g = 0; g < G; g++) {
            for (int d = 0; d < W && from + d < C; d++) {
                a[g][d] = load(acc[g] + (from + d) * lanes);
            }
        }
        for (int i = 0; i < n; i++) {
            const ggml_fp16_t * v = (const ggml_fp16_t *) (o.v + list[i] * o.v_stride);
            for (int d = 0; d < W && from + d < C; d++) {
                const vec x = halves(v + (from + d) * lanes);
                for (int g = 0; g < G; g++) {
                    a[g][d] += x * s[g][i];
                }
            }
        }
        for (int g = 0; g < G; g++) {
            for (int d = 0; d < W && from + d < C; d++) {
                store(acc[g] + (from + d) * lanes, a[g][d]);
            }
        }
    }
}

// attend adds up what a row reads for G heads of D numbers. For each it leaves the largest score, the sum of weights, and the
// weighted sum of values in out, a stride from one to the next.
template <int D, int G> void attend(const operands & o, cells c, float * out, size_t stride) {
    alignas(64) float s[G][block];
    alignas(64) float acc[G][D] = {};
    int32_t list[block];
    float most[G], all[G] = {};
    std::fill_n(most, G, -INFINITY);
    while (const int n = c.next(list)) {
        scores<D, G>(o, list, n, s);
        for (int g = 0; g < G; g++) {
            for (int i = n; i % lanes != 0; i++) {
                s[g][i] = -INFINITY;
            }
            const float top = std::max(most[g], largest(s[g], n));
            if (top > most[g]) {
                const float scale = std::exp(most[g] - top);
                all[g] *= scale;
                for (int d = 0; d < D; d += lanes) {
                    store(acc[g] + d, load(acc[g] + d) * scale);
                }
                most[g] = top;
            }
            vec total = {};
            for (int i = 0; i < n; i += lanes) {
                const vec w = exponential(load(s[g] + i) - top);
                store(s[g] + i, w);
                total += w;
            }
            all[g] += sum(total);
        }
        mix<D, G>(o, list, n, s, acc);
    }
    for (int g = 0; g < G; g++) {
        float * to = out + g * stride;
        to[0] = most[g];
        to[1] = all[g];
        memcpy(to + 2, acc[g], sizeof(acc[g]));
    }
}

typedef void attention(const operands &, cells, float *, size_t);

template <int D> attention * for_heads(int64_t n) {
    static attention * const all[most_heads] = {attend<D, 1>, attend<D, 2>, attend<D, 3>, attend<D, 4>, attend<D, 5>, attend<D, 6>, attend<D, 7>, attend<D, 8>};
    return all[n - 1];
}

attention * for_size(int64_t size, int64_t heads) {
    switch (size) {
        case 32: return for_heads<32>(heads);
        case 64: return for_heads<64>(heads);
        case 80: return for_heads<80>(heads);
        case 96: return for_heads<96>(heads);
        case 128: return for_heads<128>(heads);
        case 256: return for_heads<256>(heads);
        default: return nullptr;
    }
}

constexpr int64_t most_size = 256;

// shape is how the work is cut: units of one row, one key head and some of its query heads, where there are few of them also of a
// part of the cells.
struct shape {
    int64_t size, rows, heads, key_heads, group, groups, parts;
    attention * run;
};

bool known(const ggml_tensor * dst, shape & s) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3], *sinks = dst->src[4];
    float options[3]; // scale, ALiBi, cap
    memcpy(options, dst->op_params, sizeof(options));
    if (q->type != GGML_TYPE_F32 || k->type != GGML_TYPE_F16 || v->type != GGML_TYPE_F16 || sinks || options[1] != 0 || options[2] != 0 ||
        q->ne[3] != 1 || k->ne[3] != 1 || k->ne[0] != v->ne[0] || k->ne[2] != v->ne[2] || k->ne[1] > INT_MAX ||
        (mask && (mask->ne[2] != 1 || mask->ne[3] != 1 || mask->type != GGML_TYPE_F16))) {
        return false;
    }
    s.size = k->ne[0], s.rows = q->ne[1], s.heads = q->ne[2], s.key_heads = k->ne[2];
    const int64_t shared = s.heads / s.key_heads; // query heads of a key head
    s.groups = (shared + most_heads - 1) / most_heads;
    if (shared % s.groups != 0) {
        return false;
    }
    s.group = shared / s.groups;
    s.run = for_size(s.size, s.group);
    return s.run != nullptr;
}

// unit computes part of a row's attention, and leaves it in out.
void unit(const ggml_tensor * dst, const shape & s, int64_t row, int64_t group, int64_t part, float * out, size_t stride) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    float scale;
    memcpy(&scale, dst->op_params, sizeof(scale));
    alignas(64) float scaled[most_heads * most_size];
    for (int64_t g = 0; g < s.group; g++) {
        const float * from = (const float *) ((const char *) q->data + row * q->nb[1] + (group * s.group + g) * q->nb[2]);
        for (int64_t d = 0; d < s.size; d++) {
            scaled[g * s.size + d] = from[d] * scale;
        }
    }
    const int64_t key_head = group / s.groups;
    const operands o = {scaled, (const char *) k->data + key_head * k->nb[2], (const char *) v->data + key_head * v->nb[2], k->nb[1], v->nb[1]};
    const ggml_fp16_t * m = mask ? (const ggml_fp16_t *) ((const char *) mask->data + row * mask->nb[1]) : nullptr;
    s.run(o, {m, k->ne[1], part * granule, s.parts * granule}, out, stride);
}

float * result(const ggml_tensor * dst, int64_t row, int64_t head) {
    return (float *) ((char *) dst->data + head * dst->nb[1] + row * dst->nb[2]);
}

// finish divides weighted sums by their weights.
void finish(float * to, const float * from, int64_t size) {
    const float by = from[1] == 0 ? 0 : 1 / from[1];
    for (int64_t d = 0; d < size; d++) {
        to[d] = from[2 + d] * by;
    }
}

// whole computes each unit at once. Threads take units as they get done.
void whole(const ggml_compute_params * p, ggml_tensor * dst, const shape & s) {
    if (p->ith == 0) {
        ggml_threadpool_chunk_set(p->threadpool, p->nth);
    }
    ggml_barrier(p->threadpool);
    const int64_t groups = s.key_heads * s.groups;
    float out[most_heads * (2 + most_size)];
    for (int64_t u = p->ith; u < s.rows * groups; u = ggml_threadpool_chunk_add(p->threadpool, 1)) {
        const int64_t row = u / groups, group = u % groups;
        unit(dst, s, row, group, 0, out, 2 + s.size);
        for (int64_t g = 0; g < s.group; g++) {
            finish(result(dst, row, group * s.group + g), out + g * (2 + s.size), s.size);
        }
    }
}

// split computes parts of each unit, then puts them together.
void split(const ggml_compute_params * p, ggml_tensor * dst, const shape & s) {
    const int64_t groups = s.key_heads * s.groups;
    const size_t stride = 2 + s.size;
    float * parts = (float *) p->wdata;
    for (int64_t u = p->ith; u < s.rows * groups * s.parts; u += p->nth) {
        const int64_t part = u % s.parts, group = u / s.parts % groups, row = u / s.parts / groups;
        unit(dst, s, row, group, part, parts + ((row * s.heads + group * s.group) * s.parts + part) * stride, s.parts * stride);
    }
    ggml_barrier(p->threadpool);
    for (int64_t h = p->ith; h < s.rows * s.heads; h += p->nth) {
        float * first = parts + h * s.parts * stride;
        for (int64_t i = 1; i < s.parts; i++) {
            const float * other = first + i * stride;
            if (other[1] == 0) {
                continue;
            }
            const float most = std::max(first[0], other[0]), a = first[1] == 0 ? 0 : std::exp(first[0] - most), b = std::exp(other[0] - most);
            first[0] = most;
            for (size_t d = 1; d < stride; d++) {
                first[d] = first[d] * a + other[d] * b;
            }
        }
        finish(result(dst, h / s.heads, h % s.heads), first, s.size);
    }
}

// compute computes attention, unless it is one that is not known here.
bool compute(const ggml_compute_params * params, ggml_tensor * dst) {
    shape s;
    if (!known(dst, s)) {
        return false;
    }
    const int64_t units = s.rows * s.key_heads * s.groups, enough = 4 * params->nth;
    s.parts = std::min<int64_t>(params->nth, (enough + units - 1) / units);
    if (s.parts > 1 && s.rows * s.heads * s.parts * (2 + s.size) * sizeof(float) <= params->wsize) {
        split(params, dst, s);
    } else {
        s.parts = 1;
        whole(params, dst, s);
    }
    return true;
}

} // namespace
#else
static bool compute(const ggml_compute_params *, ggml_tensor *) { return false; }
#endif

void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    if (params->use_ref || !compute(params, dst)) {
        __real_ggml_compute_forward_flash_attn_ext(params, dst);
    }
}
#endif
