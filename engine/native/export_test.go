package native

import "github.com/quipu-ai/quipu/engine"

// StageNames are a sampler's stages in llama.cpp's words.
func StageNames(s engine.Sampler) []string { return s.(*sampler).chain.Names() }

// VocabSize is the number of logits.
func VocabSize(b *Backend) int { return b.vocab.Len() }
