package models

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		return err
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

// The numbers of llama.cpp's pooling types.
const (
	poolingMean uint32 = 1
	poolingCLS  uint32 = 2
)

// readPooling reads sentence-transformers' pooling; a model without one is pooled by the mean.
func readPooling(dir string) (uint32, error) {
	path := filepath.Join(dir, "1_Pooling", "config.json")
	var p struct {
		CLS  bool `json:"pooling_mode_cls_token"`
		Mean bool `json:"pooling_mode_mean_tokens"`
	}
	err := readJSON(path, &p)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && p.Mean && !p.CLS:
		return poolingMean, nil
	case err != nil:
		return 0, err
	case p.CLS && !p.Mean:
		return poolingCLS, nil
	}
	return 0, fmt.Errorf("%s: %w: only pooling by mean or by CLS token", path, ErrUnsupported)
}

// The numbers of llama.cpp's token types.
const (
	tokenNormal  int32 = 1
	tokenControl int32 = 3
)

// setWordPiece writes vocab.txt as llama.cpp's BERT tokenizer wants it: pieces that begin a word carry ▁, pieces that go on
// lose their ##, special tokens stay as they are.
func setWordPiece(g *ggufFile, dir string, typeVocab uint32) (int, error) {
	path := filepath.Join(dir, "vocab.txt")
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	special := map[string]string{"[UNK]": "unknown", "[SEP]": "seperator", "[PAD]": "padding", "[CLS]": "cls", "[MASK]": "mask"}
	ids := map[string]uint32{}
	var tokens []string
	var types []int32
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			break
		}
		token, kind := lines.Text(), tokenNormal
		if role, ok := special[token]; ok {
			kind = tokenControl
			ids[role] = uint32(len(tokens))
		} else if rest, ok := strings.CutPrefix(token, "##"); ok {
			token = rest
		} else {
			token = "\u2581" + token
		}
		tokens, types = append(tokens, token), append(types, kind)
	}
	g.set("tokenizer.ggml.model", "bert")
	g.set("tokenizer.ggml.pre", "default")
	g.set("tokenizer.ggml.token_type_count", typeVocab)
	g.set("tokenizer.ggml.tokens", tokens)
	g.set("tokenizer.ggml.token_type", types)
	for _, role := range []string{"unknown", "seperator", "padding", "cls", "mask"} { // "seperator" is GGUF's own spelling
		id, ok := ids[role]
		if !ok {
			return 0, fmt.Errorf("%s: %w: there is no %s token", path, ErrInvalidFile, role)
		}
		g.set("tokenizer.ggml."+role+"_token_id", id)
	}
	return len(tokens), nil
}

// addBertTensors lists the tensors under llama.cpp's names. Matrices are written as kind; position and type embeddings,
// norms and biases stay float32, as llama.cpp's own converter keeps them.
func addBertTensors(g *ggufFile, s *safetensors, c *bertConfig, vocabulary uint64, kind tensorType) error {
	prefix := ""
	if _, ok := s.tensors["bert.embeddings.word_embeddings.weight"]; ok {
		prefix = "bert."
	}
	var bad error
	add := func(name, source string, as tensorType, shape ...uint64) {
		source = prefix + source
		e, ok := s.tensors[source]
		if !ok {
			bad = errors.Join(bad, fmt.Errorf("%w: the tensor %q is missing", ErrInvalidFile, source))
			return
		}
		// safetensors counts outermost first.
		match := len(e.Shape) == len(shape)
		for i := 0; match && i < len(shape); i++ {
			match = e.Shape[len(shape)-1-i] == shape[i]
		}
		if !match {
			bad = errors.Join(bad, fmt.Errorf("%w: the tensor %q has shape %v, expected %v reversed", ErrInvalidFile, source, e.Shape, shape))
			return
		}
		g.tensors = append(g.tensors, ggufTensor{name: name, shape: shape, kind: as, data: func() ([]float32, error) {
			data, _, err := s.floats(source)
			return data, err
		}})
	}
	hidden, inner := uint64(c.HiddenSize), uint64(c.Intermediate)
	linear := func(name, source string, in, out uint64) {
		add(name+".weight", source+".weight", kind, in, out)
		add(name+".bias", source+".bias", typeF32, out)
	}
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
		linear(to+"attn_v", from+"attention.self.value", hidden, hidden)
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
