package llama

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSequenceState(t *testing.T) {
	m := loadModel(t, chatModel)
	b := newTestBatch(t, 256, 1)
	tokens := tokenize(t, m, prompt)
	c := newTestContext(t, m)
	prefill(t, c, b, tokens, 0, 0)
	must(t, c.Memory().Remove(0, len(tokens)-1, -1))
	state, err := c.SequenceState([]byte("before"), 0, 0)
	must(t, err)
	if !bytes.HasPrefix(state, []byte("before")) {
		t.Error("what was there before is gone")
	}
	state = state[len("before"):]
	t.Logf("%d tokens are %d bytes", len(tokens)-1, len(state))

	answer := func(c *Context, sequence int) string {
		prefill(t, c, b, tokens[len(tokens)-1:], len(tokens)-1, sequence)
		return generate(t, c, b, newTestSampler(t, m, Greedy()), sequence, 10)
	}
	want := answer(c, 0)
	other := newTestContext(t, m)
	must(t, other.SetSequenceState(state, 5, 0))
	if got := answer(other, 5); got != want {
		t.Errorf("restored: %q, want %q", got, want)
	}

	// Whole context, through memory and file.
	whole, err := c.State(nil)
	must(t, err)
	must(t, other.SetState(whole))
	if other.Memory().PosMax(0) != c.Memory().PosMax(0) || other.Memory().PosMax(5) != -1 {
		t.Errorf("restored to %d and %d", other.Memory().PosMax(0), other.Memory().PosMax(5))
	}
	path := filepath.Join(t.TempDir(), "state")
	must(t, c.Save(path))
	must(t, other.Memory().Clear(false))
	must(t, other.Restore(path))

	// A file of one sequence.
	must(t, c.SaveSequence(path, 0, tokens))
	got, err := newTestContext(t, m).LoadSequence(path, 1)
	must(t, err)
	if !slices.Equal(got, tokens) {
		t.Errorf("the file's tokens are %v", got)
	}

	// Another layout of the cache is another state.
	f32 := newTestContext(t, m, func(p *ContextParams) { p.CacheTypeK, p.CacheTypeV = CacheF32, CacheF32 })
	wantError(t, f32.SetSequenceState(state, 0, 0), ErrWrongState)
	_, err = f32.LoadSequence(path, 0)
	wantError(t, err, ErrWrongState)
	wantError(t, c.SetState(state), ErrWrongState)
	wantError(t, c.SetSequenceState(whole, 0, 0), ErrWrongState)
	wantError(t, c.SetSequenceState(state[:len(state)-1], 0, 0), ErrTruncated)
	wantError(t, c.SetSequenceState(nil, 0, 0), ErrCorrupt)
	wantError(t, c.SetSequenceState(state, 256, 0), ErrInvalid)
	small := newTestContext(t, m, func(p *ContextParams) { p.ContextSize = 256 })
	prefill(t, small, b, slices.Repeat([]Token{100}, 250), 0, 1)
	wantError(t, small.SetSequenceState(state, 0, 0), ErrNoKVSlot)
	must(t, small.Memory().Remove(1, -1, -1))
	must(t, small.SetSequenceState(state, 0, 0))

	// A damaged file is found before it is used.
	data, err := os.ReadFile(path)
	must(t, err)
	for _, at := range []int{0, 5, 9, len(data) / 2, len(data) - 1} {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x10
		must(t, os.WriteFile(path, damaged, 0o644))
		_, err := c.LoadSequence(path, 0)
		wantError(t, err, ErrCorrupt)
	}
	for _, n := range []int{0, 3, 11, len(data) / 2} {
		must(t, os.WriteFile(path, data[:n], 0o644))
		_, err := c.LoadSequence(path, 0)
		wantError(t, err, ErrCorrupt)
	}
	wantError(t, c.SaveSequence(filepath.Join(t.TempDir(), "no", "folder"), 0, nil), os.ErrNotExist)
	_, err = c.LoadSequence(filepath.Join(t.TempDir(), "absent"), 0)
	wantError(t, err, os.ErrNotExist)
}
