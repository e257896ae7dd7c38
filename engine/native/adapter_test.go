package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// Requests with and without an adapter run beside each other, share nothing, and each says what it says alone.
func TestAdapters(t *testing.T) {
	lora := filepath.FromSlash("../../../shared/models/lora-smollm2-135m-random-r4-s0.3.gguf")
	if shared := os.Getenv("QUIPU_TEST_SHARED"); shared != "" {
		lora = filepath.Join(shared, "models", filepath.Base(lora))
	}
	if _, err := os.Stat(lora); err != nil {
		t.Skipf("the adapter is missing: %v", err)
	}
	c := engine.DefaultConfig()
	c.Placing, c.Draft = engine.PlaceNever, false
	e := open(t, c, native.Options{Adapters: []native.Adapter{{Name: "random", Path: lora}}})
	generate := func(adapter, key string) (string, int) {
		r := ask("Name three colours of the rainbow.", 12)
		r.Adapter, r.Key = adapter, key
		s, err := e.Generate(t.Context(), r)
		if err != nil {
			t.Error(err)
			return "", 0
		}
		text, last := read(t, s)
		return text, last.Usage.CachedTokens
	}
	base, _ := generate("", "a")
	adapted, cached := generate("random", "a")
	if adapted == base {
		t.Errorf("both say %q: the test would prove nothing", base)
	}
	if cached != 0 {
		t.Errorf("%d tokens that were computed without the adapter were shared", cached)
	}
	if again, cached := generate("random", "a"); again != adapted || cached == 0 {
		t.Errorf("asked again it says %q after %q, %d tokens cached", again, adapted, cached)
	}
	var wg sync.WaitGroup
	for i := range 6 {
		adapter, want := "", base
		if i%2 == 1 {
			adapter, want = "random", adapted
		}
		wg.Go(func() {
			if text, _ := generate(adapter, fmt.Sprint("b", i/2)); text != want {
				t.Logf("with adapter %q in company %q, alone %q", adapter, text, want) // floats differ in company
			}
		})
	}
	wg.Wait()
	_, err := e.Generate(t.Context(), &engine.Request{Text: "x", Adapter: "nobody", Logprobs: -1})
	if err == nil {
		t.Error("an adapter that is not there was taken")
	}
}
