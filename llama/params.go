package llama

// #include "core_shim.h"
import "C"

import (
	"fmt"
	"hash/fnv"
	"runtime"
)

// FlashAttention switches the fused attention kernel.
type FlashAttention int

// The settings of flash attention.
const (
	FlashAuto FlashAttention = C.LLAMA_FLASH_ATTN_TYPE_AUTO
	FlashOff  FlashAttention = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
	FlashOn   FlashAttention = C.LLAMA_FLASH_ATTN_TYPE_ENABLED
)

// Pooling says how the embeddings of a sequence's tokens become one.
type Pooling int

// The kinds of pooling.
const (
	PoolingModel Pooling = C.LLAMA_POOLING_TYPE_UNSPECIFIED // what the model's file says
	PoolingNone  Pooling = C.LLAMA_POOLING_TYPE_NONE
	PoolingMean  Pooling = C.LLAMA_POOLING_TYPE_MEAN
	PoolingCLS   Pooling = C.LLAMA_POOLING_TYPE_CLS
	PoolingLast  Pooling = C.LLAMA_POOLING_TYPE_LAST
	PoolingRank  Pooling = C.LLAMA_POOLING_TYPE_RANK // a classifier's scores instead of an embedding
)

// Attention says what a token attends to.
type Attention int

// The kinds of attention.
const (
	AttentionModel     Attention = C.LLAMA_ATTENTION_TYPE_UNSPECIFIED
	AttentionCausal    Attention = C.LLAMA_ATTENTION_TYPE_CAUSAL
	AttentionNonCausal Attention = C.LLAMA_ATTENTION_TYPE_NON_CAUSAL
)

// CacheType is the number format of the KV cache.
type CacheType int

// The formats of the KV cache. Quantized values need flash attention.
const (
	CacheF32   CacheType = C.GGML_TYPE_F32
	CacheF16   CacheType = C.GGML_TYPE_F16
	CacheBF16  CacheType = C.GGML_TYPE_BF16
	CacheQ8_0  CacheType = C.GGML_TYPE_Q8_0
	CacheQ5_1  CacheType = C.GGML_TYPE_Q5_1
	CacheQ5_0  CacheType = C.GGML_TYPE_Q5_0
	CacheQ4_1  CacheType = C.GGML_TYPE_Q4_1
	CacheQ4_0  CacheType = C.GGML_TYPE_Q4_0
	CacheIQ4NL CacheType = C.GGML_TYPE_IQ4_NL
)

func (t CacheType) quantized() bool { return t != CacheF32 && t != CacheF16 && t != CacheBF16 }

func (t CacheType) known() bool {
	switch t {
	case CacheF32, CacheF16, CacheBF16, CacheQ8_0, CacheQ5_1, CacheQ5_0, CacheQ4_1, CacheQ4_0, CacheIQ4NL:
		return true
	}
	return false
}

// RopeScaling says how positions beyond the trained context are squeezed.
type RopeScaling int

// The kinds of RoPE scaling.
const (
	RopeScalingModel    RopeScaling = C.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED
	RopeScalingNone     RopeScaling = C.LLAMA_ROPE_SCALING_TYPE_NONE
	RopeScalingLinear   RopeScaling = C.LLAMA_ROPE_SCALING_TYPE_LINEAR
	RopeScalingYaRN     RopeScaling = C.LLAMA_ROPE_SCALING_TYPE_YARN
	RopeScalingLongRope RopeScaling = C.LLAMA_ROPE_SCALING_TYPE_LONGROPE
)

// ContextParams says how a Context computes. Start from DefaultContextParams.
type ContextParams struct {
	ContextSize  int // tokens in the KV cache; 0 takes what the model was trained with; rounded up to 256
	BatchSize    int // most tokens in one Decode; no more than ContextSize counts
	UBatchSize   int // most tokens computed at once; 0 is BatchSize
	Sequences    int // sequences that run at once, 1..256
	MaxOutputs   int // most outputs of one Decode; 0 is BatchSize
	Threads      int // for single tokens
	BatchThreads int // for larger batches

	FlashAttention FlashAttention
	Attention      Attention
	CacheTypeK     CacheType
	CacheTypeV     CacheType
	// UnifiedKV lets all sequences share one KV cache of ContextSize tokens, so that Memory.Copy shares instead of
	// copying. Without it each sequence has ContextSize/Sequences of its own.
	UnifiedKV bool
	// FullSWA keeps the whole history of sliding-window models, so that sequences can be cut and shared anywhere.
	FullSWA bool

	Embeddings bool    // compute embeddings; every token is then an output
	Pooling    Pooling // of embeddings

	OffloadKQV bool // attention and KV cache on the GPU
	OffloadOps bool // large host operations on the GPU

	RopeScaling                                               RopeScaling
	RopeFreqBase                                              float32 // 0 is the model's
	RopeFreqScale                                             float32 // 0 is the model's
	YaRNExtFactor, YaRNAttnFactor, YaRNBetaFast, YaRNBetaSlow float32 // negative is the model's
	YaRNContext                                               int     // 0 is the model's
}

// DefaultContextParams are llama.cpp's, with one thread per processor that this process may use and a unified KV cache.
func DefaultContextParams() ContextParams {
	d := C.llama_context_default_params()
	return ContextParams{
		ContextSize: int(d.n_ctx), BatchSize: int(d.n_batch), UBatchSize: int(d.n_ubatch), Sequences: int(d.n_seq_max),
		Threads: runtime.GOMAXPROCS(0), BatchThreads: runtime.GOMAXPROCS(0),
		FlashAttention: FlashAttention(d.flash_attn_type), Attention: Attention(d.attention_type),
		CacheTypeK: CacheType(d.type_k), CacheTypeV: CacheType(d.type_v), UnifiedKV: true, FullSWA: bool(d.swa_full),
		Embeddings: bool(d.embeddings), Pooling: Pooling(d.pooling_type), OffloadKQV: bool(d.offload_kqv), OffloadOps: bool(d.op_offload),
		RopeScaling: RopeScaling(d.rope_scaling_type), RopeFreqBase: float32(d.rope_freq_base), RopeFreqScale: float32(d.rope_freq_scale),
		YaRNExtFactor: float32(d.yarn_ext_factor), YaRNAttnFactor: float32(d.yarn_attn_factor),
		YaRNBetaFast: float32(d.yarn_beta_fast), YaRNBetaSlow: float32(d.yarn_beta_slow), YaRNContext: int(d.yarn_orig_ctx),
	}
}

func (p *ContextParams) causal(m *Model) bool {
	if p.Attention != AttentionModel {
		return p.Attention == AttentionCausal
	}
	causal, ok := m.meta[m.facts.Architecture+".attention.causal"]
	return !ok || causal == "true"
}

// validate refuses what llama.cpp would assert on.
func (p *ContextParams) validate(m *Model) error {
	const op = "new context"
	bad := func(format string, args ...any) error { return fail(op, ErrInvalid, format, args...) }
	size := p.ContextSize
	if size == 0 {
		size = m.facts.ContextTrain
	}
	batch := p.BatchSize
	if p.causal(m) {
		batch = min(batch, size)
	}
	head := m.headDim
	switch {
	case m.facts.VocabOnly:
		return fail(op, ErrUnsupported, "the model was loaded without weights")
	case size < 1 || size > 1<<24:
		return bad("context size %d must be in 1..%d", size, 1<<24)
	case p.BatchSize < 1 || p.BatchSize > 1<<20 || p.UBatchSize < 0 || p.UBatchSize > 1<<20:
		return bad("batch size %d and micro-batch size %d must be in 1..%d", p.BatchSize, p.UBatchSize, 1<<20)
	case p.Sequences < 1 || p.Sequences > MaxSequences:
		return bad("%d sequences; must be in 1..%d", p.Sequences, MaxSequences)
	case batch < p.Sequences:
		return bad("a batch of %d tokens cannot hold one of each of %d sequences", batch, p.Sequences)
	case p.MaxOutputs < 0 || p.MaxOutputs > 0 && p.MaxOutputs < p.Sequences:
		return bad("%d outputs for %d sequences", p.MaxOutputs, p.Sequences)
	case p.MaxOutputs > 0 && p.Embeddings && p.MaxOutputs < batch:
		return bad("with embeddings every token is an output: MaxOutputs %d is less than the batch of %d", p.MaxOutputs, batch)
	case p.Threads < 1 || p.BatchThreads < 1 || p.Threads > C.GGML_MAX_N_THREADS || p.BatchThreads > C.GGML_MAX_N_THREADS:
		return bad("%d and %d threads; must be in 1..%d", p.Threads, p.BatchThreads, C.GGML_MAX_N_THREADS)
	case !p.CacheTypeK.known() || !p.CacheTypeV.known():
		return bad("the KV cache cannot have types %d and %d", p.CacheTypeK, p.CacheTypeV)
	case p.CacheTypeV.quantized() && p.FlashAttention == FlashOff:
		return bad("a quantized V cache needs flash attention")
	case (p.CacheTypeK.quantized() || p.CacheTypeV.quantized()) && head%32 != 0:
		return bad("a quantized KV cache needs heads of a multiple of 32; this model's have %d", head)
	case p.FlashAttention < FlashAuto || p.FlashAttention > FlashOn:
		return bad("flash attention %d", p.FlashAttention)
	case p.Pooling < PoolingModel || p.Pooling > PoolingRank:
		return bad("pooling %d", p.Pooling)
	case p.Pooling == PoolingRank && len(m.facts.ClassLabels) == 0:
		return fail(op, ErrUnsupported, "the model has no classifier, which rank pooling needs")
	case p.Attention < AttentionModel || p.Attention > AttentionNonCausal:
		return bad("attention %d", p.Attention)
	case p.RopeScaling < RopeScalingModel || p.RopeScaling > RopeScalingLongRope:
		return bad("RoPE scaling %d", p.RopeScaling)
	case !finite(p.RopeFreqBase) || !finite(p.RopeFreqScale) || p.RopeFreqBase < 0 || p.RopeFreqScale < 0 || p.YaRNContext < 0:
		return bad("RoPE frequencies must be finite and not negative")
	case !finite(p.YaRNExtFactor) || !finite(p.YaRNAttnFactor) || !finite(p.YaRNBetaFast) || !finite(p.YaRNBetaSlow):
		return bad("YaRN factors must be finite")
	}
	return nil
}

func (p *ContextParams) c() C.struct_llama_context_params {
	c := C.llama_context_default_params()
	c.n_ctx, c.n_batch, c.n_ubatch = C.uint32_t(p.ContextSize), C.uint32_t(p.BatchSize), C.uint32_t(p.UBatchSize)
	c.n_seq_max, c.n_outputs_max = C.uint32_t(p.Sequences), C.uint32_t(p.MaxOutputs)
	c.n_threads, c.n_threads_batch = C.int32_t(p.Threads), C.int32_t(p.BatchThreads)
	c.flash_attn_type = C.enum_llama_flash_attn_type(p.FlashAttention)
	c.attention_type = C.enum_llama_attention_type(p.Attention)
	c.type_k, c.type_v = C.enum_ggml_type(p.CacheTypeK), C.enum_ggml_type(p.CacheTypeV)
	c.kv_unified, c.swa_full = C.bool(p.UnifiedKV), C.bool(p.FullSWA)
	c.embeddings, c.pooling_type = C.bool(p.Embeddings), C.enum_llama_pooling_type(p.Pooling)
	c.offload_kqv, c.op_offload = C.bool(p.OffloadKQV), C.bool(p.OffloadOps)
	c.rope_scaling_type = C.enum_llama_rope_scaling_type(p.RopeScaling)
	c.rope_freq_base, c.rope_freq_scale = C.float(p.RopeFreqBase), C.float(p.RopeFreqScale)
	c.yarn_ext_factor, c.yarn_attn_factor = C.float(p.YaRNExtFactor), C.float(p.YaRNAttnFactor)
	c.yarn_beta_fast, c.yarn_beta_slow = C.float(p.YaRNBetaFast), C.float(p.YaRNBetaSlow)
	c.yarn_orig_ctx = C.uint32_t(p.YaRNContext)
	return c
}

// stateID tells apart what saved states depend on: the model and how its cache is laid out.
func stateID(m *Model, p ContextParams) uint64 {
	h := fnv.New64a()
	f := &m.facts
	fmt.Fprint(h, buildKey, f.Architecture, f.Description, f.Parameters, f.SizeBytes, f.Layers, f.HeadsKV,
		p.CacheTypeK, p.CacheTypeV, p.FlashAttention != FlashOff, p.FullSWA)
	return h.Sum64()
}
