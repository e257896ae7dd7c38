package servertest

import (
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// Backend is the fake under another name, and with a template that can hide reasoning and tool calls in the output.
type Backend struct {
	*enginetest.Fake
	Name string // empty is the fake's own
	// Script is what a template's parser finds in the output, token by token; none leaves the output as it is.
	Script []engine.Delta
}

// NewBackend is a fake with a context of so many tokens.
func NewBackend(context int) *Backend {
	return &Backend{Fake: enginetest.NewFake(engine.Limits{Cells: 4 * context, Batch: 64, Sequences: 12, Running: 4}, context)}
}

// Info describes the fake.
func (b *Backend) Info() engine.Info {
	i := b.Fake.Info()
	i.Architecture, i.Quantization, i.Parameters, i.SizeBytes, i.SHA256 = "fake", "Q0", 135, 257, strings.Repeat("0f", 32)
	if b.Name != "" {
		i.Name = b.Name
	}
	return i
}

// Render joins the messages and adds the script.
func (b *Backend) Render(chat *engine.Chat, schema []byte) (*engine.Rendered, error) {
	r, err := b.Fake.Render(chat, schema)
	if err == nil && b.Script != nil {
		r.Parser = &parser{script: b.Script}
	}
	return r, err
}

// parser plays a script, one entry for each piece of output.
type parser struct{ script []engine.Delta }

func (p *parser) Add(string) ([]engine.Delta, error) {
	n := min(1, len(p.script))
	out := p.script[:n]
	p.script = p.script[n:]
	return out, nil
}

func (p *parser) Finish() ([]engine.Delta, error) {
	rest := p.script
	p.script = nil
	return rest, nil
}

func (p *parser) Recover() []engine.Delta { return nil }
func (p *parser) Close() error            { return nil }

// Engine starts an engine over a backend; it is closed with the test.
func Engine(t testing.TB, b engine.Backend, c engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(b, c, engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
