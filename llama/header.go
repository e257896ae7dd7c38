package llama

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
)

// modelHeader is what Load learns from a file's header, and llama.cpp does not tell or check.
type modelHeader struct {
	arch         string
	maxPositions int
	classifier   bool
	headDim      int // of keys; 0 when the file does not tell
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
	h.tensors(g)
	h.headDim = h.int("attention.key_length")
	if heads := h.int("attention.head_count"); h.headDim == 0 && heads > 0 {
		h.headDim = h.int("embedding_length") / heads
	}
	return h, nil
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
