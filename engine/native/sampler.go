package native

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// sampler is a llama.cpp chain that is shown as few tokens as possible. A chain that begins with top-k, or is greedy, chooses
// the same among the likeliest tokens as among all, so a list of all 50,000 to 250,000 is made only where other stages need
// it. A grammar is asked about the chain's choice; when that breaks it, for the tokens it allows, if these are few, then about
// the likeliest tokens, and about all only when too few of them are left.
type sampler struct {
	adjust  *llama.Sampler // weighs tokens one by one: logit bias, penalties, DRY; nil without them
	choose  *llama.Sampler // cuts and chooses
	grammar *llama.Sampler // nil without a constraint
	vocab   *llama.Vocab
	// spellings are what the grammar is walked along.
	spellings *llama.Spellings

	greedy bool
	need   int            // the likeliest tokens that choose looks at; 0 is all
	biased []engine.Token // by logit bias, in the order of ids
	window int            // of recent tokens that adjust looks at
	recent []engine.Token // the last that were sampled, at least window of them

	allowed llama.Set
	spelled []byte // by forced tokens
	top     llama.Top
	short   llama.Candidates // the likeliest
	all     llama.Candidates
	one     llama.Candidates // that the grammar is asked about
	touched []engine.Token   // that adjust may change
	list    llama.Candidates // of them
	back    func()           // gives the sampler back to the backend, once
}

const (
	// glance is how many texts a grammar is walked along before it is asked about the likeliest tokens. Where it forces most
	// of what comes it has fewer, inside a string far more.
	glance = 2000
	// shortlist is how many tokens it is asked about then.
	shortlist = 512
)

// NewSampler builds llama.cpp's default order of stages, leaving out what is switched off.
func (b *Backend) NewSampler(s engine.Sampling, seed uint32, c engine.Constraint) (engine.Sampler, error) {
	if err := b.lend(); err != nil {
		return nil, err
	}
	out := &sampler{back: sync.OnceFunc(b.samplers.Done)}
	if err := out.open(b, s, seed, c); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func (s *sampler) open(b *Backend, set engine.Sampling, seed uint32, c engine.Constraint) error {
	for t := range set.LogitBias {
		if t < 0 || int(t) >= b.vocab.Len() {
			return &engine.FieldError{Field: "Sampling.LogitBias", Problem: fmt.Sprintf("token %d is not in 0..%d", t, b.vocab.Len()-1)}
		}
	}
	s.vocab = b.vocab
	plan := b.plan(set, seed)
	s.greedy, s.need, s.window, s.biased = plan.greedy, plan.need, plan.window, slices.Sorted(maps.Keys(plan.bias))
	var err error
	if len(plan.adjust) > 0 {
		if s.adjust, err = llama.NewSampler(b.model, plan.adjust...); err != nil {
			return refusal("Sampling", err)
		}
	}
	if s.choose, err = llama.NewSampler(b.model, plan.choose...); err != nil {
		return refusal("Sampling", err)
	}
	if c.Grammar == "" {
		return nil
	}
	stage := llama.Grammar(c.Grammar, "root")
	if c.Lazy {
		stage = llama.LazyGrammar(c.Grammar, "root", llama.Trigger{Patterns: c.Patterns, Tokens: c.Tokens})
	}
	if s.grammar, err = llama.NewSampler(b.model, stage); err != nil {
		return refusal("Grammar", err)
	}
	if s.spellings, err = b.spellings(); err != nil {
		return refusal("Grammar", err)
	}
	for _, t := range c.Begun {
		if err := s.grammar.Accept(t); err != nil {
			return refusal("Grammar", err)
		}
	}
	return nil
}

func refusal(field string, err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return &engine.FieldError{Field: field, Problem: err.Error()}
}

// Sample chooses a token and remembers it.
func (s *sampler) Sample(logits []float32) (engine.Token, error) {
	token, err := s.free(logits)
	if err == nil && s.grammar != nil && !s.allows(token) {
		token, err = s.constrained(logits)
	}
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
	if s.adjust != nil {
		if err := s.adjust.Accept(token); err != nil {
			return err
		}
	}
	if s.window > 0 {
		if len(s.recent) >= 2*s.window+64 {
			s.recent = append(s.recent[:0], s.recent[len(s.recent)-s.window:]...)
		}
		s.recent = append(s.recent, token)
	}
	return s.choose.Accept(token)
}

// free is the chain's choice.
func (s *sampler) free(logits []float32) (engine.Token, error) {
	if s.need > 0 && s.likeliest(logits, s.need) && s.rank() {
		return s.pick(&s.short)
	}
	s.all.Reset(logits)
	return s.adjusted(nil)
}

// constrained is the chain's choice among what the grammar allows.
func (s *sampler) constrained(logits []float32) (engine.Token, error) {
	if ok, err := s.among(logits, glance); ok || err != nil {
		return s.adjusted(err)
	}
	if s.need > 0 && s.likeliest(logits, max(s.need, shortlist)) {
		if err := s.grammar.Apply(&s.short); err != nil {
			return llama.NoToken, err
		}
		// Every token that is not in the list is less likely than what is left of it now.
		least := s.top.Least
		s.short.Items = slices.DeleteFunc(s.short.Items, func(c llama.Candidate) bool { return c.Logit < least })
		if len(s.short.Items) >= s.need && s.rank() {
			return s.pick(&s.short)
		}
	}
	if ok, err := s.among(logits, math.MaxInt); ok || err != nil {
		return s.adjusted(err)
	}
	return s.asked(logits)
}

// among lists what the grammar allows, if that is to be known with a budget.
func (s *sampler) among(logits []float32, budget int) (bool, error) {
	ok, err := s.grammar.Allowed(s.spellings, budget, &s.allowed)
	if ok {
		s.all.PickSet(logits, s.allowed)
	}
	return ok, err
}

// asked is constrained where the grammar must be asked about each token.
func (s *sampler) asked(logits []float32) (engine.Token, error) {
	s.all.Reset(logits)
	err := s.grammar.Apply(&s.all)
	// Some stages would count what is forbidden.
	s.all.Items = slices.DeleteFunc(s.all.Items, func(c llama.Candidate) bool { return math.IsInf(float64(c.Logit), -1) })
	return s.adjusted(err)
}

// adjusted is the chain's choice among the tokens of the long list, unless there was an error before.
func (s *sampler) adjusted(err error) (engine.Token, error) {
	if err == nil && len(s.all.Items) == 0 {
		err = fmt.Errorf("grammar: %w", llama.ErrRejected)
	}
	if err == nil && s.adjust != nil {
		err = s.adjust.Apply(&s.all)
	}
	if err != nil {
		return llama.NoToken, err
	}
	return s.pick(&s.all)
}

func (s *sampler) pick(c *llama.Candidates) (engine.Token, error) {
	if err := s.choose.Apply(c); err != nil {
		return llama.NoToken, err
	}
	return c.Token(), nil
}

// allows asks the grammar about one token.
func (s *sampler) allows(token engine.Token) bool {
	s.one.Items, s.one.Selected = append(s.one.Items[:0], llama.Candidate{ID: token}), -1
	return s.grammar.Apply(&s.one) == nil && s.one.Items[0].Logit == 0
}

// likeliest fills the short list, in the order of ids, with the k likeliest tokens at least, as adjust weighs them. A token
// that is not in it is less likely than top.Least. It returns false where only a list of all tokens does.
func (s *sampler) likeliest(logits []float32, k int) bool {
	touched := s.adjustable()
	if !s.top.Find(logits, k+len(touched)) {
		return false
	}
	if len(touched) == 0 {
		s.short.Items = append(s.short.Items[:0], s.top.Items...)
		s.short.Selected, s.short.Sorted = -1, false
		return true
	}
	s.list.Pick(logits, touched)
	if s.adjust.Apply(&s.list) != nil {
		return false
	}
	s.short.Items, s.short.Selected, s.short.Sorted = s.short.Items[:0], -1, false
	rest := s.list.Items
	for _, c := range s.top.Items {
		for len(rest) > 0 && rest[0].ID < c.ID {
			s.short.Items, rest = append(s.short.Items, rest[0]), rest[1:]
		}
		if len(rest) > 0 && rest[0].ID == c.ID {
			c, rest = rest[0], rest[1:]
		}
		s.short.Items = append(s.short.Items, c)
	}
	s.short.Items = append(s.short.Items, rest...)
	return true
}

// adjustable lists the tokens that adjust may change, in the order of ids.
func (s *sampler) adjustable() []engine.Token {
	if s.window == 0 {
		return s.biased
	}
	s.touched = append(s.touched[:0], s.biased...)
	s.touched = append(s.touched, s.recent[max(0, len(s.recent)-s.window):]...)
	slices.Sort(s.touched)
	s.touched = slices.Compact(s.touched)
	return s.touched
}

// rank makes the short list what top-k makes of all tokens. It returns false where that depends on their order: when tokens
// are equally likely. Greedy chains take the first of the most likely as it is.
func (s *sampler) rank() bool {
	if s.greedy {
		return true
	}
	items := s.short.Items
	slices.SortFunc(items, func(a, b llama.Candidate) int { return cmp.Compare(b.Logit, a.Logit) })
	for i := 1; i <= s.need && i < len(items); i++ {
		if items[i].Logit == items[i-1].Logit {
			return false
		}
	}
	s.short.Items, s.short.Sorted = items[:s.need], true
	return true
}

// Close frees the chains.
func (s *sampler) Close() error {
	defer s.back()
	var errs []error
	for _, chain := range []*llama.Sampler{s.adjust, s.choose, s.grammar} {
		if chain != nil {
			errs = append(errs, chain.Close())
		}
	}
	return errors.Join(errs...)
}
