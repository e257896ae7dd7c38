package models

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/x448/float16"
)

// folder is a BERT model as it lies on the hub: its files are made from these when it is written.
type folder struct {
	config, pooling, tokenizer map[string]any // nil for no file
	modules                    []string
	vocabulary                 []string
	tensors                    map[string]tensor
}

type tensor struct {
	dtype string
	shape []int
	data  []float32
}

// numbers gives n values between -1 and 1 that depend on nothing but the name.
func numbers(name string, n int) []float32 {
	state := uint32(2166136261)
	for _, c := range []byte(name) {
		state = (state ^ uint32(c)) * 16777619
	}
	out := make([]float32, n)
	for i := range out {
		state = state*1664525 + 1013904223
		out[i] = float32(state>>8)/(1<<23) - 1
	}
	return out
}

// tinyBert is a whole model of one layer with 32 numbers to a token.
func tinyBert() *folder {
	f := &folder{
		config: map[string]any{
			"architectures": []string{"BertModel"}, "model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
			"num_attention_heads": 2, "max_position_embeddings": 16, "layer_norm_eps": 1e-12, "type_vocab_size": 2, "hidden_act": "gelu",
		},
		pooling:    map[string]any{"word_embedding_dimension": 32, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true},
		vocabulary: []string{"[PAD]", "the", "[UNK]", "bike", "##s", "[CLS]", "[SEP]", "[MASK]", ".", "ride", "Über", "uber"},
		tensors:    map[string]tensor{},
	}
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		f.tensors[name] = tensor{"F32", shape, numbers(name, n)}
	}
	both := func(name string, shape ...int) {
		add(name+".weight", shape...)
		add(name+".bias", shape[0])
	}
	add("embeddings.word_embeddings.weight", len(f.vocabulary), 32)
	add("embeddings.position_embeddings.weight", 16, 32)
	add("embeddings.token_type_embeddings.weight", 2, 32)
	both("embeddings.LayerNorm", 32)
	for _, part := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"} {
		both("encoder.layer.0."+part, 32, 32)
	}
	both("encoder.layer.0.attention.output.LayerNorm", 32)
	both("encoder.layer.0.intermediate.dense", 64, 32)
	both("encoder.layer.0.output.dense", 32, 64)
	both("encoder.layer.0.output.LayerNorm", 32)
	both("pooler.dense", 32, 32) // not part of an embedding
	return f
}

// rename turns the tensors' names into those of another kind of file.
func (f *folder) rename(to func(string) string) {
	renamed := map[string]tensor{}
	for name, t := range f.tensors {
		renamed[to(name)] = t
	}
	f.tensors = renamed
}

func (f *folder) write(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "tiny-bert")
	object := func(name string, value any) {
		text, err := json.Marshal(value)
		must(tb, err)
		write(tb, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	for name, file := range map[string]map[string]any{"config.json": f.config, "1_Pooling/config.json": f.pooling, "tokenizer_config.json": f.tokenizer} {
		if file != nil {
			object(name, file)
		}
	}
	if f.modules != nil {
		var list []map[string]string
		for _, m := range f.modules {
			list = append(list, map[string]string{"type": "sentence_transformers.models." + m})
		}
		object("modules.json", list)
	}
	if f.vocabulary != nil {
		write(tb, filepath.Join(dir, "vocab.txt"), []byte(strings.Join(f.vocabulary, "\n")+"\n"))
	}
	if f.tensors != nil {
		header, data := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, []byte(nil)
		for _, name := range slices.Sorted(maps.Keys(f.tensors)) {
			t := f.tensors[name]
			begin := len(data)
			data = append(data, encode(t.dtype, t.data...)...)
			header[name] = map[string]any{"dtype": t.dtype, "shape": t.shape, "data_offsets": []int{begin, len(data)}}
		}
		text, err := json.Marshal(header)
		must(tb, err)
		write(tb, filepath.Join(dir, "model.safetensors"), safetensorsFile(string(text), data))
	}
	return dir
}

// imported is the file that the folder is imported as.
func (f *folder) imported(t *testing.T, kind string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.gguf")
	must(t, Import(t.Context(), f.write(t), out, ImportOptions{Type: kind}))
	return out
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func TestImportIsDeterministic(t *testing.T) {
	for _, kind := range []string{"f16", "q8_0"} {
		if first, second := contents(t, tinyBert().imported(t, kind)), contents(t, tinyBert().imported(t, kind)); !bytes.Equal(first, second) {
			t.Errorf("%s: two imports differ", kind)
		}
	}
	f16 := contents(t, tinyBert().imported(t, "f16"))
	if !bytes.Equal(f16, contents(t, tinyBert().imported(t, ""))) {
		t.Error("f16 is not the default")
	}
	if q8 := contents(t, tinyBert().imported(t, "Q8_0")); len(q8) >= len(f16) {
		t.Errorf("q8_0 takes %d bytes, f16 %d", len(q8), len(f16))
	}
}

// Models are saved under several names and formats; what they hold is the same.
func TestImportKnowsTheNames(t *testing.T) {
	want := contents(t, tinyBert().imported(t, "f16"))
	for name, change := range map[string]func(*folder){
		"with a head of pretraining": func(f *folder) {
			f.config["architectures"] = []string{"BertForMaskedLM"}
			f.rename(func(s string) string { return "bert." + s })
			f.tensors["cls.predictions.bias"] = tensor{"F32", []int{2}, []float32{1, 2}}
		},
		"BERT's first names of norms": func(f *folder) {
			f.rename(strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta").Replace)
		},
		"no pooling is pooling by mean": func(f *folder) { f.pooling = nil },
		"the usual modules":             func(f *folder) { f.modules = []string{"Transformer", "Pooling", "Normalize"} },
		"an uncased tokenizer":          func(f *folder) { f.tokenizer = map[string]any{"do_lower_case": true, "strip_accents": nil} },
		"no optional keys":              func(f *folder) { delete(f.config, "layer_norm_eps"); delete(f.config, "hidden_act") },
	} {
		t.Run(name, func(t *testing.T) {
			f := tinyBert()
			change(f)
			if !bytes.Equal(contents(t, f.imported(t, "f16")), want) {
				t.Error("the file differs")
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	const weight = "encoder.layer.0.intermediate.dense.weight"
	for name, c := range map[string]struct {
		change func(*folder)
		kind   error
		words  []string
	}{
		"no config":               {func(f *folder) { f.config = nil }, fs.ErrNotExist, []string{"config.json"}},
		"another architecture":    {func(f *folder) { f.config["model_type"] = "llama" }, ErrUnsupported, []string{"llama", "bert"}},
		"a classifier":            {func(f *folder) { f.config["architectures"] = []string{"BertForSequenceClassification"} }, ErrUnsupported, []string{"BertForSequenceClassification"}},
		"relative positions":      {func(f *folder) { f.config["position_embedding_type"] = "relative_key" }, ErrUnsupported, []string{"relative_key"}},
		"another activation":      {func(f *folder) { f.config["hidden_act"] = "relu" }, ErrUnsupported, []string{"relu"}},
		"no layers":               {func(f *folder) { f.config["num_hidden_layers"] = 0 }, ErrInvalidFile, []string{"config.json"}},
		"heads that do not fit":   {func(f *folder) { f.config["num_attention_heads"] = 5 }, ErrInvalidFile, []string{"config.json"}},
		"an odd size":             {func(f *folder) { f.config["hidden_size"] = 34; f.config["num_attention_heads"] = 1 }, ErrUnsupported, []string{"multiples of 32"}},
		"a size that is text":     {func(f *folder) { f.config["hidden_size"] = "many" }, ErrInvalidFile, []string{"config.json"}},
		"a layer after BERT":      {func(f *folder) { f.modules = []string{"Transformer", "Pooling", "Dense"} }, ErrUnsupported, []string{"Dense"}},
		"no way of pooling":       {func(f *folder) { f.pooling["pooling_mode_mean_tokens"] = false }, ErrUnsupported, []string{"1_Pooling"}},
		"two ways of pooling":     {func(f *folder) { f.pooling["pooling_mode_cls_token"] = true }, ErrUnsupported, []string{"cls_token", "mean_tokens"}},
		"pooling by the largest":  {func(f *folder) { f.pooling["pooling_mode_max_tokens"] = true }, ErrUnsupported, []string{"max_tokens"}},
		"no vocabulary":           {func(f *folder) { f.vocabulary = nil }, fs.ErrNotExist, []string{"vocab.txt"}},
		"a missing special token": {func(f *folder) { f.vocabulary[5] = "[BOS]" }, ErrInvalidFile, []string{"vocab.txt", "[CLS]"}},
		"a token twice":           {func(f *folder) { f.vocabulary[9] = "bike" }, ErrInvalidFile, []string{"lines 4 and 10", `"bike"`}},
		"a token of no text":      {func(f *folder) { f.vocabulary[9] = "\xff" }, ErrInvalidFile, []string{"line 10", "UTF-8"}},
		"a token without end":     {func(f *folder) { f.vocabulary[9] = strings.Repeat("x", 1<<17) }, ErrInvalidFile, []string{"vocab.txt"}},
		"a shorter vocabulary":    {func(f *folder) { f.vocabulary = f.vocabulary[:11] }, ErrInvalidFile, []string{"word_embeddings", "[12 32]", "[11 32]"}},
		"Chinese left together":   {func(f *folder) { f.tokenizer = map[string]any{"tokenize_chinese_chars": false} }, ErrUnsupported, []string{"tokenize_chinese_chars"}},
		"no weights":              {func(f *folder) { f.tensors = nil }, fs.ErrNotExist, []string{"model.safetensors"}},
		"a missing tensor":        {func(f *folder) { delete(f.tensors, weight) }, ErrInvalidFile, []string{"model.safetensors", weight, "missing"}},
		"a tensor turned": {func(f *folder) {
			f.tensors[weight] = tensor{"F32", []int{32, 64}, f.tensors[weight].data}
		}, ErrInvalidFile, []string{weight, "[32 64]", "[64 32]"}},
		"a tensor of integers": {func(f *folder) {
			f.tensors[weight] = tensor{"I8", []int{64, 32}, nil}
		}, ErrUnsupported, []string{weight, "I8"}},
		"a weight that is no number":      {func(f *folder) { f.tensors[weight].data[7] = float32(math.NaN()) }, ErrInvalidFile, []string{"blk.0.ffn_up.weight"}},
		"a weight too large for f16":      {func(f *folder) { f.tensors[weight].data[7] = 70000 }, ErrInvalidFile, []string{"blk.0.ffn_up.weight"}},
		"a bias that is infinite":         {func(f *folder) { f.tensors["embeddings.LayerNorm.bias"].data[0] = float32(math.Inf(1)) }, ErrInvalidFile, []string{"token_embd_norm.bias"}},
		"a damaged file of the tokenizer": {func(f *folder) { f.tokenizer = map[string]any{"do_lower_case": "yes"} }, ErrInvalidFile, []string{"tokenizer_config.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := tinyBert()
			c.change(f)
			out := t.TempDir()
			wantError(t, Import(t.Context(), f.write(t), filepath.Join(out, "out.gguf"), ImportOptions{}), c.kind, c.words...)
			wantFiles(t, out)
		})
	}
	wantText(t, Import(t.Context(), t.TempDir(), "out.gguf", ImportOptions{Type: "q4_0"}), "q4_0", "f16 or q8_0")
}

func TestImportStops(t *testing.T) {
	dir, out := tinyBert().write(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	err := Import(ctx, dir, filepath.Join(out, "out.gguf"), ImportOptions{Progress: func(done, total int) {
		if steps++; done != steps || total != 21 {
			t.Errorf("step %d says %d of %d", steps, done, total)
		}
		if done == 3 {
			cancel()
		}
	}})
	wantError(t, err, context.Canceled)
	if steps != 3 {
		t.Errorf("it stopped after %d tensors", steps)
	}
	wantFiles(t, out)
	if err := Import(t.Context(), dir, filepath.Join(out, "none", "out.gguf"), ImportOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
	// What was there is replaced only by a whole file.
	path := filepath.Join(out, "out.gguf")
	write(t, path, []byte("old"))
	wantError(t, Import(ctx, dir, path, ImportOptions{}), context.Canceled)
	wantFile(t, path, []byte("old"))
	must(t, Import(t.Context(), dir, path, ImportOptions{}))
	wantFiles(t, out, "out.gguf")
	wantFile(t, path, contents(t, tinyBert().imported(t, "f16")))
}

func TestQuantizeQ8(t *testing.T) {
	values := append(numbers("q8", 64), make([]float32, 32)...)
	values[5] = 4 // the largest number of a block is met exactly, but for the rounding of its scale
	got := quantizeQ8(values)
	if len(got) != 3*34 {
		t.Fatalf("%d bytes", len(got))
	}
	for i, f := range values {
		block := got[i/32*34:]
		scale := float64(float16.Frombits(binary.LittleEndian.Uint16(block)).Float32())
		if q := float64(int8(block[2+i%32])) * scale; math.Abs(q-float64(f)) > scale*0.51 {
			t.Errorf("number %d: %g became %g, in steps of %g", i, f, q, scale)
		}
	}
	if top := int8(got[2+5]); top != 127 {
		t.Errorf("the largest number is %d of 127", top)
	}
	if !bytes.Equal(got[2*34:], make([]byte, 34)) {
		t.Error("zeros are not zeros")
	}
}

// failing is a disk that is full after n bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	g := &ggufFile{tensors: []ggufTensor{{name: "a", shape: []uint64{1 << 19}, kind: typeF32, data: func() ([]float32, error) { return make([]float32, 1<<19), nil }}}}
	g.set("text", "x")
	for _, room := range []int{0, 1 << 20} {
		wantError(t, g.write(&failing{left: room}, func(int) error { return nil }), errFull)
	}
	odd := &ggufFile{}
	odd.set("odd", struct{}{})
	wantText(t, odd.write(&failing{left: 1 << 20}, nil), "struct {}")
	wantError(t, writeAtomically(filepath.Join(t.TempDir(), "x"), func(*os.File) error { return fmt.Errorf("write: %w", errFull) }), errFull)
}
