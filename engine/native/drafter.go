package native

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

var _ engine.Drafter = (*Backend)(nil)

// draft is a small model that guesses what a backend's sequences say next. Its sequences have the ids of the engine's. It belongs
// to the engine's loop, which never has more than engine.DraftStreams of them computed.
type draft struct {
	model    *llama.Model
	context  *llama.Context
	batch    *llama.Batch
	computed map[int][]llama.Token // of each sequence
	shared   int                   // tokens below it are in both vocabularies
	reach    int                   // tokens that a sequence may have
}

// Llama.cpp's own bounds for a draft model (common/speculative.cpp): vocabularies may be padded, and the first few tokens, which
// are special, may be spelled in other ways.
const (
	mostPadding  = 128
	firstCompare = 5
)

// loadDraft loads the draft model and checks that it fits.
func (b *Backend) loadDraft(ctx context.Context, o Options) error {
	if b.limits.Whole {
		return fmt.Errorf("%s is a %s model, which cannot take guesses back: it is of no use to give it a draft model", b.info.File, b.info.Architecture)
	}
	p := o.modelParams()
	p.Progress = nil
	model, err := llama.Load(ctx, o.DraftModel, p)
	if err != nil {
		return fmt.Errorf("draft model: %w", err)
	}
	b.draft = &draft{model: model, computed: map[int][]llama.Token{}}
	if err := b.draft.open(b); err != nil {
		return fmt.Errorf("%s cannot be the draft model of %s: %w", filepath.Base(o.DraftModel), b.info.File, err)
	}
	return nil
}

func (d *draft) open(b *Backend) error {
	facts := d.model.Facts()
	if !generates(facts) {
		return fmt.Errorf("it is a %s model, which does not generate text token by token", facts.Architecture)
	}
	if facts.Recurrent || facts.Hybrid {
		return fmt.Errorf("it is a %s model, which cannot take guesses back", facts.Architecture)
	}
	if err := sameVocabulary(d.model.Vocab(), b.vocab); err != nil {
		return err
	}
	d.shared = min(d.model.Vocab().Len(), b.vocab.Len())
	d.reach = b.info.Context
	for _, limit := range []int{facts.ContextTrain, facts.MaxPositions} {
		if limit > 0 {
			d.reach = min(d.reach, limit)
		}
	}
	c := llama.DefaultContextParams()
	c.ContextSize, c.BatchSize, c.UBatchSize = engine.DraftStreams*d.reach, batchTokens, batchTokens
	c.Sequences, c.MaxOutputs = engine.DraftStreams, engine.DraftStreams
	c.Threads, c.BatchThreads = b.threads, b.threads
	var err error
	if d.context, err = llama.NewContext(d.model, c); err != nil {
		return err
	}
	if !continues(d.context) {
		return errors.New("it is a model for embeddings, which does not generate text")
	}
	d.batch, err = llama.NewBatch(d.context.BatchSize(), 1)
	return err
}

// sameVocabulary tells where a draft model's tokens are others than the model's.
func sameVocabulary(draft, model *llama.Vocab) error {
	if draft.Type() != model.Type() {
		return fmt.Errorf("its vocabulary is of type %s, the model's of type %s", draft.Type(), model.Type())
	}
	if n := draft.Len() - model.Len(); n > mostPadding || n < -mostPadding {
		return fmt.Errorf("its vocabulary has %d tokens, the model's %d", draft.Len(), model.Len())
	}
	ds, ms := draft.Specials(), model.Specials()
	if ds.AddBOS != ms.AddBOS || ms.AddBOS && ds.BOS != ms.BOS {
		return errors.New("it begins texts with another token")
	}
	if ds.AddEOS != ms.AddEOS || ms.AddEOS && ds.EOS != ms.EOS {
		return errors.New("it ends texts with another token")
	}
	for t := range llama.Token(min(draft.Len(), model.Len())) {
		if t < firstCompare {
			continue
		}
		its, err := draft.Text(t)
		if err != nil {
			return err
		}
		models, err := model.Text(t)
		if err != nil {
			return err
		}
		if its != models {
			return fmt.Errorf("its token %d is %q, the model's %q", t, its, models)
		}
	}
	return nil
}

// Drafts tells whether a draft model was loaded.
func (b *Backend) Drafts() bool { return b.draft != nil }

// Guess returns what the draft model finds likeliest. It stops before an end, which nothing follows, and guesses nothing behind
// tokens that its vocabulary lacks, or that are too many for it.
func (b *Backend) Guess(ctx context.Context, sequence int, tokens []engine.Token, n int) ([]engine.Token, error) {
	d := b.draft
	guesses, err := d.guess(ctx, sequence, tokens, n)
	if err != nil {
		d.forget(sequence)
	}
	return guesses, err
}

// Forget frees a sequence of the draft model.
func (b *Backend) Forget(sequence int) { b.draft.forget(sequence) }

func (d *draft) forget(sequence int) {
	delete(d.computed, sequence)
	_ = d.context.Memory().Remove(sequence, 0, -1) // the whole can always be removed
}

func (d *draft) guess(ctx context.Context, sequence int, tokens []llama.Token, n int) ([]llama.Token, error) {
	had := d.computed[sequence]
	same := engine.CommonPrefix(had, tokens)
	if n > 0 {
		same = min(same, len(tokens)-1) // the last is computed for its logits
	}
	if len(tokens) > d.reach || slices.ContainsFunc(tokens[same:], func(t llama.Token) bool { return int(t) >= d.shared }) {
		return nil, nil
	}
	if same < len(had) {
		if err := d.context.Memory().Remove(sequence, same, -1); err != nil {
			return nil, err
		}
		d.computed[sequence] = had[:same]
	}
	for next := range slices.Chunk(tokens[same:], d.context.BatchSize()) {
		if err := d.compute(ctx, sequence, next); err != nil {
			return nil, err
		}
	}
	var guesses []llama.Token
	for n = min(n, d.reach-len(tokens)); len(guesses) < n; {
		logits, err := d.context.Logits(-1)
		if err != nil {
			return nil, err
		}
		next := likeliest(logits[:d.shared])
		if d.model.Vocab().IsEOG(next) {
			break
		}
		if guesses = append(guesses, next); len(guesses) == n {
			break
		}
		if err := d.compute(ctx, sequence, guesses[len(guesses)-1:]); err != nil {
			return nil, err
		}
	}
	return guesses, nil
}

// compute appends tokens to a sequence; the last one's logits are there afterwards.
func (d *draft) compute(ctx context.Context, sequence int, tokens []llama.Token) error {
	d.batch.Clear()
	at := len(d.computed[sequence])
	for i, t := range tokens {
		if err := d.batch.Add(t, at+i, i == len(tokens)-1, sequence); err != nil {
			return err
		}
	}
	if err := d.context.Decode(ctx, d.batch); err != nil {
		return err
	}
	d.computed[sequence] = append(d.computed[sequence], tokens...)
	return nil
}

func likeliest(logits []float32) llama.Token {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return llama.Token(best)
}

func (d *draft) close() error {
	var errs []error
	if d.batch != nil {
		errs = append(errs, d.batch.Close())
	}
	if d.context != nil {
		errs = append(errs, d.context.Close())
	}
	return errors.Join(append(errs, d.model.Close())...)
}
