package native

import (
	"errors"
	"fmt"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// sampler is a llama.cpp chain with its own candidates; a grammar runs over all of them only when the chain's choice breaks
// it, which is rare and saves a pass over the vocabulary for each token.
type sampler struct {
	chain      *llama.Sampler
	grammar    *llama.Sampler // nil without a constraint
	candidates llama.Candidates
	giveBack   func() // to the backend, once
}

// NewSampler builds llama.cpp's default order of stages, leaving out what is switched off.
func (b *Backend) NewSampler(s engine.Sampling, seed uint32, c engine.Constraint) (engine.Sampler, error) {
	if err := b.lend(); err != nil {
		return nil, err
	}
	out := &sampler{giveBack: sync.OnceFunc(b.samplers.Done)}
	var err error
	if c.Grammar != "" {
		stage := llama.Grammar(c.Grammar, "root")
		if c.Lazy {
			stage = llama.LazyGrammar(c.Grammar, "root", llama.Trigger{Patterns: c.Patterns, Tokens: c.Tokens})
		}
		if out.grammar, err = llama.NewSampler(b.model, stage); err != nil {
			out.Close()
			return nil, refusal("Grammar", err)
		}
		for _, t := range c.Begun {
			if err := out.grammar.Accept(t); err != nil {
				out.Close()
				return nil, refusal("Grammar", err)
			}
		}
	}
	for t := range s.LogitBias {
		if t < 0 || int(t) >= b.vocab.Len() {
			out.Close()
			return nil, &engine.FieldError{Field: "Sampling.LogitBias", Problem: fmt.Sprintf("token %d is not in 0..%d", t, b.vocab.Len()-1)}
		}
	}
	if out.chain, err = llama.NewSampler(b.model, b.stages(s, seed)...); err != nil {
		out.Close()
		return nil, refusal("Sampling", err)
	}
	return out, nil
}

func refusal(field string, err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return &engine.FieldError{Field: field, Problem: err.Error()}
}

// Sample chooses a token and remembers it.
func (s *sampler) Sample(logits []float32) (engine.Token, error) {
	token, err := s.choose(logits)
	if err != nil {
		return llama.NoToken, err
	}
	return token, s.Accept(token)
}

// Accept remembers a token that was chosen before.
func (s *sampler) Accept(token engine.Token) error {
	if s.grammar != nil {
		if err := s.grammar.Accept(token); err != nil {
			return err
		}
	}
	return s.chain.Accept(token)
}

func (s *sampler) choose(logits []float32) (engine.Token, error) {
	s.candidates.Reset(logits)
	if err := s.chain.Apply(&s.candidates); err != nil {
		return llama.NoToken, err
	}
	token := s.candidates.Token()
	if s.grammar == nil || s.allows(token) {
		return token, nil
	}
	s.candidates.Reset(logits)
	if err := s.grammar.Apply(&s.candidates); err != nil {
		return llama.NoToken, err
	}
	if err := s.chain.Apply(&s.candidates); err != nil {
		return llama.NoToken, err
	}
	return s.candidates.Token(), nil
}

// allows asks the grammar about one token.
func (s *sampler) allows(token engine.Token) bool {
	one := llama.Candidates{Items: []llama.Candidate{{ID: token}}, Selected: -1}
	return s.grammar.Apply(&one) == nil && one.Items[0].Logit == 0
}

// Close frees the chains.
func (s *sampler) Close() error {
	defer s.giveBack()
	if s.grammar != nil {
		s.grammar.Close()
	}
	if s.chain != nil {
		return s.chain.Close()
	}
	return nil
}
