package native

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Backend is a chat model on this machine. See engine.Backend for which goroutine may call what.
type Backend struct {
	info     engine.Info
	limits   engine.Limits
	model    *llama.Model
	vocab    *llama.Vocab
	context  *llama.Context
	batch    *llama.Batch
	template *llama.ChatTemplate
	controls *controls
	start    []llama.Token   // of a prompt: BOS, where the model wants it
	rotation *llama.Rotation // nil where keys cannot be moved
	moved    []byte          // scratch of Place
	threads  int
	adapters []adapter
	draft    *draft // nil where there is no draft model
	// spellings are sorted for the first grammar.
	spellings func() (*llama.Spellings, error)

	mu       sync.Mutex
	shut     bool
	samplers sync.WaitGroup // that callers still have; Add under mu and before shut
}

var _ engine.Backend = (*Backend)(nil)

// Load opens a GGUF chat model. When ctx ends, loading stops.
func Load(ctx context.Context, path string, o Options) (*Backend, error) {
	model, err := llama.Load(ctx, path, o.modelParams())
	if err != nil {
		return nil, err
	}
	b := &Backend{model: model, vocab: model.Vocab(), info: o.info(path, model.Facts())}
	b.spellings = sync.OnceValues(b.vocab.Spellings)
	if b.info.Fingerprint, err = fingerprint(path, o.Adapters); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := b.open(o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if o.DraftModel != "" {
		if err := b.loadDraft(ctx, o); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

func (b *Backend) open(o Options) error {
	facts := b.model.Facts()
	if !generates(facts) || b.vocab.Type() == llama.VocabNone {
		return fmt.Errorf("%s is a %s model, which does not generate text token by token", b.info.File, facts.Architecture)
	}
	b.info.Context = o.Context
	if b.info.Context == 0 {
		b.info.Context = min(defaultContext, max(facts.ContextTrain, 512))
	}
	cells := o.Cells
	if cells == 0 {
		cells = max(defaultCells, b.info.Context)
	}
	running := o.Running
	if running == 0 {
		running = defaultRunning
	}
	p := llama.DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences = cells, batchTokens, batchTokens, running+1
	b.threads = o.threads()
	p.Threads, p.BatchThreads = b.threads, b.threads
	var err error
	if b.context, err = llama.NewContext(b.model, p); err != nil {
		return err
	}
	if !continues(b.context) {
		return fmt.Errorf("%s is a %s model for embeddings, which does not generate text: load it as the embedding model", b.info.File, facts.Architecture)
	}
	if b.batch, err = llama.NewBatch(batchTokens, 1); err != nil {
		return err
	}
	if err := b.adapt(o.Adapters); err != nil {
		return err
	}
	b.info.Context = min(b.info.Context, b.context.ContextSize())
	b.limits = engine.Limits{Cells: b.context.ContextSize(), Batch: b.context.BatchSize(), Sequences: b.context.SequenceLimit() - 1, Running: running}
	if facts.Recurrent || facts.Hybrid {
		b.limits.Sequences, b.limits.Whole = running, true // such memory cannot be shared in part: no kept prefixes
	} else if b.rotation, err = llama.NewRotation(b.model); err != nil && !errors.Is(err, llama.ErrUnsupported) {
		return err
	}
	source, _ := b.model.ChatTemplate("")
	s := b.vocab.Specials()
	if b.controls, err = newControls(b.vocab); err != nil {
		return err
	}
	if b.start, err = b.vocab.Tokenize("", true, true); err != nil {
		return err
	}
	if n := len(b.start); s.AddEOS && n > 0 && b.start[n-1] == s.EOS {
		b.start = b.start[: n-1 : n-1] // a prompt goes on
	}
	b.template, err = llama.NewChatTemplate(source, llama.ChatTokens{BOS: b.text(s.BOS), EOS: b.text(s.EOS), AddBOS: s.AddBOS, AddEOS: s.AddEOS})
	return err
}

// generates tells whether a model says one token after the other.
func generates(f llama.Facts) bool { return f.HasDecoder && !f.HasEncoder && !f.Diffusion }

// continues tells whether a context goes on from what it computed, which those of embedding models don't.
func continues(c *llama.Context) bool {
	return c.HasMemory() && c.Causal() && c.Pooling() == llama.PoolingNone
}

// text is a special token's text; empty when the vocabulary has none.
func (b *Backend) text(t llama.Token) string {
	if t == llama.NoToken {
		return ""
	}
	text, _ := b.vocab.Text(t)
	return text
}

// Info describes the model.
func (b *Backend) Info() engine.Info { return b.info }

// Limits are the context's.
func (b *Backend) Limits() engine.Limits { return b.limits }

// Decode computes one batch.
func (b *Backend) Decode(ctx context.Context, rows []engine.Row) error {
	b.batch.Clear()
	for _, r := range rows {
		if err := b.batch.Add(r.Token, r.Position, r.Output, b.sequence(r.Sequence)); err != nil {
			return err
		}
	}
	return b.context.Decode(ctx, b.batch)
}

// Logits returns a row of the last batch.
func (b *Backend) Logits(i int) ([]float32, error) { return b.context.Logits(i) }

// Copy shares the first n tokens of a sequence with another.
func (b *Backend) Copy(from, to, n int) error {
	return b.context.Memory().Copy(b.sequence(from), b.sequence(to), 0, n)
}

// Remove forgets a sequence from position n on.
func (b *Backend) Remove(sequence, n int) error {
	return b.context.Memory().Remove(b.sequence(sequence), n, -1)
}

// Tokenize splits plain text.
func (b *Backend) Tokenize(text string, start bool) ([]engine.Token, error) {
	var tokens []engine.Token
	if start {
		tokens = slices.Clone(b.start)
	}
	n := len(tokens)
	tokens, err := b.vocab.AppendTokens(tokens, text, false, false)
	if err == nil && b.controls.among(tokens[n:]) { // see llama.Vocab.AppendLiteral
		q := newQuotation(b.controls)
		q.look(text)
		if err = q.choose(b.vocab); err == nil {
			tokens, err = q.appendMarked(tokens[:n], b.vocab, q.mark(text), false, math.MaxInt)
		}
	}
	return tokens, closed(err)
}

// closed says in the engine's words that the model was closed while somebody still came with a request.
func closed(err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return err
}

// Piece is a token's bytes.
func (b *Backend) Piece(t engine.Token, special bool) []byte {
	piece, err := b.vocab.Piece(t, special)
	if err != nil {
		return nil
	}
	return piece
}

// Ends tells whether a token ends generation.
func (b *Backend) Ends(t engine.Token) bool { return b.vocab.IsEOG(t) }

// Close waits for the samplers that callers still have, of requests that were being prepared, and frees the model and
// everything made from it. It may be called again.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.shut = true
	b.mu.Unlock()
	b.samplers.Wait()
	var errs []error
	if b.draft != nil {
		errs = append(errs, b.draft.close())
	}
	if b.template != nil {
		errs = append(errs, b.template.Close())
	}
	if b.batch != nil {
		errs = append(errs, b.batch.Close())
	}
	if b.context != nil {
		errs = append(errs, b.context.Close())
	}
	for _, a := range b.adapters {
		errs = append(errs, a.lora.Close())
	}
	return errors.Join(append(errs, b.model.Close())...)
}

// lend counts a sampler that is about to be made; its Close gives it back. After Close there are none.
func (b *Backend) lend() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return engine.ErrClosed
	}
	b.samplers.Add(1)
	return nil
}
