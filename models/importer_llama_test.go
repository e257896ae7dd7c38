//go:build cgo

package models

import (
	"slices"
	"testing"

	"github.com/quipu-ai/quipu/llama"
)

func TestImportedFile(t *testing.T) {
	for kind, want := range map[string]struct{ file, matrix, size uint64 }{"f16": {1, 1, 64 * 32 * 2}, "q8_0": {7, 8, 64 * 34}} {
		t.Run(kind, func(t *testing.T) {
			g, err := llama.ReadGGUFFile(tinyBert().imported(t, kind))
			must(t, err)
			for key, value := range map[string]any{
				"general.architecture": "bert", "general.name": "tiny-bert", "general.file_type": want.file, "bert.block_count": uint64(1),
				"bert.context_length": uint64(16), "bert.embedding_length": uint64(32), "bert.feed_forward_length": uint64(64),
				"bert.attention.head_count": uint64(2), "bert.attention.causal": false, "bert.attention.layer_norm_epsilon": float64(float32(1e-12)),
				"bert.pooling_type": uint64(1), "tokenizer.ggml.model": "bert", "tokenizer.ggml.token_type_count": uint64(2),
				"tokenizer.ggml.unknown_token_id": uint64(2), "tokenizer.ggml.seperator_token_id": uint64(6), "tokenizer.ggml.padding_token_id": uint64(0),
				"tokenizer.ggml.bos_token_id": uint64(5), "tokenizer.ggml.cls_token_id": uint64(5), "tokenizer.ggml.mask_token_id": uint64(7),
				"tokenizer.ggml.normalizer.lowercase": true, "tokenizer.ggml.normalizer.strip_accents": true,
			} {
				if g.Meta[key] != value {
					t.Errorf("%s is %v, want %v", key, g.Meta[key], value)
				}
			}
			if tokens := g.Meta["tokenizer.ggml.tokens"].(llama.GGUFArray); tokens.Len != 12 || tokens.Type != llama.GGUFString {
				t.Errorf("tokens %+v", tokens)
			}
			if types := g.Meta["tokenizer.ggml.token_type"].(llama.GGUFArray); !slices.Equal(types.Values, []float64{3, 1, 3, 1, 1, 3, 3, 3, 1, 1, 1, 1}) {
				t.Errorf("types of tokens %v", types.Values)
			}
			tensors := map[string]llama.GGUFTensor{}
			for _, tensor := range g.Tensors {
				tensors[tensor.Name] = tensor
			}
			up := tensors["blk.0.ffn_up.weight"]
			if !slices.Equal(up.Shape, []uint64{32, 64}) || uint64(up.Type) != want.matrix || up.Size != want.size {
				t.Errorf("blk.0.ffn_up.weight %+v", up)
			}
			for name, format := range map[string]uint64{
				"token_embd.weight": want.matrix, "blk.0.attn_v.weight": 1, "blk.0.attn_q.bias": 0, "position_embd.weight": 0, "token_types.weight": 0, "token_embd_norm.weight": 0,
			} {
				if uint64(tensors[name].Type) != format {
					t.Errorf("%s is of type %d, want %d", name, tensors[name].Type, format)
				}
			}
			if len(g.Tensors) != 21 {
				t.Errorf("%d tensors", len(g.Tensors))
			}
		})
	}
}

// llama.cpp computes what BERT's rules say, for every pooling, and takes the special tokens from where the vocabulary has them.
func TestTinyBertRuns(t *testing.T) {
	const text = "The bikes. Über ride"
	for name, c := range map[string]struct {
		change func(*folder)
		tokens []int32
		pool   func(rows [][]float32) []float32
	}{
		"mean": {func(*folder) {}, []int32{5, 1, 3, 4, 8, 11, 9, 6}, mean},
		"CLS": {func(f *folder) {
			f.pooling["pooling_mode_cls_token"], f.pooling["pooling_mode_mean_tokens"] = true, false
		}, []int32{5, 1, 3, 4, 8, 11, 9, 6}, func(rows [][]float32) []float32 { return rows[0] }},
		"cased":   {func(f *folder) { f.tokenizer = map[string]any{"do_lower_case": false} }, []int32{5, 2, 3, 4, 8, 10, 9, 6}, mean},
		"accents": {func(f *folder) { f.tokenizer = map[string]any{"do_lower_case": true, "strip_accents": false} }, []int32{5, 1, 3, 4, 8, 2, 9, 6}, mean},
	} {
		t.Run(name, func(t *testing.T) {
			f := tinyBert()
			c.change(f)
			e := loadEmbedder(t, f.imported(t, "f16"))
			tokens := e.tokens(text)
			if !slices.Equal(tokens, c.tokens) {
				t.Fatalf("tokens %v, want %v", tokens, c.tokens)
			}
			if got := cosine(e.embed(tokens), c.pool(readBert(t, f.write(t)).rows(tokens))); got < 0.9999 {
				t.Errorf("cosine %.6f", got)
			}
		})
	}
}
