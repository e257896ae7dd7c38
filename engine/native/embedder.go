package native

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Embedder is an embedding model on this machine. Texts of concurrent callers are computed together. It is safe for
// concurrent use; its owner closes it.
type Embedder struct{ encoder }

var _ engine.Embedder = (*Embedder)(nil)

// LoadEmbedder opens a GGUF embedding model. Context, Cells and Running of the options do not apply.
func LoadEmbedder(ctx context.Context, path string, o Options) (*Embedder, error) {
	e := &Embedder{}
	err := e.open(ctx, path, o, func(p llama.Pooling) error {
		switch p {
		case llama.PoolingNone:
			return fmt.Errorf("%s names no pooling: it is not an embedding model", e.info.File)
		case llama.PoolingRank:
			return fmt.Errorf("%s is a reranking model: it gives scores, not embeddings", e.info.File)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// CountTokens gives the tokens of each text, special ones included.
func (e *Embedder) CountTokens(texts []string) ([]int, error) {
	counts := make([]int, len(texts))
	var buffer []llama.Token
	for i, text := range texts {
		var err error
		if buffer, err = e.vocab.AppendTokens(buffer[:0], text, true, false); err != nil {
			return nil, inputError(i, err)
		}
		counts[i] = len(buffer)
	}
	return counts, nil
}

// Embed returns one unit-length row per text. When ctx ends it returns at once.
func (e *Embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	rows, _, err := e.EmbedCounted(ctx, texts, false)
	return rows, err
}

// EmbedCounted is Embed that also gives the tokens read, and that with truncate reads of a text that is too long what fits.
func (e *Embedder) EmbedCounted(ctx context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error) {
	inputs := make([][]llama.Token, len(texts))
	for i, text := range texts {
		tokens, err := e.vocab.Tokenize(text, true, false)
		if err != nil {
			return nil, 0, inputError(i, err)
		}
		if truncate {
			tokens = e.cut(tokens, e.info.MaxInput)
		}
		switch n := len(tokens); {
		case n == 0:
			return nil, 0, &engine.FieldError{Field: fmt.Sprintf("texts[%d]", i), Problem: "has no tokens to embed"}
		case n > e.info.MaxInput:
			return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: n, Limit: e.info.MaxInput}
		}
		inputs[i] = tokens
		read += len(tokens)
	}
	if rows, err = e.encode(ctx, inputs); err != nil {
		return nil, 0, err
	}
	for i, row := range rows {
		if err := normalize(row); err != nil {
			return nil, 0, fmt.Errorf("%w: input %d: %w", engine.ErrBackend, i, err)
		}
	}
	return rows, read, nil
}

// normalize scales a row to length one; a row of zeros stays as it is.
func normalize(row []float32) error {
	var sum float64
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return errors.New("the embedding is not finite")
	}
	if sum == 0 {
		return nil
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range row {
		row[i] *= scale
	}
	return nil
}
