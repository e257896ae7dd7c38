package native

import (
	"slices"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// StageNames are a sampler's stages in llama.cpp's words.
func StageNames(s engine.Sampler) []string {
	chains := s.(*sampler)
	var names []string
	if chains.adjust != nil {
		names = chains.adjust.Names()
	}
	return append(names, chains.choose.Names()...)
}

// VocabSize is the number of logits.
func VocabSize(b *Backend) int { return b.vocab.Len() }

// Plain is the sampler that ours must equal: llama.cpp's way over lists of all tokens, and grammars asked about each of them
// once the chain's choice breaks them.
type Plain struct{ *sampler }

// NewPlain makes a Plain.
func (b *Backend) NewPlain(s engine.Sampling, seed uint32, c engine.Constraint) (*Plain, error) {
	made, err := b.NewSampler(s, seed, c)
	if err != nil {
		return nil, err
	}
	p := &Plain{made.(*sampler)}
	p.need = 0
	return p, nil
}

// Sample is Sample without short cuts.
func (p *Plain) Sample(logits []float32) (engine.Token, error) {
	token, err := p.free(logits)
	if err == nil && p.grammar != nil && !p.allows(token) {
		token, err = p.asked(logits)
	}
	if err != nil {
		return token, err
	}
	return token, p.Accept(token)
}

// SetBatch sets how many tokens fill a batch, up to those that one text may have.
func SetBatch(e *Embedder, tokens int) { e.full = tokens }

// PairTokens are those of a query and a text in a template for reranking, or without one.
func PairTokens(v *llama.Vocab, template, query, text string) ([]llama.Token, error) {
	p := pairs{vocab: v}
	if template != "" {
		var err error
		if p.template, err = parsePairTemplate(template); err != nil {
			return nil, err
		}
	}
	head, err := p.head(query)
	if err != nil {
		return nil, err
	}
	body, tail, err := p.rest(text)
	return slices.Concat(head, body, tail), err
}
