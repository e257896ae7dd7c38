package native

import "github.com/quipu-ai/quipu/engine"

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
