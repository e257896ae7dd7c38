package native

import (
	"cmp"
	"fmt"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

var _ engine.Adapted = (*Backend)(nil)

type adapter struct {
	name  string
	lora  *llama.LoRA
	scale float32
}

// adapt loads adapters.
func (b *Backend) adapt(adapters []Adapter) error {
	for _, a := range adapters {
		lora, err := b.model.LoadLoRA(a.Path)
		if err != nil {
			return fmt.Errorf("adapter %s: %w", a.Name, err)
		}
		b.adapters = append(b.adapters, adapter{a.Name, lora, cmp.Or(a.Scale, 1)})
	}
	return nil
}

// Adapters names the adapters that were loaded.
func (b *Backend) Adapters() []string {
	names := make([]string, len(b.adapters))
	for i, a := range b.adapters {
		names[i] = a.name
	}
	return names
}

// Adapt says which adapter computes from the next batch on.
func (b *Backend) Adapt(name string) error {
	if name == "" {
		return b.context.SetLoRA()
	}
	for _, a := range b.adapters {
		if a.name == name {
			return b.context.SetLoRA(llama.AppliedLoRA{LoRA: a.lora, Scale: a.scale})
		}
	}
	return fmt.Errorf("there is no adapter %q", name)
}
