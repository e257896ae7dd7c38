// The C face of the calls into llama.cpp that may throw, plus what Go cannot write itself: callbacks and log capture.
// No C++ exception leaves a function declared here.
#ifndef QUIPU_CORE_SHIM_H
#define QUIPU_CORE_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// Why a call failed; the order is known to errors in backend.go.
enum core_kind {
    CORE_OK = 0,
    CORE_FAILED,
    CORE_NO_MEMORY,
    CORE_MISSING_TENSOR,
    CORE_UNKNOWN_ARCH,
    CORE_CORRUPT,
    CORE_REJECTED,
};

// The first error that llama.cpp logged or threw on this thread during the call.
typedef struct core_err {
    int  kind;
    char msg[512];
} core_err;

// Logging. Lines reach the Go function behind the handle; 0 drops them. Safe to call at any time.
void core_init(void);
void core_log_set(uintptr_t handle);

// Models. go_progress is a cgo.Handle, or 0.
struct llama_model * core_model_load(const char * path, struct llama_model_params params, uintptr_t go_progress, core_err * err);

// Contexts. A stop flag lives on the C heap: set from any thread, polled by the computing ones.
typedef struct core_stop core_stop;
core_stop * core_stop_new(void);
void        core_stop_set(core_stop * stop, int value);
void        core_stop_free(core_stop * stop);

struct llama_context * core_context_new(struct llama_model * model, struct llama_context_params params, core_stop * stop, core_err * err);
int core_decode(struct llama_context * ctx, struct llama_batch batch, bool encode, core_err * err);

// Vocabulary. Negative results as in llama.h; INT32_MIN with err set when it threw. With stack > 0 tokenizing runs in a
// thread of its own with that many bytes of stack, because the regular expressions recurse for each character.
int32_t core_tokenize(const struct llama_vocab * vocab, const char * text, int32_t len, llama_token * out, int32_t cap, bool add_special, bool parse_special, size_t stack, core_err * err);
int32_t core_detokenize(const struct llama_vocab * vocab, const llama_token * tokens, int32_t n, char * out, int32_t cap, bool remove_special, bool unparse_special, core_err * err);

// Memory. Returns false where llama.cpp does.
enum core_mem_op { CORE_MEM_RM, CORE_MEM_CP, CORE_MEM_KEEP, CORE_MEM_ADD, CORE_MEM_DIV, CORE_MEM_CLEAR };
bool core_memory(struct llama_context * ctx, enum core_mem_op op, int32_t a, int32_t b, int32_t p0, int32_t p1, int32_t arg, core_err * err);

// Samplers: a chain, and which of its samplers are grammars.
typedef struct core_sampler core_sampler;

// What goes into applying a chain and comes out: how many candidates, which is chosen (-1 for none), are they sorted.
typedef struct core_choice {
    size_t  n;
    int64_t selected;
    bool    sorted;
} core_choice;

core_sampler * core_sampler_new(void);
void           core_sampler_add(core_sampler * s, struct llama_sampler * stage);
bool           core_sampler_add_grammar(core_sampler * s, const struct llama_vocab * vocab, const char * grammar, const char * root,
                                        bool lazy, const char ** patterns, size_t n_patterns, const llama_token * tokens, size_t n_tokens, core_err * err);
struct llama_sampler * core_sampler_init_dry(const struct llama_vocab * vocab, float multiplier, float base, int32_t allowed, int32_t last_n,
                                             const char ** breakers, size_t n_breakers, core_err * err);
bool           core_sampler_apply(core_sampler * s, llama_token_data * data, core_choice * choice, core_err * err);
bool           core_sampler_accept(core_sampler * s, llama_token token, core_err * err);
bool           core_sampler_reset(core_sampler * s, core_err * err);
core_sampler * core_sampler_clone(const core_sampler * s, core_err * err);
int32_t        core_sampler_len(const core_sampler * s);
const char *   core_sampler_name(const core_sampler * s, int32_t i);
uint32_t       core_sampler_seed(const core_sampler * s);
void           core_sampler_free(core_sampler * s);

// The one grammar of a chain that can still constrain; null when there is none, or several.
struct llama_sampler * core_sampler_grammar(core_sampler * s);

// The tokens of a vocabulary by their texts: a tree of characters in preorder, and behind the last node one more. A node's
// tokens begin where its number says and end where the next node's begin. Partial ones end inside the next character.
typedef struct core_node {
    uint32_t c;
    int32_t  end; // the first node behind its descendants
    int32_t  tokens;
    int32_t  partial;
} core_node;

typedef struct core_spellings {
    const core_node *   nodes;
    const llama_token * tokens;
    const llama_token * partial;
    const llama_token * ends; // of generation
    size_t              n_ends;
    const llama_token * odd; // not UTF-8 in any other way
    size_t              n_odd;
} core_spellings;

// Sets the bits of all tokens that a grammar allows next; what is there before stays. Returns false when it can't tell: the
// grammar awaits its trigger, stands inside a character, has tokens as elements, or the budget of nodes is used up. Leaves the
// grammar as it is.
bool core_grammar_allowed(struct llama_sampler * grammar, const core_spellings * spellings, int64_t budget, uint64_t * allowed, core_err * err);

// Writes the text that a grammar forces next, whole characters of at most cap bytes, and returns its length. complete tells
// that the grammar has nothing behind it. Leaves the grammar as it is.
size_t core_grammar_forced(struct llama_sampler * grammar, char * out, size_t cap, bool * complete, core_err * err);

// Finds all tokens whose logits are at least a threshold, of which there are at least k, in the order of ids; NaN counts as
// none. Returns 0 where that takes a list of all: k is above the number of blocks, or more than cap tokens are as likely.
// maxima and order have room for a number for each block.
enum { CORE_TOP_BLOCK = 32 };
size_t core_top(const float * logits, size_t n, size_t k, float * maxima, float * order, llama_token_data * out, size_t cap);

// Adapters.
struct llama_adapter_lora * core_lora_load(struct llama_model * model, const char * path, core_err * err);
bool core_lora_set(struct llama_context * ctx, struct llama_adapter_lora ** adapters, size_t n, float * scales, core_err * err);

// State. seq < 0 means the whole context; 0 bytes with err set is a failure.
size_t core_state_size(struct llama_context * ctx, int32_t seq, uint32_t flags, core_err * err);
size_t core_state_get(struct llama_context * ctx, uint8_t * dst, size_t size, int32_t seq, uint32_t flags, core_err * err);
size_t core_state_set(struct llama_context * ctx, const uint8_t * src, size_t size, int32_t seq, uint32_t flags, core_err * err);

// Turns the pairs of n heads, which lie one behind the other, by the same angles: turn holds cosine and sine of each pair. Of a
// head's size elements the first rot turn; its pairs are (i, i+rot/2) when neox, else (2i, 2i+1).
void core_rotate(void * heads, bool f16, size_t n, size_t size, size_t rot, bool neox, const float * turn);

// Quantization.
bool core_quantize(const char * in, const char * out, const struct llama_model_quantize_params * params, core_err * err);

#ifdef __cplusplus
}
#endif

#endif
