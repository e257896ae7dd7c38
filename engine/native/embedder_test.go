package native_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/llama"
)

func openEmbedder(t *testing.T) *native.Embedder {
	t.Helper()
	e, err := native.LoadEmbedder(t.Context(), modelFile(t, embeddingModel), native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
		noOwners(t)
	})
	return e
}

func TestEmbed(t *testing.T) {
	e := openEmbedder(t)
	if i := e.Info(); i.Dimensions != 384 || i.MaxInput != 512 || i.Architecture != "bert" || i.Name != "all-MiniLM-L6-v2.f16" {
		t.Errorf("info %+v", i)
	}
	rows := enginetest.Embed(t, e, "How do I reset my password?", "I forgot my login and want a new one.", "The bicycle has 21 gears.")
	if same, other := enginetest.Dot(rows[0], rows[1]), enginetest.Dot(rows[0], rows[2]); same < other+0.2 {
		t.Errorf("alike %.3f, unlike %.3f", same, other)
	}
	// Texts that tokenizers have little to say about are texts, too.
	odd := []string{"", " ", "\n\t", "\x00", "\xff\xfe", "!!!", "[CLS] [SEP] [PAD]", "👩‍👩‍👧‍👦", "\u200b\ufeff", "東京", strings.Repeat("x", 300), strings.Repeat("e\u0301", 50)}
	counts, err := e.CountTokens(odd)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range enginetest.Embed(t, e, odd...) {
		if slices.ContainsFunc(row, func(f float32) bool { return math.IsNaN(float64(f)) }) || counts[i] < 2 {
			t.Errorf("%.20q has %d tokens and gives %v", odd[i], counts[i], row[:3])
		}
	}
	if c, err := e.CountTokens([]string{"[CLS]"}); err != nil || c[0] < 4 {
		t.Errorf("what looks like a special token is text: %v tokens, %v", c, err)
	}
}

// Models of another kind say what they are.
func TestWrongKinds(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		load func(t *testing.T) (interface{ Close() error }, error)
		want string
	}{
		{"a chat model to embed with", func(t *testing.T) (interface{ Close() error }, error) {
			return native.LoadEmbedder(t.Context(), modelFile(t, chatModel), native.Options{})
		}, "names no pooling: it is not an embedding model"},
		{"an embedding model to chat with", func(t *testing.T) (interface{ Close() error }, error) {
			return native.Load(t.Context(), modelFile(t, embeddingModel), native.Options{})
		}, "is a bert model for embeddings, which does not generate text: load it as the embedding model"},
		{"a reranking model to embed with", func(t *testing.T) (interface{ Close() error }, error) {
			return native.LoadEmbedder(t.Context(), modelFile(t, rerankModel), native.Options{})
		}, "is a reranking model: it gives scores, not embeddings"},
		{"an embedding model to rerank with", func(t *testing.T) (interface{ Close() error }, error) {
			return native.LoadReranker(t.Context(), modelFile(t, embeddingModel), native.Options{})
		}, "is not a reranking model: it has no scores to give"},
		{"a caller that has gone", func(t *testing.T) (interface{ Close() error }, error) {
			return native.LoadEmbedder(ended, modelFile(t, embeddingModel), native.Options{})
		}, "context canceled"},
		{"no file", func(t *testing.T) (interface{ Close() error }, error) {
			return native.Load(t.Context(), "absent.gguf", native.Options{})
		}, "no such file"},
		{"no model", func(t *testing.T) (interface{ Close() error }, error) {
			return native.LoadEmbedder(t.Context(), "embedder_test.go", native.Options{})
		}, llama.ErrNotGGUF.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := test.load(t); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			noOwners(t)
		})
	}
}

// BenchmarkEmbed embeds 2,000 passages of 60 to 200 words, as an ingestion hands them over, in batches of so many tokens, on one
// thread and on all of them.
func BenchmarkEmbed(b *testing.B) {
	texts := benchPassages(b, 2000)
	for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
		for _, batch := range []int{64, 128, 192, 256, 512} {
			b.Run(fmt.Sprintf("threads=%d/batch=%d", threads, batch), func(b *testing.B) {
				e, err := native.LoadEmbedder(b.Context(), modelFile(b, embeddingModel), native.Options{Threads: threads})
				if err != nil {
					b.Fatal(err)
				}
				defer e.Close()
				native.SetBatch(e, batch)
				for b.Loop() {
					for some := range slices.Chunk(texts, 64) {
						if _, err := e.Embed(b.Context(), some); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(float64(len(texts)*b.N)/b.Elapsed().Seconds(), "passages/s")
			})
		}
	}
}

// benchPassages cuts passages out of the sample's documents.
func benchPassages(b *testing.B, n int) []string {
	files, err := filepath.Glob(filepath.FromSlash("../../examples/*/docs/*.md"))
	if err != nil || len(files) == 0 {
		b.Fatalf("no documents: %v", err)
	}
	var words []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		words = append(words, strings.Fields(string(text))...)
	}
	r := rand.New(rand.NewPCG(1, 2))
	texts := make([]string, n)
	for i := range texts {
		long := 60 + r.IntN(141)
		at := r.IntN(len(words) - long)
		texts[i] = strings.Join(words[at:at+long], " ")
	}
	return texts
}
