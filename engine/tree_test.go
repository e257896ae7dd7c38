package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The tree finds what a search through all prefixes finds, whatever was added and dropped before.
func TestTree(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tree := newTree(4, 4+1+rng.IntN(20))
		holders := len(tree.free)
		random := func() []Token {
			tokens := make([]Token, 1+rng.IntN(12))
			for i := range tokens {
				tokens[i] = Token(rng.IntN(2))
			}
			return tokens
		}
		line := func() string { return string(rune('a' + rng.IntN(2))) }
		for range 300 {
			tokens, on := random(), line()
			most := 0
			for _, p := range tree.held {
				if p.line == on {
					most = max(most, CommonPrefix(p.tokens, tokens))
				}
			}
			p, shared := tree.longest(on, tokens)
			if shared != most || (p == nil) != (most == 0) || p != nil && (p.line != on || CommonPrefix(p.tokens, tokens) != shared) {
				t.Fatalf("seed %d: %v on %s shares %d, found %d of %+v", seed, tokens, on, most, shared, p)
			}
			switch exact := p != nil && len(p.tokens) == len(tokens) && shared == len(tokens); {
			case len(tree.held) > 0 && (len(tree.free) == 0 || rng.IntN(3) == 0):
				tree.drop(tree.held[rng.IntN(len(tree.held))])
			case !exact && !slices.ContainsFunc(tree.held, func(p *prefix) bool { return p.line == on && slices.Equal(p.tokens, tokens) }):
				tree.add(on, tokens)
			}
			if len(tree.held)+len(tree.free) != holders {
				t.Fatalf("seed %d: %d holders of %d", seed, len(tree.held)+len(tree.free), holders)
			}
		}
		for len(tree.held) > 0 {
			tree.drop(tree.held[0])
		}
		if len(tree.roots) != 0 {
			t.Errorf("seed %d: an empty tree has %d roots", seed, len(tree.roots))
		}
	}
}
