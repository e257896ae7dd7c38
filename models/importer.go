package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ImportOptions say what an import makes.
type ImportOptions struct {
	// Type is f16 (or empty) or q8_0.
	Type string
	// Name is general.name of the file; empty is the folder's name.
	Name string
	// Progress is told how many tensors of how many are written.
	Progress func(done, total int)
}

// bertConfig is what matters of config.json.
type bertConfig struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	HiddenSize    uint32   `json:"hidden_size"`
	Intermediate  uint32   `json:"intermediate_size"`
	Layers        uint32   `json:"num_hidden_layers"`
	Heads         uint32   `json:"num_attention_heads"`
	Positions     uint32   `json:"max_position_embeddings"`
	Epsilon       float32  `json:"layer_norm_eps"`
	TypeVocab     uint32   `json:"type_vocab_size"`
	Activation    string   `json:"hidden_act"`
	PositionType  string   `json:"position_embedding_type"`
}

// Import turns a folder with a BERT model (model.safetensors, config.json, vocab.txt, 1_Pooling/config.json) into a GGUF file
// that llama.cpp runs as an embedding model. The same input gives the same bytes. The file appears under its name only when
// it is whole; ctx stops the work.
func Import(ctx context.Context, dir, out string, o ImportOptions) error {
	matrix := typeF16
	fileType := uint32(1) // llama.cpp's number of "mostly F16"
	switch strings.ToLower(o.Type) {
	case "", "f16":
	case "q8_0":
		matrix, fileType = typeQ8_0, 7
	default:
		return fmt.Errorf("import %s: type %q: use f16 or q8_0", dir, o.Type)
	}
	if o.Name == "" {
		o.Name = filepath.Base(dir)
	}
	config, err := readBertConfig(dir)
	if err != nil {
		return err
	}
	g := &ggufFile{}
	g.set("general.architecture", "bert")
	g.set("general.type", "model")
	g.set("general.name", o.Name)
	g.set("general.file_type", fileType)
	g.set("bert.block_count", config.Layers)
	g.set("bert.context_length", config.Positions)
	g.set("bert.embedding_length", config.HiddenSize)
	g.set("bert.feed_forward_length", config.Intermediate)
	g.set("bert.attention.head_count", config.Heads)
	g.set("bert.attention.layer_norm_epsilon", config.Epsilon)
	g.set("bert.attention.causal", false)
	if err := checkModules(dir); err != nil {
		return err
	}
	pooling, err := readPooling(dir)
	if err != nil {
		return err
	}
	g.set("bert.pooling_type", pooling)
	vocabulary, err := setWordPiece(g, dir, config.TypeVocab)
	if err != nil {
		return err
	}
	tensors, err := openSafetensors(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer tensors.close()
	if err := addBertTensors(g, tensors, config, uint64(vocabulary), matrix); err != nil {
		return fmt.Errorf("%s: %w", tensors.file.Name(), err)
	}
	return writeAtomically(out, func(f *os.File) error {
		return g.write(f, func(n int) error {
			if o.Progress != nil {
				o.Progress(n, len(g.tensors))
			}
			return ctx.Err()
		})
	})
}

func readBertConfig(dir string) (*bertConfig, error) {
	path := filepath.Join(dir, "config.json")
	c := bertConfig{TypeVocab: 2, Epsilon: 1e-12, PositionType: "absolute", Activation: "gelu"}
	if err := readJSON(path, &c); err != nil {
		return nil, err
	}
	if c.ModelType != "bert" {
		return nil, fmt.Errorf("%s: %w: model_type is %q; the importer knows bert", path, ErrUnsupported, c.ModelType)
	}
	switch {
	case !embeds(c.Architectures):
		return nil, fmt.Errorf("%s: %w: %s gives scores or spans, not embeddings", path, ErrUnsupported, strings.Join(c.Architectures, ", "))
	case c.PositionType != "absolute":
		return nil, fmt.Errorf("%s: %w: position_embedding_type %q; only absolute", path, ErrUnsupported, c.PositionType)
	case c.Activation != "gelu":
		return nil, fmt.Errorf("%s: %w: hidden_act %q; only gelu", path, ErrUnsupported, c.Activation)
	case c.HiddenSize == 0 || c.HiddenSize > 1<<16 || c.Layers == 0 || c.Layers > 512 || c.Heads == 0 || c.HiddenSize%c.Heads != 0 ||
		c.Intermediate == 0 || c.Positions == 0 || c.Positions > 1<<20:
		return nil, fmt.Errorf("%s: %w: sizes that no BERT model has", path, ErrInvalidFile)
	case c.HiddenSize%q8Block != 0 || c.Intermediate%q8Block != 0:
		return nil, fmt.Errorf("%s: %w: sizes must be multiples of %d", path, ErrUnsupported, q8Block)
	}
	return &c, nil
}

// embeds tells whether a model's last layer gives embeddings: without a head, or with the one of pretraining, which is dropped.
func embeds(architectures []string) bool {
	for _, a := range architectures {
		for _, head := range []string{"Classification", "QuestionAnswering", "MultipleChoice"} {
			if strings.Contains(a, head) {
				return false
			}
		}
	}
	return true
}

// checkModules refuses sentence-transformers models with layers of their own after BERT.
func checkModules(dir string) error {
	path := filepath.Join(dir, "modules.json")
	var modules []struct {
		Type string `json:"type"`
	}
	if err := readJSON(path, &modules); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, m := range modules {
		switch kind := m.Type[strings.LastIndex(m.Type, ".")+1:]; kind {
		case "Transformer", "Pooling", "Normalize":
		default:
			return fmt.Errorf("%s: %w: a %s layer after BERT", path, ErrUnsupported, kind)
		}
	}
	return nil
}

// The numbers of llama.cpp's pooling types.
const (
	poolingMean uint32 = 1
	poolingCLS  uint32 = 2
)

// readPooling reads sentence-transformers' pooling; a model without one is pooled by the mean.
func readPooling(dir string) (uint32, error) {
	path := filepath.Join(dir, "1_Pooling", "config.json")
	var config map[string]any
	if err := readJSON(path, &config); errors.Is(err, fs.ErrNotExist) {
		return poolingMean, nil
	} else if err != nil {
		return 0, err
	}
	var modes []string
	for key, value := range config {
		if mode, ok := strings.CutPrefix(key, "pooling_mode_"); ok && value == true {
			modes = append(modes, mode)
		}
	}
	if len(modes) == 1 && modes[0] == "mean_tokens" {
		return poolingMean, nil
	}
	if len(modes) == 1 && modes[0] == "cls_token" {
		return poolingCLS, nil
	}
	slices.Sort(modes)
	return 0, fmt.Errorf("%s: %w: pooling by %q; only by mean_tokens or by cls_token", path, ErrUnsupported, modes)
}

// oldNorm turns a norm's names into those of BERT's first files.
var oldNorm = strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta")

// addBertTensors lists the tensors under llama.cpp's names. Matrices are written as kind; position and type embeddings,
// norms and biases stay float32, as llama.cpp's own converter keeps them. The matrices of attention's values stay F16: half
// of what Q8_0 costs in likeness comes from them, and they are a twenty-fifth of the weights.
func addBertTensors(g *ggufFile, s *safetensors, c *bertConfig, vocabulary uint64, kind tensorType) error {
	prefix := ""
	if _, ok := s.tensors["bert.embeddings.word_embeddings.weight"]; ok {
		prefix = "bert."
	}
	var bad error
	add := func(name, source string, as tensorType, shape ...uint64) {
		source = prefix + source
		e, ok := s.tensors[source]
		if old := oldNorm.Replace(source); !ok && old != source {
			if e, ok = s.tensors[old]; ok {
				source = old
			}
		}
		outermostFirst := slices.Clone(shape)
		slices.Reverse(outermostFirst)
		switch {
		case bad != nil: // the first is enough
		case !ok:
			bad = fmt.Errorf("%w: the tensor %q is missing", ErrInvalidFile, source)
		case !slices.Equal(e.Shape, outermostFirst):
			bad = fmt.Errorf("%w: the tensor %q has shape %v, expected %v", ErrInvalidFile, source, e.Shape, outermostFirst)
		case dtypeWidth[e.DType] == 0:
			bad = fmt.Errorf("%w: the tensor %q is in %s; F32, F16 and BF16 are known", ErrUnsupported, source, e.DType)
		}
		g.tensors = append(g.tensors, ggufTensor{name: name, shape: shape, kind: as, data: func() ([]float32, error) { return s.floats(source) }})
	}
	hidden, inner := uint64(c.HiddenSize), uint64(c.Intermediate)
	linearAs := func(as tensorType, name, source string, in, out uint64) {
		add(name+".weight", source+".weight", as, in, out)
		add(name+".bias", source+".bias", typeF32, out)
	}
	linear := func(name, source string, in, out uint64) { linearAs(kind, name, source, in, out) }
	norm := func(name, source string) {
		add(name+".weight", source+".weight", typeF32, hidden)
		add(name+".bias", source+".bias", typeF32, hidden)
	}
	add("token_embd.weight", "embeddings.word_embeddings.weight", kind, hidden, vocabulary)
	add("position_embd.weight", "embeddings.position_embeddings.weight", typeF32, hidden, uint64(c.Positions))
	add("token_types.weight", "embeddings.token_type_embeddings.weight", typeF32, hidden, uint64(c.TypeVocab))
	norm("token_embd_norm", "embeddings.LayerNorm")
	for i := range c.Layers {
		to, from := fmt.Sprintf("blk.%d.", i), fmt.Sprintf("encoder.layer.%d.", i)
		linear(to+"attn_q", from+"attention.self.query", hidden, hidden)
		linear(to+"attn_k", from+"attention.self.key", hidden, hidden)
		linearAs(typeF16, to+"attn_v", from+"attention.self.value", hidden, hidden)
		linear(to+"attn_output", from+"attention.output.dense", hidden, hidden)
		norm(to+"attn_output_norm", from+"attention.output.LayerNorm")
		linear(to+"ffn_up", from+"intermediate.dense", hidden, inner)
		linear(to+"ffn_down", from+"output.dense", inner, hidden)
		norm(to+"layer_output_norm", from+"output.LayerNorm")
	}
	return bad
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrInvalidFile, err)
	}
	return nil
}

// writeAtomically writes a file beside its place and renames it when it is whole and on the disk.
func writeAtomically(path string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
