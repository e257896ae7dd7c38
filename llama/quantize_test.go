package llama

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuantize(t *testing.T) {
	source := modelFile(t, chatModel)
	noOwners(t)
	out := filepath.Join(t.TempDir(), "q8.gguf")
	q8, err := ParseFileType("q8_0")
	must(t, err)

	wantError(t, Quantize(source, out, QuantizeParams{Type: q8}), ErrInvalid) // the source is quantized already
	if files, _ := os.ReadDir(filepath.Dir(out)); len(files) > 0 {
		t.Errorf("a refused quantization left %v", files)
	}
	must(t, Quantize(source, out, QuantizeParams{Type: q8, Requantize: true, DryRun: true}))
	if files, _ := os.ReadDir(filepath.Dir(out)); len(files) > 0 {
		t.Errorf("a dry run left %v", files)
	}
	must(t, Quantize(source, out, QuantizeParams{Type: q8, Requantize: true, Threads: 2}))
	m, err := Load(context.Background(), out, DefaultModelParams())
	must(t, err)
	closing(t, m)
	if m.Facts().FileType != "Q8_0" {
		t.Errorf("it is a %s", m.Facts().FileType)
	}
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	prefill(t, c, b, tokenize(t, m, prompt), 0, 0)
	if text := generate(t, c, b, newTestSampler(t, m, Greedy()), 0, 12); !strings.Contains(text, "Paris") {
		t.Errorf("it says %q", text)
	}

	pruned := filepath.Join(t.TempDir(), "pruned.gguf")
	must(t, Quantize(source, pruned, QuantizeParams{Type: q8, Requantize: true, Threads: 2, PruneLayers: []int{20, 10, 11}}))
	less, err := Load(context.Background(), pruned, DefaultModelParams())
	must(t, err)
	closing(t, less)
	if less.Facts().Layers != m.Facts().Layers-3 {
		t.Errorf("of %d layers without three there are %d", m.Facts().Layers, less.Facts().Layers)
	}

	wantError(t, Quantize(source, out, QuantizeParams{Type: q8, Requantize: true, PruneLayers: []int{3, -1}}), ErrInvalid)
	wantError(t, Quantize(filepath.Join(t.TempDir(), "absent"), out, QuantizeParams{Type: q8}), os.ErrNotExist)
	wantError(t, Quantize("main_test.go", out, QuantizeParams{Type: q8}), ErrNotGGUF)
	wantError(t, Quantize(source, out, QuantizeParams{Type: 12345, Requantize: true}), ErrInvalid)
	_, err = ParseFileType("Q9_X")
	wantError(t, err, ErrInvalid)
	if err := Quantize(source, filepath.Join(t.TempDir(), "no", "folder"), QuantizeParams{Type: q8, Requantize: true}); err == nil {
		t.Error("it wrote into a folder that is not there")
	}
}
