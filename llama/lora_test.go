package llama

import (
	"slices"
	"testing"
)

func TestLoRA(t *testing.T) {
	m := loadModel(t, chatModel)
	l, err := m.LoadLoRA(modelFile(t, loraFile))
	must(t, err)
	closing(t, l)
	if l.Metadata()["adapter.type"] != "lora" || len(l.InvocationTokens()) != 0 {
		t.Errorf("metadata %v", l.Metadata())
	}
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	tokens := tokenize(t, m, prompt)
	answer := func(adapters ...AppliedLoRA) ([]float32, string) {
		t.Helper()
		must(t, c.Memory().Clear(false))
		must(t, c.SetLoRA(adapters...))
		prefill(t, c, b, tokens, 0, 0)
		row, err := c.Logits(-1)
		must(t, err)
		row = append([]float32(nil), row...)
		return row, generate(t, c, b, newTestSampler(t, m, Greedy()), 0, 12)
	}
	base, baseText := answer()
	zero, zeroText := answer(AppliedLoRA{l, 0})
	if zeroText != baseText || !slices.Equal(zero, base) {
		t.Errorf("scale 0 says %q, the base %q", zeroText, baseText)
	}
	_, oneText := answer(AppliedLoRA{l, 1})
	if oneText == baseText {
		t.Errorf("scale 1 says what the base says: %q", oneText)
	}
	wantError(t, l.Close(), ErrInUse)
	_, again := answer()
	if again != baseText {
		t.Errorf("without the adapter: %q, before it %q", again, baseText)
	}
	wantError(t, c.SetLoRA(AppliedLoRA{l, 1}, AppliedLoRA{l, 1}), ErrInvalid)
	must(t, l.Close())
	must(t, l.Close())
	wantError(t, c.SetLoRA(AppliedLoRA{l, 1}), ErrClosed)

	_, err = m.LoadLoRA(modelFile(t, chatModel)) // a model is no adapter
	wantError(t, err, ErrCorrupt)
	_, err = m.LoadLoRA("main_test.go")
	wantError(t, err, ErrNotGGUF)
}

func TestLoRAOfAnotherModel(t *testing.T) {
	m := loadModel(t, rerankModel)
	_, err := m.LoadLoRA(modelFile(t, loraFile))
	wantError(t, err, ErrCorrupt)
}
