package llama

// #include "core_shim.h"
import "C"

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// modelHeader is what Load learns from a file's header, and llama.cpp does not tell or check.
type modelHeader struct {
	arch         string
	maxPositions int
	classifier   bool
	headDim      int // of keys; 0 when the file does not tell
	sections     int // dimensions that are rotated by the first three numbers of a position
	meta         map[string]any
}

// int returns a number of the architecture's metadata; the first one of an array; 0 when there is none.
func (h *modelHeader) int(key string) int {
	v := h.meta[h.arch+"."+key]
	if a, ok := v.(GGUFArray); ok && len(a.Values) > 0 {
		v = a.Values[0]
	}
	return int(max(math.MinInt32, min(math.MaxInt32, number(v))))
}

// splitName is the pattern of llama.cpp's split files: name-00001-of-00003.gguf.
var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// checkModelFile holds a model file, and the other files of a split one, against everything that llama.cpp takes for
// granted.
func checkModelFile(path string) (*modelHeader, error) {
	g, err := ReadGGUFFile(path)
	if err != nil {
		return nil, err
	}
	h, err := checkHeader(g)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	parts, _ := g.Meta["split.count"].(uint64)
	if parts <= 1 {
		return h, nil
	}
	name := splitName.FindStringSubmatch(filepath.Base(path))
	if name == nil || name[2] != "00001" || name[3] != fmt.Sprintf("%05d", parts) {
		return nil, fail("load model", ErrInvalid, "%s is one of %d files; load the first one, named …-00001-of-%05d.gguf", path, parts, parts)
	}
	for i := uint64(2); i <= parts; i++ {
		part := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%s.gguf", name[1], i, name[3]))
		g, err := ReadGGUFFile(part)
		if err != nil {
			return nil, err
		}
		if err := checkTensorTypes(g); err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		h.tensors(g)
	}
	return h, nil
}

// checkHeader looks at the metadata that llama.cpp reads without looking.
func checkHeader(g *GGUF) (*modelHeader, error) {
	const op = "check header"
	arch, ok := g.Meta["general.architecture"].(string)
	if !ok || arch == "" {
		return nil, fail(op, ErrCorrupt, "general.architecture is missing")
	}
	if tokens, _ := g.Meta[ggufTokens].(GGUFArray); tokens.twice != "" {
		return nil, fail(op, ErrCorrupt, "the vocabulary has %.64q twice", tokens.twice)
	}
	h := &modelHeader{arch: arch, meta: g.Meta}
	if err := h.checkNumbers(); err != nil {
		return nil, err
	}
	if wide := h.int("embedding_length_out"); wide > h.int("embedding_length") && !slices.Contains(widening, arch) {
		return nil, fail(op, ErrCorrupt, "embeddings of %d floats out of %d", wide, h.int("embedding_length"))
	}
	if err := checkTensorTypes(g); err != nil {
		return nil, err
	}
	h.tensors(g)
	for _, side := range []string{"enc", "dec"} { // without them llama.cpp follows a null pointer
		if name := side + ".blk.0.attn_rel_b.weight"; (arch == "t5" || arch == "t5encoder" && side == "enc") &&
			!slices.ContainsFunc(g.Tensors, func(t GGUFTensor) bool { return t.Name == name }) {
			return nil, fail(op, ErrMissingTensor, "%s", name)
		}
	}
	return h, nil
}

// checkNumbers finds the head's width, and refuses numbers on which the computation ends the process.
func (h *modelHeader) checkNumbers() error {
	const op = "check header"
	h.headDim = h.int("attention.key_length")
	if heads := h.int("attention.head_count"); h.headDim == 0 && heads > 0 {
		h.headDim = h.int("embedding_length") / heads
	}
	widest := max(h.headDim, h.int("attention.key_length_swa"), h.int("attention.key_length_mla"))
	for key, value := range h.meta {
		switch v := value.(type) {
		case float64:
			if strings.HasSuffix(key, "_epsilon") && !(v >= 0 && v <= 1) {
				return fail(op, ErrCorrupt, "%s is %v", key, v)
			}
		case uint64: // rotating no dimension takes for ever, and half of a pair cannot be rotated
			if strings.Contains(key, ".rope.dimension_count") && (v == 0 || v%2 != 0 || widest > 0 && v > uint64(widest)) {
				return fail(op, ErrCorrupt, "%s is %v; heads have %d", key, v, widest)
			}
		}
	}
	sections, _ := h.meta[h.arch+".rope.dimension_sections"].(GGUFArray)
	all := 0.0
	for i, n := range sections.Values {
		if all += n; n < 0 || widest > 0 && all > float64(widest) {
			return fail(op, ErrCorrupt, "rope.dimension_sections are %v; heads have %d", sections.Values, widest)
		}
		if i < 3 {
			h.sections = int(all)
		}
	}
	return nil
}

// widening are the architectures whose embeddings come out wider than they are inside.
var widening = []string{"deepseek4", "qwen4exp", "lfm2", "lfm2moe", "gemma4-assistant", "wavtokenizer-dec"}

// plain are tensors of more than one dimension, beside norms, whose numbers are computed with one by one.
var plain = regexp.MustCompile(`token_types|ssm_conv1d|shortconv\.conv|time_mix_(first|lerp|w[0-2]|[av][0-2]|g[12]|decay_w)|_norm\.weight$`)

// checkTensorTypes refuses types that llama.cpp cannot compute with, which it finds out by an assertion in the middle of
// the computation, or by following a null pointer. What it multiplies with may be quantized; vectors, norms and whatever
// is not named weight must be F32, as its converter writes them.
func checkTensorTypes(g *GGUF) error {
	for _, t := range g.Tensors {
		name := t.Name[strings.LastIndexByte(t.Name, '.')+1:]
		switch vector := len(t.Shape) < 2; {
		case name == "d2t" || name == "ffn_gate_tid2eid": // tables of integers
		case t.Type == C.GGML_TYPE_F32:
		case vector || name != "weight" && name != "lora_a" && name != "lora_b" || plain.MatchString(t.Name):
			return fail("check header", ErrCorrupt, "tensor %q must be F32, not of type %d", t.Name, t.Type)
		case C.ggml_get_type_traits_cpu(t.Type).vec_dot == nil:
			return fail("check header", ErrCorrupt, "tensor %q has type %d, with which nothing can be computed", t.Name, t.Type)
		}
	}
	return nil
}

func (h *modelHeader) tensors(g *GGUF) {
	for _, t := range g.Tensors {
		switch t.Name {
		case "position_embd.weight":
			if len(t.Shape) > 1 {
				h.maxPositions = int(min(t.Shape[1], 1<<30))
			}
		case "cls.weight", "cls.output.weight":
			h.classifier = true
		}
	}
}
