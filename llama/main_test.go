package llama

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The test binary is also the child process of tests that must survive a crash.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "damage-child":
			os.Exit(damageChild(os.Args[2:]))
		case "run-child":
			os.Exit(runChild(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	chatModel   = "SmolLM2-135M-Instruct.Q4_1.gguf"
	embedModel  = "all-MiniLM-L6-v2.f16.gguf"
	rerankModel = "minilm-l6-selfdistilled-reranker-delta-r8-q8_0.gguf"
	toolModel   = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
	loraFile    = "lora-smollm2-135m-random-r4-s0.3.gguf"
)

// sharedModels is the folder of models and templates that no package ships: QUIPU_TEST_SHARED holds it, or shared beside the
// repository.
func sharedModels() string {
	if shared := os.Getenv("QUIPU_TEST_SHARED"); shared != "" {
		return filepath.Join(shared, "models")
	}
	return filepath.FromSlash("../../shared/models")
}

// modelFile finds a test model, or skips the test.
func modelFile(tb testing.TB, name string) string {
	tb.Helper()
	folders := []string{os.Getenv("QUIPU_TEST_MODELS"), sharedModels()}
	if folders[0] == "" {
		cache := os.Getenv("QUIPU_CACHE")
		if cache == "" {
			if user, err := os.UserCacheDir(); err == nil {
				cache = filepath.Join(user, "quipu")
			}
		}
		folders[0] = filepath.Join(cache, "models")
	}
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	tb.Skipf("%s is missing: run `make test-models`, or set QUIPU_TEST_MODELS to a folder that holds it", name)
	return ""
}

// noOwners fails the test when it leaves C memory behind.
func noOwners(tb testing.TB) {
	tb.Helper()
	before := LiveOwners()
	tb.Cleanup(func() {
		if live := LiveOwners(); !maps.Equal(live, before) {
			tb.Errorf("open are %v, before %v", live, before)
		}
	})
}

func closing(tb testing.TB, c interface{ Close() error }) {
	tb.Helper()
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
}

func loadModel(tb testing.TB, name string, change ...func(*ModelParams)) *Model {
	tb.Helper()
	path := modelFile(tb, name)
	noOwners(tb)
	p := DefaultModelParams()
	for _, f := range change {
		f(&p)
	}
	m, err := Load(context.Background(), path, p)
	if err != nil {
		tb.Fatal(err)
	}
	closing(tb, m)
	return m
}

func newTestContext(tb testing.TB, m *Model, change ...func(*ContextParams)) *Context {
	tb.Helper()
	p := DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Threads, p.BatchThreads = 512, 256, 128, 2, 2
	for _, f := range change {
		f(&p)
	}
	c, err := NewContext(m, p)
	if err != nil {
		tb.Fatal(err)
	}
	closing(tb, c)
	return c
}

func newTestBatch(tb testing.TB, capacity, perToken int) *Batch {
	tb.Helper()
	b, err := NewBatch(capacity, perToken)
	if err != nil {
		tb.Fatal(err)
	}
	closing(tb, b)
	return b
}

func newTestSampler(tb testing.TB, m *Model, stages ...Stage) *Sampler {
	tb.Helper()
	s, err := NewSampler(m, stages...)
	if err != nil {
		tb.Fatal(err)
	}
	closing(tb, s)
	return s
}

func tokenize(tb testing.TB, m *Model, text string) []Token {
	tb.Helper()
	tokens, err := m.Vocab().Tokenize(text, true, true)
	if err != nil {
		tb.Fatal(err)
	}
	return tokens
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantError(tb testing.TB, err, kind error) {
	tb.Helper()
	if !errors.Is(err, kind) {
		tb.Errorf("got error %v, want %v", err, kind)
	}
}

// prefill decodes tokens into sequence from position on, with an output at the end.
func prefill(tb testing.TB, c *Context, b *Batch, tokens []Token, position, sequence int) {
	tb.Helper()
	for len(tokens) > 0 {
		n := min(len(tokens), b.Cap(), c.BatchSize())
		b.Clear()
		for i, t := range tokens[:n] {
			must(tb, b.Add(t, position+i, i == n-1, sequence))
		}
		must(tb, c.Decode(context.Background(), b))
		tokens, position = tokens[n:], position+n
	}
}

// generate samples n tokens after what sequence holds, whose last output is the last row of the last batch.
func generate(tb testing.TB, c *Context, b *Batch, s *Sampler, sequence, n int) string {
	tb.Helper()
	var out []byte
	for range n {
		t, err := s.Sample(c, -1)
		must(tb, err)
		if c.Model().Vocab().IsEOG(t) {
			break
		}
		out, err = c.Model().Vocab().AppendPiece(out, t, false)
		must(tb, err)
		b.Clear()
		must(tb, b.Add(t, c.Memory().PosMax(sequence)+1, true, sequence))
		must(tb, c.Decode(context.Background(), b))
	}
	return string(out)
}

const prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
