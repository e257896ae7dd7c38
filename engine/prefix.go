package engine

// prefixes keeps the KV of ended requests in holder sequences, so that a later request of the same key that starts with
// the same tokens shares their cells instead of computing them again. It belongs to the loop.
type prefixes struct {
	free  []int // holder sequences without tokens
	held  []*prefix
	clock uint64
}

type prefix struct {
	sequence int
	key      string
	tokens   []Token
	used     uint64
}

func newPrefixes(from, to int) *prefixes {
	p := &prefixes{}
	for s := to - 1; s >= from; s-- {
		p.free = append(p.free, s)
	}
	return p
}

// longest finds the holder that shares most leading tokens with a prompt, and how many.
func (p *prefixes) longest(key string, prompt []Token) (*prefix, int) {
	var best *prefix
	most := 0
	for _, h := range p.held {
		if h.key != key {
			continue
		}
		if n := common(h.tokens, prompt); n > most {
			best, most = h, n
		}
	}
	if best != nil {
		p.clock++
		best.used = p.clock
	}
	return best, most
}

// oldest is the holder used least recently; nil when there is none.
func (p *prefixes) oldest() *prefix {
	var old *prefix
	for _, h := range p.held {
		if old == nil || h.used < old.used {
			old = h
		}
	}
	return old
}

// add records tokens under a free holder sequence, which the caller fills.
func (p *prefixes) add(key string, tokens []Token) *prefix {
	p.clock++
	h := &prefix{sequence: p.free[len(p.free)-1], key: key, tokens: tokens, used: p.clock}
	p.free = p.free[:len(p.free)-1]
	p.held = append(p.held, h)
	return h
}

// drop forgets a holder; the caller empties its sequence.
func (p *prefixes) drop(h *prefix) {
	for i, other := range p.held {
		if other == h {
			p.held = append(p.held[:i], p.held[i+1:]...)
			p.free = append(p.free, h.sequence)
			return
		}
	}
}

// common counts the leading tokens that two lists share.
func common(a, b []Token) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
