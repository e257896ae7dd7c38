package llama

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestFacts(t *testing.T) {
	m := loadModel(t, chatModel)
	f := m.Facts()
	t.Logf("%+v", f)
	if f.Architecture != "llama" || f.FileType != "Q4_1" || f.Embedding != 576 || f.Layers != 30 || f.Heads != 9 || f.HeadsKV != 3 ||
		f.ContextTrain != 8192 || f.Recurrent || f.Hybrid || !f.HasDecoder || f.HasEncoder || f.RopeType != "norm" ||
		f.Parameters < 134e6 || f.SizeBytes < 50e6 || f.DecoderStart != NoToken {
		t.Errorf("facts %+v", f)
	}
	if v, ok := m.Meta("general.architecture"); !ok || v != "llama" || m.Metadata()["llama.block_count"] != "30" {
		t.Errorf("metadata %v", m.Metadata())
	}
	if tmpl, ok := m.ChatTemplate(""); !ok || !strings.Contains(tmpl, "im_start") {
		t.Errorf("chat template %q", tmpl)
	}
	if _, ok := m.ChatTemplate("tool_use"); ok {
		t.Error("it has no template for tools")
	}

	// Without weights the facts that the file tells are the same.
	v := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true }).Facts()
	if !v.VocabOnly || v.ContextTrain != f.ContextTrain || v.Layers != f.Layers || v.Heads != f.Heads || v.HeadsKV != f.HeadsKV || v.Embedding != f.Embedding {
		t.Errorf("facts without weights %+v", v)
	}
}

func TestLoadErrors(t *testing.T) {
	source := modelFile(t, chatModel)
	noOwners(t)
	data, err := os.ReadFile(source)
	must(t, err)
	g, err := ReadGGUF(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o644))
		return path
	}
	// The same length, so that nothing else moves.
	replaced := func(old, new string) []byte {
		b := bytes.Clone(data[:g.Data])
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("the header has no %q", old)
		}
		return append(bytes.Replace(b, []byte(old), []byte(new), 1), data[g.Data:]...)
	}
	tests := []struct {
		name string
		path string
		want error
	}{
		{"absent", filepath.Join(dir, "absent.gguf"), os.ErrNotExist},
		{"folder", dir, ErrNotGGUF},
		{"empty", write("empty.gguf", nil), ErrNotGGUF},
		{"text", write("text.gguf", []byte("this is no model, but long enough for a header of some kind")), ErrNotGGUF},
		{"magic only", write("magic.gguf", data[:4]), ErrTruncated},
		{"header cut", write("header.gguf", data[:g.Data/2]), ErrTruncated},
		{"data cut", write("data.gguf", data[:len(data)-1000]), ErrTruncated},
		{"old version", write("v1.gguf", append([]byte("GGUF\x01\x00\x00\x00"), data[8:]...)), ErrCorrupt},
		{"other endianness", write("be.gguf", append([]byte("GGUF\x00\x00\x00\x03"), data[8:]...)), ErrCorrupt},
		{"unknown architecture", write("arch.gguf", replaced("general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", "general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llamb")), ErrUnsupportedArch},
		{"missing tensor", write("tensor.gguf", replaced("blk.3.attn_q.weight", "blk.3.attn_p.weight")), ErrMissingTensor},
		{"missing key", write("key.gguf", replaced("llama.embedding_length", "llama.embedding_lengtX")), ErrCorrupt},
	}
	for _, test := range tests {
		m, err := Load(context.Background(), test.path, DefaultModelParams())
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		} else {
			t.Logf("%s: %v", test.name, err)
		}
		if m != nil {
			m.Close()
		}
	}

	p := DefaultModelParams()
	p.Devices = []string{"no such device"}
	_, err = Load(context.Background(), source, p)
	wantError(t, err, ErrInvalid)
	p = DefaultModelParams()
	p.TensorSplit = []float32{-1}
	_, err = Load(context.Background(), source, p)
	wantError(t, err, ErrInvalid)

	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	_, err = NewContext(m, DefaultContextParams())
	wantError(t, err, ErrUnsupported)
}

// Closing waits for those who tokenize, and whoever comes later is told.
func TestCloseWhileTokenizing(t *testing.T) {
	m := loadModel(t, chatModel, func(p *ModelParams) { p.VocabOnly = true })
	var wg sync.WaitGroup
	begun := make(chan struct{}, 8)
	for range cap(begun) {
		wg.Go(func() {
			for n := 0; ; n++ {
				tokens, err := m.Vocab().Tokenize("Somebody is still reading this, word by word.", true, true)
				if err == nil {
					_, err = m.Vocab().Detokenize(tokens, false, true)
				}
				if n == 0 {
					begun <- struct{}{}
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	must(t, m.Close())
	wg.Wait()
}

func TestLoadProgressAndCancel(t *testing.T) {
	source := modelFile(t, chatModel)
	noOwners(t)
	p := DefaultModelParams()
	p.Load = LoadRead
	var seen []float32
	p.Progress = func(done float32) { seen = append(seen, done) }
	m, err := Load(context.Background(), source, p)
	must(t, err)
	must(t, m.Close())
	if len(seen) < 3 || seen[len(seen)-1] != 1 || !slices.IsSorted(seen) {
		t.Errorf("progress %v", seen)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.Progress = func(done float32) {
		if done > 0.3 {
			cancel()
		}
	}
	_, err = Load(ctx, source, p)
	wantError(t, err, ErrAborted)
	wantError(t, err, context.Canceled)
	_, err = Load(ctx, source, p)
	wantError(t, err, context.Canceled)

	p.Progress = func(float32) { panic("in a callback") }
	if _, err = Load(context.Background(), source, p); err == nil {
		t.Error("a panicking callback did not stop the load")
	}
}

func TestLog(t *testing.T) {
	source := modelFile(t, chatModel)
	noOwners(t)
	var lines []string
	SetLog(func(level LogLevel, text string) {
		if level > LogDebug {
			lines = append(lines, level.String()+" "+text)
		}
		if len(lines) == 3 {
			panic("in a callback")
		}
	})
	defer SetLog(nil)
	p := DefaultModelParams()
	p.VocabOnly = true
	m, err := Load(context.Background(), source, p)
	must(t, err)
	must(t, m.Close())
	if len(lines) < 10 || slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "\n") }) {
		t.Errorf("%d lines", len(lines))
	}
	SetLog(nil)
	n := len(lines)
	m, err = Load(context.Background(), source, p)
	must(t, err)
	must(t, m.Close())
	if len(lines) != n {
		t.Error("a silenced log goes on")
	}
}

func TestBackend(t *testing.T) {
	must(t, CheckCPU())
	if Version() == "" || BuildKey() == "" || SystemInfo() == "" {
		t.Errorf("%q %q %q", Version(), BuildKey(), SystemInfo())
	}
	devices := Devices()
	t.Logf("%s %s %+v GPU %v", Version(), BuildKey(), devices, SupportsGPU())
	if !slices.ContainsFunc(devices, func(d Device) bool { return d.Kind == DeviceCPU && d.MemoryTotal > 0 }) {
		t.Errorf("devices %+v", devices)
	}
}
