package llama

import (
	"context"
	"testing"
)

func TestShift(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	mem := c.Memory()
	if !mem.CanShift() {
		t.Fatal("this model's memory can be shifted")
	}
	// Attention sees distances only: the same tokens 40 further on, seen from 40 further on, give the same logits.
	tokens := tokenize(t, m, "The capital of France is")
	last := len(tokens) - 1
	decodeLast := func(pos int) []float32 {
		b.Clear()
		must(t, b.Add(tokens[last], pos, true, 0))
		must(t, c.Decode(context.Background(), b))
		row, err := c.Logits(0)
		must(t, err)
		return append([]float32(nil), row...)
	}
	prefill(t, c, b, tokens[:last], 0, 0)
	want := decodeLast(last)
	must(t, mem.Remove(0, last, -1))
	must(t, mem.Shift(0, 0, -1, 40))
	if mem.PosMin(0) != 40 || mem.PosMax(0) != last-1+40 {
		t.Fatalf("shifted to %d..%d", mem.PosMin(0), mem.PosMax(0))
	}
	near(t, "shifted", decodeLast(last+40), want)

	must(t, mem.Remove(0, last+40, -1))
	must(t, mem.Shift(0, -1, -1, -40))
	near(t, "shifted back", decodeLast(last), want)
}

func TestMemory(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	mem := c.Memory()
	positions := func() [4]int { return [4]int{mem.PosMin(0), mem.PosMax(0), mem.PosMin(1), mem.PosMax(1)} }
	check := func(what string, want [4]int) {
		t.Helper()
		if got := positions(); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("new", [4]int{-1, -1, -1, -1})
	prefill(t, c, b, []Token{1, 2, 3, 4, 5, 6, 7, 8}, 0, 0)
	check("prefilled", [4]int{0, 7, -1, -1})
	must(t, mem.Copy(0, 1, 0, 4))
	check("copied", [4]int{0, 7, 0, 3})
	must(t, mem.Remove(0, 6, -1))
	check("cut", [4]int{0, 5, 0, 3})
	must(t, mem.Divide(0, 4, -1, 2))
	check("divided", [4]int{0, 3, 0, 3})
	must(t, mem.Keep(1))
	check("kept", [4]int{-1, -1, 0, 3})
	must(t, mem.Clear(true))
	check("cleared", [4]int{-1, -1, -1, -1})

	for _, err := range []error{
		mem.Remove(-1, 0, -1), mem.Remove(256, 0, -1), mem.Copy(0, 256, -1, -1), mem.Copy(-1, 0, -1, -1), mem.Keep(256),
		mem.Shift(256, 0, -1, 1), mem.Shift(0, 0, -1, 1<<31), mem.Shift(0, 0, -1, -1<<40), mem.Divide(0, 0, -1, 0), mem.Divide(0, 0, -1, -3),
		mem.Remove(0, 0, 1<<40),
	} {
		wantError(t, err, ErrInvalid)
	}
	if mem.PosMax(256) != -1 || mem.PosMin(-1) != -1 {
		t.Error("positions of sequences that cannot be")
	}
}

// Without a unified cache each sequence has a buffer of its own, and only whole ones are copied.
func TestStreams(t *testing.T) {
	m := loadModel(t, chatModel)
	c := newTestContext(t, m, func(p *ContextParams) { p.UnifiedKV, p.Sequences = false, 2 })
	b := newTestBatch(t, 256, 1)
	mem := c.Memory()
	tokens := tokenize(t, m, "The capital of France is")
	prefill(t, c, b, tokens, 0, 0)
	row, err := c.Logits(-1)
	must(t, err)
	want := append([]float32(nil), row...)
	wantError(t, mem.Copy(0, 1, 0, 2), ErrUnsupported)
	must(t, mem.Copy(0, 1, 0, -1))
	must(t, mem.Remove(1, len(tokens)-1, -1))
	b.Clear()
	must(t, b.Add(tokens[len(tokens)-1], len(tokens)-1, true, 1))
	must(t, c.Decode(context.Background(), b))
	row, err = c.Logits(0)
	must(t, err)
	near(t, "copied stream", row, want)
	wantError(t, mem.Copy(0, 2, -1, -1), ErrInvalid)
}
