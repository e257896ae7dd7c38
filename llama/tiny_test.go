package llama

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tinyModel is a model file put together here: a few kilobytes of weights that mean nothing, of an architecture for which
// there is no real file to test with, or to be damaged in one place.
type tinyModel struct {
	arch    string
	keys    []tinyKey
	tensors []tinyTensor
}

// tinyKey is metadata. Value is a number or bool of the kind's own Go type, a string, or a slice of these.
type tinyKey struct {
	name  string
	value any
}

type tinyTensor struct {
	name  string
	shape []uint64
	kind  uint32 // ggml_type
}

// The formats of tensors that tests need, with the bytes of a block and its length.
var tinyKinds = map[uint32][2]uint64{0: {4, 1}, 1: {2, 1}, 2: {18, 32}, 8: {34, 32}, 24: {1, 1}, 26: {4, 1}, 28: {8, 1}, 30: {2, 1}} // F32 F16 Q4_0 Q8_0 I8 I32 F64 BF16

// Sizes of tiny models.
const (
	tinyWidth   = 32
	tinyHeads   = 2
	tinyLayers  = 2
	tinyFeed    = 64
	tinyContext = 128
)

// tiny makes a model of an architecture, or an adapter for the one of llama's.
func tiny(arch string) *tinyModel {
	if arch == "adapter" {
		return tinyAdapter()
	}
	m := &tinyModel{arch: arch}
	m.set("general.architecture", arch)
	m.set("general.name", "tiny")
	m.set(arch+".context_length", uint32(tinyContext))
	m.set(arch+".embedding_length", uint32(tinyWidth))
	m.set(arch+".block_count", uint32(tinyLayers))
	m.set(arch+".feed_forward_length", uint32(tinyFeed))
	m.set(arch+".attention.head_count", uint32(tinyHeads))
	m.set(arch+".attention.layer_norm_rms_epsilon", float32(1e-5))
	switch arch {
	case "bert":
		m.set("bert.attention.layer_norm_epsilon", float32(1e-5))
		m.set("bert.attention.causal", false)
		m.set("bert.pooling_type", uint32(PoolingMean))
		m.set("tokenizer.ggml.token_type_count", uint32(2))
		m.wordPieces()
		m.bert()
	case "t5":
		m.set("t5.attention.relative_buckets_count", uint32(8))
		m.set("t5.decoder_start_token_id", uint32(0))
		m.pieces("t5")
		m.t5()
	case "mamba":
		m.set("mamba.ssm.conv_kernel", uint32(4))
		m.set("mamba.ssm.inner_size", uint32(2*tinyWidth))
		m.set("mamba.ssm.state_size", uint32(8))
		m.set("mamba.ssm.time_step_rank", uint32(4))
		m.bytePairs()
		m.mamba()
	case "gemma2":
		m.set("gemma2.attention.sliding_window", uint32(8))
		m.set("gemma2.attention.key_length", uint32(tinyWidth/tinyHeads))
		m.set("gemma2.attention.value_length", uint32(tinyWidth/tinyHeads))
		m.pieces("llama")
		m.transformer(1, "post_attention_norm", "post_ffw_norm")
	case "qwen2vl":
		m.set("qwen2vl.rope.dimension_sections", []int32{2, 3, 3, 0})
		m.set("qwen2vl.attention.head_count_kv", uint32(1))
		m.bytePairs()
		m.transformer(2)
	default:
		m.set(arch+".attention.head_count_kv", uint32(1))
		m.set(arch+".rope.dimension_count", uint32(tinyWidth/tinyHeads))
		m.bytePairs()
		m.transformer(2)
	}
	return m
}

func tinyAdapter() *tinyModel {
	m := &tinyModel{arch: "adapter"}
	m.set("general.type", "adapter")
	m.set("general.architecture", "llama")
	m.set("adapter.type", "lora")
	m.set("adapter.lora.alpha", float32(8))
	m.set("adapter.alora.invocation_tokens", []uint32{5, 6})
	for i := range tinyLayers {
		for name, width := range map[string]uint64{"attn_q": tinyWidth, "ffn_up": tinyFeed} {
			m.tensor(fmt.Sprintf("blk.%d.%s.weight.lora_a", i, name), tinyWidth, 4)
			m.tensor(fmt.Sprintf("blk.%d.%s.weight.lora_b", i, name), 4, width)
		}
	}
	slices.SortFunc(m.tensors, func(a, b tinyTensor) int { return strings.Compare(a.name, b.name) })
	return m
}

func (m *tinyModel) set(name string, value any) {
	if i := m.index(name); i >= 0 {
		m.keys[i].value = value
		return
	}
	m.keys = append(m.keys, tinyKey{name, value})
}

func (m *tinyModel) index(name string) int {
	return slices.IndexFunc(m.keys, func(k tinyKey) bool { return k.name == name })
}

// get returns a value; nil when there is none.
func (m *tinyModel) get(name string) any {
	if i := m.index(name); i >= 0 {
		return m.keys[i].value
	}
	return nil
}

func (m *tinyModel) vocabulary() uint64 { return uint64(len(m.get(ggufTokens).([]string))) }

func (m *tinyModel) tensor(name string, shape ...uint64) {
	m.tensors = append(m.tensors, tinyTensor{name: name, shape: shape})
}

// bytePairs is a tokenizer of GPT-2's kind: all bytes, a few pairs, a few special tokens.
func (m *tinyModel) bytePairs() {
	var tokens []string
	var types []int32
	add := func(kind int32, texts ...string) {
		for _, text := range texts {
			tokens, types = append(tokens, text), append(types, kind)
		}
	}
	next := rune(256)
	for b := range rune(256) {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			add(1, string(b))
		} else {
			add(1, string(next))
			next++
		}
	}
	add(1, "he", "ll", "hell")
	add(3, "<|endoftext|>", "<|im_start|>", "<|im_end|>")
	m.set("tokenizer.ggml.model", "gpt2")
	m.set("tokenizer.ggml.pre", "smollm")
	m.set(ggufTokens, tokens)
	m.set("tokenizer.ggml.token_type", types)
	m.set("tokenizer.ggml.merges", []string{"h e", "l l", "he ll"})
	m.set("tokenizer.ggml.bos_token_id", uint32(len(tokens)-2))
	m.set("tokenizer.ggml.eos_token_id", uint32(len(tokens)-1))
	m.set("tokenizer.ggml.add_bos_token", false)
	m.set("tokenizer.chat_template", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n")
}

// pieces is a tokenizer of SentencePiece's kind, with scores.
func (m *tinyModel) pieces(model string) {
	tokens, types, scores := []string{"<pad>", "</s>", "<unk>", "<s>"}, []int32{3, 3, 2, 3}, []float32{0, 0, 0, 0}
	for b := range 256 {
		if model == "llama" {
			tokens, types, scores = append(tokens, fmt.Sprintf("<0x%02X>", b)), append(types, 6), append(scores, 0)
		}
	}
	for i, text := range strings.Fields("▁ e t a o n i h s r l d u ▁t he ▁the ll hell \n") {
		tokens, types, scores = append(tokens, text), append(types, 1), append(scores, float32(-i-1))
	}
	tokens, types, scores = append(tokens, "\n"), append(types, 1), append(scores, -99)
	m.set("tokenizer.ggml.model", model)
	m.set(ggufTokens, tokens)
	m.set("tokenizer.ggml.token_type", types)
	m.set("tokenizer.ggml.scores", scores)
	m.set("tokenizer.ggml.eos_token_id", uint32(1))
	m.set("tokenizer.ggml.unknown_token_id", uint32(2))
	m.set("tokenizer.ggml.bos_token_id", uint32(3))
	m.set("tokenizer.ggml.add_bos_token", model == "llama")
}

// wordPieces is a tokenizer of BERT's kind.
func (m *tinyModel) wordPieces() {
	tokens := strings.Fields("[PAD] [UNK] [CLS] [SEP] [MASK] ▁the ▁hell ▁h e l o ing ▁a ▁, ▁.")
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = 1
		if i < 5 {
			types[i] = 3
		}
	}
	m.set("tokenizer.ggml.model", "bert")
	m.set("tokenizer.ggml.pre", "default")
	m.set(ggufTokens, tokens)
	m.set("tokenizer.ggml.token_type", types)
	for i, name := range []string{"padding", "unknown", "cls", "seperator", "mask"} {
		m.set("tokenizer.ggml."+name+"_token_id", uint32(i))
	}
	m.set("tokenizer.ggml.bos_token_id", uint32(2))
}

func (m *tinyModel) transformer(groups uint64, norms ...string) {
	kv := uint64(tinyWidth) / groups
	m.tensor("token_embd.weight", tinyWidth, m.vocabulary())
	m.tensor("output_norm.weight", tinyWidth)
	for i := range tinyLayers {
		b := fmt.Sprintf("blk.%d.", i)
		for _, norm := range append([]string{"attn_norm", "ffn_norm"}, norms...) {
			m.tensor(b+norm+".weight", tinyWidth)
		}
		m.tensor(b+"attn_q.weight", tinyWidth, tinyWidth)
		m.tensor(b+"attn_k.weight", tinyWidth, kv)
		m.tensor(b+"attn_v.weight", tinyWidth, kv)
		m.tensor(b+"attn_output.weight", tinyWidth, tinyWidth)
		m.tensor(b+"ffn_gate.weight", tinyWidth, tinyFeed)
		m.tensor(b+"ffn_up.weight", tinyWidth, tinyFeed)
		m.tensor(b+"ffn_down.weight", tinyFeed, tinyWidth)
	}
}

func (m *tinyModel) bert() {
	m.tensor("token_embd.weight", tinyWidth, m.vocabulary())
	m.tensor("token_types.weight", tinyWidth, 2)
	m.tensor("position_embd.weight", tinyWidth, tinyContext)
	norm := func(name string) {
		m.tensor(name+".weight", tinyWidth)
		m.tensor(name+".bias", tinyWidth)
	}
	norm("token_embd_norm")
	for i := range tinyLayers {
		b := fmt.Sprintf("blk.%d.", i)
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			m.tensor(b+name+".weight", tinyWidth, tinyWidth)
			m.tensor(b+name+".bias", tinyWidth)
		}
		norm(b + "attn_output_norm")
		norm(b + "layer_output_norm")
		m.tensor(b+"ffn_up.weight", tinyWidth, tinyFeed)
		m.tensor(b+"ffn_up.bias", tinyFeed)
		m.tensor(b+"ffn_down.weight", tinyFeed, tinyWidth)
		m.tensor(b+"ffn_down.bias", tinyWidth)
	}
}

func (m *tinyModel) t5() {
	m.tensor("token_embd.weight", tinyWidth, m.vocabulary())
	m.tensor("enc.output_norm.weight", tinyWidth)
	m.tensor("dec.output_norm.weight", tinyWidth)
	for i := range tinyLayers {
		for _, side := range []string{"enc", "dec"} {
			b := fmt.Sprintf("%s.blk.%d.", side, i)
			m.tensor(b+"attn_norm.weight", tinyWidth)
			if i == 0 {
				m.tensor(b+"attn_rel_b.weight", tinyHeads, 8)
			}
			attention := []string{"attn_"}
			if side == "dec" {
				m.tensor(b+"cross_attn_norm.weight", tinyWidth)
				attention = append(attention, "cross_attn_")
			}
			for _, a := range attention {
				for _, part := range []string{"q", "k", "v", "o"} {
					m.tensor(b+a+part+".weight", tinyWidth, tinyWidth)
				}
			}
			m.tensor(b+"ffn_norm.weight", tinyWidth)
			m.tensor(b+"ffn_up.weight", tinyWidth, tinyFeed)
			m.tensor(b+"ffn_down.weight", tinyFeed, tinyWidth)
		}
	}
}

func (m *tinyModel) mamba() {
	const inner, state, rank = 2 * tinyWidth, 8, 4
	m.tensor("token_embd.weight", tinyWidth, m.vocabulary())
	m.tensor("output_norm.weight", tinyWidth)
	for i := range tinyLayers {
		b := fmt.Sprintf("blk.%d.", i)
		m.tensor(b+"attn_norm.weight", tinyWidth)
		m.tensor(b+"ssm_in.weight", tinyWidth, 2*inner)
		m.tensor(b+"ssm_conv1d.weight", 4, inner)
		m.tensor(b+"ssm_conv1d.bias", inner)
		m.tensor(b+"ssm_x.weight", inner, rank+2*state)
		m.tensor(b+"ssm_dt.weight", rank, inner)
		m.tensor(b+"ssm_dt.bias", inner)
		m.tensor(b+"ssm_a", state, inner)
		m.tensor(b+"ssm_d", inner)
		m.tensor(b+"ssm_out.weight", inner, tinyWidth)
	}
}

// bytes writes the file. Weights are drawn from the tensors' names: ones in norms, small numbers elsewhere.
func (m *tinyModel) bytes() []byte {
	b := newGGUF(uint64(len(m.tensors)), uint64(len(m.keys)))
	for _, k := range m.keys {
		b.str(k.name)
		b.meta(k.value)
	}
	offset := uint64(0)
	var data bytes.Buffer
	for _, t := range m.tensors {
		b.tensor(t.name, t.kind, offset, t.shape...)
		n := uint64(1)
		for _, d := range t.shape {
			n *= d
		}
		size := n / tinyKinds[t.kind][1] * tinyKinds[t.kind][0]
		if t.kind == 0 {
			seed := uint32(len(t.name))*7919 + uint32(t.name[len(t.name)-1])
			weights := make([]byte, 0, size)
			for range n {
				seed = seed*1664525 + 1013904223
				w := (float32(seed>>8)/(1<<24) - 0.5) / 4
				if strings.Contains(t.name, "norm") {
					w = 1
				}
				weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(w))
			}
			data.Write(weights)
		} else {
			data.Write(make([]byte, size))
		}
		data.Write(make([]byte, pad(size, 32)-size))
		offset += pad(size, 32)
	}
	b.Write(make([]byte, pad(uint64(b.Len()), 32)-uint64(b.Len())))
	return append(b.Bytes(), data.Bytes()...)
}

// meta writes a value with its type.
func (b *ggufBuilder) meta(value any) {
	kinds := map[string]GGUFType{
		"uint8": GGUFUint8, "int8": GGUFInt8, "uint16": GGUFUint16, "int16": GGUFInt16, "uint32": GGUFUint32, "int32": GGUFInt32,
		"float32": GGUFFloat32, "bool": GGUFBool, "string": GGUFString, "uint64": GGUFUint64, "int64": GGUFInt64, "float64": GGUFFloat64,
	}
	name := fmt.Sprintf("%T", value)
	item, isArray := strings.CutPrefix(name, "[]")
	kind, ok := kinds[item]
	if !ok {
		panic("no GGUF type for " + name)
	}
	switch v := value.(type) {
	case string:
		b.num(uint32(kind)).str(v)
	case []string:
		b.num(uint32(GGUFArrayType), uint32(kind), uint64(len(v)))
		for _, s := range v {
			b.str(s)
		}
	default:
		if isArray {
			b.num(uint32(GGUFArrayType), uint32(kind), uint64(binary.Size(v)/int(ggufTypeSize[kind])))
		} else {
			b.num(uint32(kind))
		}
		b.num(v)
	}
}

func (m *tinyModel) write(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), m.arch+".gguf")
	must(tb, os.WriteFile(path, m.bytes(), 0o644))
	return path
}

// load loads a tiny model.
func (m *tinyModel) load(tb testing.TB) *Model {
	tb.Helper()
	noOwners(tb)
	p := DefaultModelParams()
	p.Load = LoadRead
	loaded, err := Load(tb.Context(), m.write(tb), p)
	must(tb, err)
	closing(tb, loaded)
	return loaded
}

var tinyArchs = []string{"llama", "bert", "t5", "mamba", "gemma2", "qwen2vl"}

// Each of the tiny models is one that llama.cpp computes with.
func TestTinyModels(t *testing.T) {
	for _, arch := range tinyArchs {
		t.Run(arch, func(t *testing.T) {
			m := tiny(arch).load(t)
			tokens := tokenize(t, m, "the hello hell")
			back, err := m.Vocab().Detokenize(tokens, true, false)
			must(t, err)
			if arch != "bert" && strings.TrimSpace(back) != "the hello hell" {
				t.Errorf("tokens came back as %q", back)
			}
			c := newTestContext(t, m, func(p *ContextParams) { p.Embeddings = arch == "bert"; p.Sequences = 2 })
			b := newTestBatch(t, 64, 1)
			compute := func() []float32 {
				b.Clear()
				for i, tok := range tokens {
					must(t, b.Add(tok, i, i == len(tokens)-1 || arch == "bert", 0))
				}
				if m.Facts().HasEncoder && m.Facts().HasDecoder {
					must(t, c.Encode(t.Context(), b))
				}
				must(t, c.Decode(t.Context(), b))
				var row []float32
				if arch == "bert" {
					row, err = c.SequenceEmbedding(0)
				} else {
					row, err = c.Logits(-1)
				}
				must(t, err)
				if mem := c.Memory(); c.HasMemory() {
					must(t, mem.Clear(false))
				}
				return slices.Clone(row)
			}
			first, second := compute(), compute()
			if !slices.Equal(first, second) || slices.ContainsFunc(first, func(f float32) bool { return math.IsNaN(float64(f)) }) || slices.Max(first) == slices.Min(first) {
				t.Errorf("it gives %.3v, then %.3v", first[:5], second[:5])
			}
		})
	}
}
