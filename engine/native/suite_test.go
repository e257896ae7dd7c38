package native_test

import (
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/engine/native"
)

// The suite that the fake passes, over a real model.
func TestSuite(t *testing.T) {
	path := modelFile(t, chatModel)
	enginetest.Suite{
		Open: func(t *testing.T, c engine.Config) *engine.Engine {
			b, err := native.Load(t.Context(), path, native.Options{Context: 128, Cells: 2048, Running: 6, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			e, err := engine.New(b, c, engine.Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Control: 2, ControlText: "<|im_end|>",
		Tolerance: 0.15,
		Closed:    noOwners,
	}.Run(t)
}

func TestEmbedderSuite(t *testing.T) {
	path := modelFile(t, embeddingModel)
	enginetest.EmbedderSuite{Closed: noOwners, Open: func(t *testing.T) engine.Embedder {
		e, err := native.LoadEmbedder(t.Context(), path, native.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}}.Run(t)
}

func TestRerankerSuite(t *testing.T) {
	path := modelFile(t, rerankModel)
	enginetest.RerankerSuite{Closed: noOwners, Open: func(t *testing.T) engine.Reranker {
		r, err := native.LoadReranker(t.Context(), path, native.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}}.Run(t)
}
