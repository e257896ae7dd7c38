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
