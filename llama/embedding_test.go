package llama

import (
	"context"
	"math"
	"testing"
)

func embedding(t *testing.T, c *Context, b *Batch, texts ...[]Token) [][]float32 {
	t.Helper()
	b.Clear()
	for s, tokens := range texts {
		for i, tok := range tokens {
			must(t, b.Add(tok, i, true, s))
		}
	}
	must(t, c.Decode(context.Background(), b))
	var rows [][]float32
	for s := range texts {
		row, err := c.SequenceEmbedding(s)
		must(t, err)
		rows = append(rows, append([]float32(nil), row...))
	}
	return rows
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func TestMeanPooling(t *testing.T) {
	m := loadModel(t, embedModel)
	if m.Facts().MaxPositions != 512 {
		t.Errorf("facts %+v", m.Facts())
	}
	c := newTestContext(t, m, func(p *ContextParams) {
		p.BatchSize, p.UBatchSize, p.ContextSize, p.Sequences, p.Embeddings = 512, 512, 512, 8, true
	})
	if c.Pooling() != PoolingMean || c.Causal() || c.HasMemory() {
		t.Errorf("pooling %v, causal %v, memory %v", c.Pooling(), c.Causal(), c.HasMemory())
	}
	b := newTestBatch(t, 1024, 1)
	rows := embedding(t, c, b, tokenize(t, m, "How do I reset my password?"), tokenize(t, m, "I forgot my login and want a new one."), tokenize(t, m, "The bicycle has 21 gears."))
	same, other := cosine(rows[0], rows[1]), cosine(rows[0], rows[2])
	if len(rows[0]) != 384 || same < other+0.2 {
		t.Errorf("%d dimensions, cosine %.3f and %.3f", len(rows[0]), same, other)
	}
	alone := embedding(t, c, b, tokenize(t, m, "How do I reset my password?"))
	if got := cosine(alone[0], rows[0]); got < 0.9999 {
		t.Errorf("alone and in a batch: cosine %f", got)
	}

	// What BERT cannot do comes back as an error.
	wantError(t, c.Memory().Remove(0, -1, -1), ErrUnsupported)
	_, err := c.Logits(1 << 20)
	wantError(t, err, ErrNoOutput)
	_, err = c.SequenceEmbedding(7)
	wantError(t, err, ErrNoOutput)
	b.Clear()
	for i := range 513 {
		must(t, b.Add(1000, i, true, 0))
	}
	wantError(t, c.Decode(context.Background(), b), ErrBatch) // more than a micro-batch, and than its positions
	b.Clear()
	must(t, b.Add(1000, 512, true, 0))
	wantError(t, c.Decode(context.Background(), b), ErrBatch)
}

func TestTokenEmbeddings(t *testing.T) {
	m := loadModel(t, embedModel)
	c := newTestContext(t, m, func(p *ContextParams) { p.Embeddings, p.Pooling = true, PoolingNone })
	b := newTestBatch(t, 64, 1)
	tokens := tokenize(t, m, "one two")
	for i, tok := range tokens {
		must(t, b.Add(tok, i, true, 0))
	}
	must(t, c.Encode(context.Background(), b))
	row, err := c.Embedding(len(tokens) - 1)
	must(t, err)
	if len(row) != 384 {
		t.Errorf("%d dimensions", len(row))
	}
	_, err = c.SequenceEmbedding(0)
	wantError(t, err, ErrNoOutput)
	_, err = c.Embedding(len(tokens))
	wantError(t, err, ErrNoOutput)
}

func TestRankPooling(t *testing.T) {
	m := loadModel(t, rerankModel)
	if len(m.Facts().ClassLabels) != 1 {
		t.Fatalf("classes %q", m.Facts().ClassLabels)
	}
	c := newTestContext(t, m, func(p *ContextParams) { p.Sequences, p.Embeddings = 4, true })
	if c.Pooling() != PoolingRank {
		t.Fatalf("pooling %v", c.Pooling())
	}
	b := newTestBatch(t, 256, 1)
	pair := func(query, passage string) []Token {
		sp := m.Vocab().Specials()
		tokens := []Token{sp.CLS}
		for _, text := range []string{query, passage} {
			part, err := m.Vocab().Tokenize(text, false, false)
			must(t, err)
			tokens = append(append(tokens, part...), sp.SEP)
		}
		return tokens
	}
	const query = "How long is the warranty?"
	scores := embedding(t, c, b, pair(query, "The warranty covers the frame for two years."), pair(query, "Our office dog likes bananas."))
	if len(scores[0]) != 1 || scores[0][0] <= scores[1][0] {
		t.Errorf("scores %v", scores)
	}
}
