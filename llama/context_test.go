package llama

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestGreedyIsDeterministic(t *testing.T) {
	m := loadModel(t, chatModel)
	b := newTestBatch(t, 256, 1)
	var texts []string
	for range 2 {
		c := newTestContext(t, m)
		s := newTestSampler(t, m, Greedy())
		prefill(t, c, b, tokenize(t, m, prompt), 0, 0)
		texts = append(texts, generate(t, c, b, s, 0, 12))
	}
	if texts[0] != texts[1] || !strings.Contains(texts[0], "Paris") {
		t.Errorf("got %q, then %q", texts[0], texts[1])
	}
}

// Sequences of one batch must not see each other, and shared cells must count as own ones.
func TestSequences(t *testing.T) {
	m := loadModel(t, chatModel)
	b := newTestBatch(t, 256, 2)
	one, two := tokenize(t, m, "The sky is blue and the grass is"), tokenize(t, m, "Two plus two makes")

	alone := func(tokens []Token) []float32 {
		c := newTestContext(t, m)
		prefill(t, c, b, tokens, 0, 0)
		row, err := c.Logits(-1)
		must(t, err)
		return append([]float32(nil), row...)
	}
	wantOne, wantTwo := alone(one), alone(two)

	c := newTestContext(t, m, func(p *ContextParams) { p.Sequences = 4 })
	b.Clear()
	for i := range max(len(one), len(two)) { // interleaved
		if i < len(one) {
			must(t, b.Add(one[i], i, i == len(one)-1, 0))
		}
		if i < len(two) {
			must(t, b.Add(two[i], i, i == len(two)-1, 1))
		}
	}
	must(t, c.Decode(context.Background(), b))
	for i := range b.Len() {
		row, err := c.Logits(i)
		switch {
		case b.output[i] == 0:
			wantError(t, err, ErrNoOutput)
		case b.sequences(i)[0] == 0:
			must(t, err)
			near(t, "sequence 0", row, wantOne)
		default:
			must(t, err)
			near(t, "sequence 1", row, wantTwo)
		}
	}

	// seq_cp: another id continues the shared prefix as its owner would.
	mem := c.Memory()
	must(t, mem.Copy(0, 200, -1, -1)) // a holder past Sequences
	must(t, mem.Remove(200, len(one)-1, -1))
	must(t, mem.Copy(200, 3, -1, -1))
	if got := mem.PosMax(3); got != len(one)-2 {
		t.Fatalf("the copy ends at %d", got)
	}
	b.Clear()
	must(t, b.Add(one[len(one)-1], len(one)-1, true, 3))
	must(t, c.Decode(context.Background(), b))
	row, err := c.Logits(0)
	must(t, err)
	near(t, "shared prefix", row, wantOne)

	// One token in two sequences at once.
	must(t, mem.Remove(3, -1, -1))
	must(t, mem.Clear(false))
	b.Clear()
	for i, tok := range one {
		must(t, b.Add(tok, i, i == len(one)-1, 1, 2))
	}
	must(t, c.Decode(context.Background(), b))
	row, err = c.Logits(-1)
	must(t, err)
	near(t, "two sequences", row, wantOne)
	if mem.PosMax(1) != len(one)-1 || mem.PosMax(2) != len(one)-1 {
		t.Errorf("positions %d and %d", mem.PosMax(1), mem.PosMax(2))
	}
}

// near compares rows of logits. Other batch shapes and positions round differently, and where weights and activations
// are quantized the smallest difference grows: the same prompt ten positions further on moves logits by up to 1.4.
func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if c := cosine(got, want); len(got) != len(want) || c < 0.99 {
		t.Errorf("%s: %d logits, cosine %.4f", what, len(got), c)
	}
}

func TestAbort(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m, func(p *ContextParams) {
		p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences = 4096, 2048, 64, 2
	})
	b := newTestBatch(t, 2048, 2)
	for i := range 2048 {
		must(t, b.Add(Token(100+i%1000), i, i == 2047, 0, 1))
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := c.Decode(ctx, b)
	t.Logf("%v after %v", err, time.Since(started))
	wantError(t, err, ErrAborted)
	wantError(t, err, context.DeadlineExceeded)
	if _, err := c.Logits(-1); !errors.Is(err, ErrNoOutput) {
		t.Errorf("logits of an aborted batch: %v", err)
	}
	mem := c.Memory()
	if mem.PosMax(0) >= 2047 || mem.PosMax(0) != mem.PosMax(1) {
		t.Errorf("after the abort the sequences end at %d and %d", mem.PosMax(0), mem.PosMax(1))
	}

	// The context goes on as if nothing had been.
	must(t, mem.Clear(false))
	small := newTestBatch(t, 256, 1)
	prefill(t, c, small, tokenize(t, m, prompt), 0, 0)
	if text := generate(t, c, small, newTestSampler(t, m, Greedy()), 0, 12); !strings.Contains(text, "Paris") {
		t.Errorf("afterwards: %q", text)
	}

	ended, end := context.WithCancel(context.Background())
	end()
	small.Clear()
	must(t, small.Add(1, mem.PosMax(0)+1, true, 0))
	wantError(t, c.Decode(ended, small), context.Canceled)
}

func TestDecodeRefusals(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m, func(p *ContextParams) {
		p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences, p.MaxOutputs = 256, 64, 32, 2, 4
	})
	streams := newTestContext(t, m, func(p *ContextParams) { p.UnifiedKV, p.Sequences = false, 2 })
	type tok struct {
		token     Token
		pos       int
		output    bool
		sequences []int
	}
	tests := []struct {
		name string
		c    *Context
		add  []tok
		want error
	}{
		{"empty", c, nil, ErrBatch},
		{"token too large", c, []tok{{1 << 30, 0, true, []int{0}}}, ErrBatch},
		{"token negative", c, []tok{{-1, 0, true, []int{0}}}, ErrBatch},
		{"positions decrease", c, []tok{{1, 1, true, []int{0}}, {1, 0, true, []int{0}}}, ErrBatch},
		{"position twice", c, []tok{{1, 0, true, []int{0}}, {1, 0, true, []int{0}}}, ErrBatch},
		{"sequence twice", c, []tok{{1, 0, true, []int{0, 0}}}, ErrBatch},
		{"a hole", c, []tok{{1, 0, true, []int{0}}, {1, 2, true, []int{0}}}, ErrBatch},
		{"not at the end of memory", c, []tok{{1, 0, true, []int{7}}}, ErrBatch},
		{"sequences that differ", c, []tok{{1, 3, true, []int{7, 6}}}, ErrBatch},
		{"sequence past streams", streams, []tok{{1, 0, true, []int{2}}}, ErrBatch},
		{"too many outputs", c, []tok{{1, 0, true, []int{0}}, {1, 1, true, []int{0}}, {1, 2, true, []int{0}}, {1, 3, true, []int{0}}, {1, 4, true, []int{0}}}, ErrBatch},
	}
	b := newTestBatch(t, 512, 2)
	prefill(t, c, b, []Token{1, 2, 3}, 0, 7)
	for _, test := range tests {
		b.Clear()
		for _, a := range test.add {
			must(t, b.Add(a.token, a.pos, a.output, a.sequences...))
		}
		if err := test.c.Decode(context.Background(), b); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	b.Clear()
	for i := range 65 {
		must(t, b.Add(1, i, false, 0))
	}
	wantError(t, c.Decode(context.Background(), b), ErrBatch) // BatchSize is 64
	wantError(t, c.Encode(context.Background(), b), ErrUnsupported)

	// The cache is full: nothing is computed, and there is room again after a removal.
	b.Clear()
	for i := range 64 {
		must(t, b.Add(1, i, i == 63, 0))
	}
	must(t, c.Decode(context.Background(), b))
	full := error(nil)
	for n := 1; full == nil && n < 10; n++ {
		b.Clear()
		for i := range 64 {
			must(t, b.Add(1, 64*n+i, i == 63, 0))
		}
		full = c.Decode(context.Background(), b)
	}
	wantError(t, full, ErrNoKVSlot)
	must(t, c.Memory().Remove(0, -1, -1))
	b.Clear()
	must(t, b.Add(1, 0, true, 0))
	must(t, c.Decode(context.Background(), b))

	for _, i := range []int{-2, 1, 1 << 30} {
		if _, err := c.Logits(i); !errors.Is(err, ErrNoOutput) {
			t.Errorf("row %d: %v", i, err)
		}
	}
	if _, err := c.Embedding(0); !errors.Is(err, ErrNoOutput) {
		t.Errorf("embedding: %v", err)
	}
}

func TestBatch(t *testing.T) {
	noOwners(t)
	for _, size := range [][2]int{{0, 1}, {1, 0}, {1, 257}, {-1, 1}, {1 << 30, 1}} {
		_, err := NewBatch(size[0], size[1])
		wantError(t, err, ErrInvalid)
	}
	b := newTestBatch(t, 2, 2)
	wantError(t, b.Add(1, -1, true, 0), ErrBatch)
	wantError(t, b.Add(1, 0, true), ErrBatch)
	wantError(t, b.Add(1, 0, true, 1, 2, 3), ErrBatch)
	wantError(t, b.Add(1, 0, true, 256), ErrBatch)
	must(t, b.Add(1, 0, true, 0, 255))
	must(t, b.Add(1, 1, true, 0))
	wantError(t, b.Add(1, 2, true, 0), ErrBatch)
	if b.Len() != 2 || b.Cap() != 2 {
		t.Errorf("%d of %d", b.Len(), b.Cap())
	}
	must(t, b.Close())
	must(t, b.Close())
	wantError(t, b.Add(1, 0, true, 0), ErrClosed)
}

func TestContextParams(t *testing.T) {
	m := loadModel(t, chatModel)
	tests := map[string]func(*ContextParams){
		"no batch":                  func(p *ContextParams) { p.BatchSize = 0 },
		"more sequences than batch": func(p *ContextParams) { p.BatchSize, p.Sequences = 2, 4 },
		"too many sequences":        func(p *ContextParams) { p.Sequences = 257 },
		"no sequence":               func(p *ContextParams) { p.Sequences = 0 },
		"no threads":                func(p *ContextParams) { p.Threads = 0 },
		"too many threads":          func(p *ContextParams) { p.BatchThreads = 513 },
		"unknown cache type":        func(p *ContextParams) { p.CacheTypeK = 99 },
		"quantized V, no flash":     func(p *ContextParams) { p.CacheTypeV, p.FlashAttention = CacheQ8_0, FlashOff },
		"negative context":          func(p *ContextParams) { p.ContextSize = -1 },
		"huge context":              func(p *ContextParams) { p.ContextSize = 1 << 40 },
		"few outputs":               func(p *ContextParams) { p.Sequences, p.MaxOutputs = 4, 2 },
		"NaN":                       func(p *ContextParams) { p.RopeFreqBase = float32(math.NaN()) },
		"rank of a chat model":      func(p *ContextParams) { p.Embeddings, p.Pooling = true, PoolingRank },
	}
	for name, change := range tests {
		p := DefaultContextParams()
		p.ContextSize = 256
		change(&p)
		c, err := NewContext(m, p)
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			c.Close()
		}
	}
	c := newTestContext(t, m, func(p *ContextParams) {
		p.CacheTypeK, p.CacheTypeV, p.FlashAttention, p.UnifiedKV, p.Sequences = CacheQ8_0, CacheQ8_0, FlashOn, false, 2
	})
	if c.SequenceLimit() != 2 || c.SequenceSize() != 256 || c.ContextSize() != 512 || c.BatchSize() != 256 || c.UBatchSize() != 128 || c.Sequences() != 2 {
		t.Errorf("got %d %d %d %d %d %d", c.SequenceLimit(), c.SequenceSize(), c.ContextSize(), c.BatchSize(), c.UBatchSize(), c.Sequences())
	}
	c.SetThreads(0, 10000)
	if a, b := c.Threads(); a != 1 || b != 512 {
		t.Errorf("threads %d and %d", a, b)
	}
}

func TestDecodeAllocations(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	b := newTestBatch(t, 8, 1)
	s := newTestSampler(t, m, TopK(40), TopP(0.95, 1), Temp(0.8), Dist(1))
	var candidates Candidates
	pos := 0
	step := func() {
		b.Clear()
		must(t, b.Add(1, pos, true, 0))
		pos++
		must(t, c.Decode(context.Background(), b))
		row, err := c.Logits(0)
		must(t, err)
		candidates.Reset(row)
		must(t, s.Apply(&candidates))
		must(t, s.Accept(candidates.Token()))
	}
	step()
	if n := testing.AllocsPerRun(20, step); n > 0 {
		t.Errorf("a step of decoding and sampling allocates %v times", n)
	}
}

func TestClosing(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	s := newTestSampler(t, m, Greedy())
	wantError(t, m.Close(), ErrInUse)
	must(t, c.Close())
	must(t, c.Close())
	wantError(t, m.Close(), ErrInUse)
	must(t, s.Close())
	must(t, s.Close())
	must(t, m.Close())
	must(t, m.Close())

	b := newTestBatch(t, 1, 1)
	must(t, b.Add(1, 0, true, 0))
	wantError(t, c.Decode(context.Background(), b), ErrClosed)
	_, err := c.Logits(0)
	wantError(t, err, ErrClosed)
	wantError(t, c.Memory().Clear(false), ErrClosed)
	_, err = c.State(nil)
	wantError(t, err, ErrClosed)
	wantError(t, c.SetLoRA(), ErrClosed)
	_, err = s.Sample(c, 0)
	wantError(t, err, ErrClosed)
	wantError(t, s.Accept(1), ErrClosed)
	wantError(t, s.Reset(), ErrClosed)
	_, err = s.Clone()
	wantError(t, err, ErrClosed)
	_, err = m.Vocab().Tokenize("x", true, true)
	wantError(t, err, ErrClosed)
	_, err = NewContext(m, DefaultContextParams())
	wantError(t, err, ErrClosed)
	_, err = NewSampler(m, Greedy())
	wantError(t, err, ErrClosed)
	_, err = m.LoadLoRA(modelFile(t, loraFile))
	wantError(t, err, ErrClosed)
	c.SetThreads(1, 1)
	c.Synchronize()
	if c.Memory().PosMax(0) != -1 || c.Memory().CanShift() || s.Names() != nil || m.Vocab().IsEOG(2) {
		t.Error("a closed object answers")
	}
}
