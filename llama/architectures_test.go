package llama

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func tinyContextOf(t *testing.T, m *Model, change ...func(*ContextParams)) *Context {
	t.Helper()
	return newTestContext(t, m, append([]func(*ContextParams){func(p *ContextParams) {
		p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences, p.Threads, p.BatchThreads = 256, 64, 32, 4, 1, 1
	}}, change...)...)
}

func rowOf(t *testing.T, c *Context) []float32 {
	t.Helper()
	row, err := c.Logits(-1)
	must(t, err)
	return slices.Clone(row)
}

// Where the memory cannot be shifted llama.cpp would end the process at the next Decode.
func TestShiftRefused(t *testing.T) {
	for arch, change := range map[string]func(*ContextParams){
		"gemma2":  func(p *ContextParams) { p.ContextSize, p.FullSWA = 1024, false }, // its window has a smaller cache of its own
		"qwen2vl": func(*ContextParams) {},                                           // its positions are several numbers
	} {
		t.Run(arch, func(t *testing.T) {
			c := tinyContextOf(t, tiny(arch).load(t), change)
			b := newTestBatch(t, 64, 1)
			prefill(t, c, b, []Token{5, 6, 7, 8}, 0, 0)
			mem := c.Memory()
			if mem.CanShift() {
				t.Fatal("it can be shifted")
			}
			wantError(t, mem.Shift(0, 0, -1, 3), ErrUnsupported)
			wantError(t, mem.Divide(0, 0, -1, 2), ErrUnsupported)
			prefill(t, c, b, []Token{9}, 4, 0)
		})
	}
	c := tinyContextOf(t, tiny("gemma2").load(t), func(p *ContextParams) { p.FullSWA = true })
	if !c.Memory().CanShift() {
		t.Error("with the whole history of its windows gemma2 can be shifted")
	}
}

// A sliding window forgets: what lies before it cannot be gone back to.
func TestSlidingWindow(t *testing.T) {
	m := tiny("gemma2").load(t)
	if m.Facts().SlidingWindow != 8 {
		t.Errorf("facts %+v", m.Facts())
	}
	c := tinyContextOf(t, m, func(p *ContextParams) { p.ContextSize, p.UBatchSize, p.Sequences, p.FullSWA = 1024, 16, 1, false })
	b := newTestBatch(t, 64, 1)
	prefill(t, c, b, slices.Repeat([]Token{5, 6, 7, 8}, 100), 0, 0)
	mem := c.Memory()
	if mem.PosMin(0) < 1 || mem.PosMax(0) != 399 {
		t.Errorf("it holds %d to %d", mem.PosMin(0), mem.PosMax(0))
	}
	// A checkpoint is the window alone, and takes the sequence back to where it was.
	state, err := c.SequenceState(nil, 0, StatePartial)
	must(t, err)
	whole, err := c.SequenceState(nil, 0, 0)
	must(t, err)
	if len(state) >= len(whole) {
		t.Errorf("a checkpoint has %d bytes, the whole %d", len(state), len(whole))
	}
	wantError(t, c.SetSequenceState(state, 0, 0), ErrWrongState)
	must(t, c.SetSequenceState(state, 0, StatePartial))
	prefill(t, c, b, []Token{9}, 400, 0)
}

// Recurrent models keep one state for each sequence, which cannot be cut.
func TestRecurrent(t *testing.T) {
	m := tiny("mamba").load(t)
	if f := m.Facts(); !f.Recurrent || f.Hybrid {
		t.Fatalf("facts %+v", f)
	}
	c := tinyContextOf(t, m)
	b := newTestBatch(t, 64, 1)
	mem := c.Memory()
	if c.SequenceLimit() != 4 {
		t.Errorf("ids are below %d", c.SequenceLimit())
	}
	tokens := []Token{10, 20, 30, 40, 50}
	prefill(t, c, b, tokens, 0, 0)
	want := rowOf(t, c)
	wantError(t, mem.Remove(0, 2, -1), ErrUnsupported)
	wantError(t, mem.Copy(0, 1, 0, 2), ErrUnsupported)
	wantError(t, mem.Copy(0, 4, -1, -1), ErrInvalid)
	must(t, mem.Copy(0, 1, -1, -1))
	state, err := c.SequenceState(nil, 0, 0)
	must(t, err)
	must(t, c.SetSequenceState(state, 2, 0))
	var next [][]float32
	for _, sequence := range []int{0, 1, 2} { // the copy and the restored state go on as the first does
		prefill(t, c, b, []Token{60}, 5, sequence)
		next = append(next, rowOf(t, c))
	}
	near(t, "copy", next[1], next[0])
	near(t, "restored", next[2], next[0])
	must(t, mem.Remove(0, -1, -1))
	prefill(t, c, b, tokens, 0, 0)
	near(t, "again", rowOf(t, c), want)
	b.Clear()
	must(t, b.Add(1, 0, true, 4))
	wantError(t, c.Decode(t.Context(), b), ErrBatch)
}

func TestEncoderDecoder(t *testing.T) {
	m := tiny("t5").load(t)
	f := m.Facts()
	if !f.HasEncoder || !f.HasDecoder || f.DecoderStart != 0 {
		t.Fatalf("facts %+v", f)
	}
	c := tinyContextOf(t, m)
	b := newTestBatch(t, 64, 1)
	must(t, b.Add(f.DecoderStart, 0, true, 0))
	wantError(t, c.Decode(t.Context(), b), ErrBatch) // nothing was encoded
	encode := func(tokens ...Token) {
		t.Helper()
		b.Clear()
		for i, tok := range tokens {
			must(t, b.Add(tok, i, true, 0))
		}
		must(t, c.Encode(t.Context(), b))
	}
	decode := func() []float32 {
		t.Helper()
		must(t, c.Memory().Clear(false))
		prefill(t, c, b, []Token{f.DecoderStart}, 0, 0)
		return rowOf(t, c)
	}
	encode(7, 8, 9)
	one := decode()
	encode(15, 16, 17, 18)
	other := decode()
	if slices.Equal(one, other) {
		t.Error("what was encoded does not matter")
	}
	encode(7, 8, 9)
	near(t, "the same again", decode(), one)
	b.Clear()
	for i := range c.UBatchSize() + 1 {
		must(t, b.Add(7, i, true, 0))
	}
	wantError(t, c.Encode(t.Context(), b), ErrBatch) // llama.cpp asserts that it fits a micro-batch
}

// An encoder's input must fit a micro-batch, where llama.cpp asserts it.
func TestEncoderInput(t *testing.T) {
	m := tiny("bert").load(t)
	c := tinyContextOf(t, m, func(p *ContextParams) { p.Embeddings = true })
	b := newTestBatch(t, 64, 1)
	for _, n := range []int{c.UBatchSize() + 1, c.BatchSize()} {
		b.Clear()
		for i := range n {
			must(t, b.Add(5, i, true, 0))
		}
		for _, f := range []func(context.Context, *Batch) error{c.Encode, c.Decode} {
			if err := f(t.Context(), b); !errors.Is(err, ErrBatch) {
				t.Errorf("%d tokens: %v", n, err)
			}
		}
	}
	b.Clear()
	for i := range c.UBatchSize() {
		must(t, b.Add(5, i, true, 0))
	}
	must(t, c.Encode(t.Context(), b))
}

func TestPoolings(t *testing.T) {
	for _, arch := range []string{"bert", "llama"} {
		for _, pooling := range []Pooling{PoolingMean, PoolingCLS, PoolingLast} {
			m := tiny(arch).load(t)
			c := tinyContextOf(t, m, func(p *ContextParams) { p.Embeddings, p.Pooling = true, pooling })
			b := newTestBatch(t, 64, 1)
			rows := embedding(t, c, b, []Token{2, 5, 6, 7}, []Token{2, 7, 6, 5}, []Token{2, 5, 6, 7})
			if c.Pooling() != pooling || len(rows[0]) != tinyWidth {
				t.Errorf("%s, pooling %d: %d floats, pooling %d", arch, pooling, len(rows[0]), c.Pooling())
			}
			near(t, "the same text", rows[2], rows[0])
			if arch == "llama" && pooling == PoolingCLS { // the first token sees nothing of the rest
				near(t, "the first token", rows[1], rows[0])
			} else if slices.Equal(rows[0], rows[1]) {
				t.Errorf("%s, pooling %d: the order of tokens does not matter", arch, pooling)
			}
		}
		_, err := NewContext(tiny(arch).load(t), func() ContextParams {
			p := DefaultContextParams()
			p.Embeddings, p.Pooling = true, PoolingRank
			return p
		}())
		wantError(t, err, ErrUnsupported)
	}
}

// A model without a tokenizer computes and says that it has none.
func TestNoVocabulary(t *testing.T) {
	tokenless := tiny("llama")
	n := tokenless.vocabulary()
	tokenless.keys = slices.DeleteFunc(tokenless.keys, func(k tinyKey) bool { return len(k.name) > 10 && k.name[:10] == "tokenizer." })
	tokenless.set("tokenizer.ggml.model", "no_vocab")
	tokenless.set("llama.vocab_size", uint32(n))
	m := tokenless.load(t)
	v := m.Vocab()
	if v.Type() != VocabNone || v.Len() != int(n) || v.IsEOG(1) {
		t.Errorf("%v", v)
	}
	_, err := v.Tokenize("x", true, true)
	wantError(t, err, ErrUnsupported)
	_, err = v.Detokenize([]Token{1}, true, true)
	wantError(t, err, ErrUnsupported)
	_, err = v.Piece(1, true)
	wantError(t, err, ErrUnsupported)
	_, err = NewSampler(m, Grammar(`root ::= "a"`, "root"))
	wantError(t, err, ErrUnsupported)
	for name, stage := range map[string]Stage{"DRY": DRY(1, 2, 1, 16, []string{"\n"}), "infill": Infill()} {
		if s, err := NewSampler(m, stage); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s, which needs the tokens' texts: %v", name, err)
			s.Close()
		}
	}
	c := tinyContextOf(t, m)
	b := newTestBatch(t, 4, 1)
	prefill(t, c, b, []Token{1, 2}, 0, 0)
	s := newTestSampler(t, m, TopK(5), Dist(1))
	_, err = s.Sample(c, -1)
	must(t, err)
}
