package engine

import (
	"cmp"
	"slices"
)

// tree keeps the KV of ended requests in holder sequences, under their tokens in a radix tree, so that a later request that
// starts with the same tokens shares their cells instead of computing them again. Each line, which is who asks and how the KV was
// computed, has a tree of its own: nobody learns from timing what others asked. It belongs to the loop.
type tree struct {
	free  []int // holder sequences without tokens
	held  []*prefix
	roots map[string]*node
	clock uint64
}

// prefix is a holder sequence and its tokens.
type prefix struct {
	sequence int
	line     string
	tokens   []Token
	used     uint64
	hits     int
	placed   bool // passages in it were
	node     *node
}

// node is a place in the tree, below an edge of tokens. Below each there is a prefix, or one ends there.
type node struct {
	edge     []Token
	parent   *node // nil for a root
	children map[Token]*node
	prefix   *prefix
}

func newTree(from, to int) *tree {
	t := &tree{roots: map[string]*node{}}
	for s := to - 1; s >= from; s-- {
		t.free = append(t.free, s)
	}
	return t
}

// longest finds a prefix that shares most leading tokens with a prompt, and how many; nil when none shares any.
func (t *tree) longest(line string, prompt []Token) (*prefix, int) {
	n := t.roots[line]
	if n == nil {
		return nil, 0
	}
	depth := 0
	for depth < len(prompt) {
		next := n.children[prompt[depth]]
		if next == nil {
			break
		}
		same := CommonPrefix(next.edge, prompt[depth:])
		depth, n = depth+same, next
		if same < len(next.edge) {
			break
		}
	}
	if depth == 0 {
		return nil, 0
	}
	return n.best(), depth
}

// best is the prefix at or below a node that was of use most often, then the one last used: who counts the uses of a beginning
// counts them on one.
func (n *node) best() *prefix {
	found := n.prefix
	for _, child := range n.children {
		if p := child.best(); found == nil || cmp.Or(cmp.Compare(p.hits, found.hits), cmp.Compare(p.used, found.used)) > 0 {
			found = p
		}
	}
	return found
}

// touch marks a prefix as just used.
func (t *tree) touch(p *prefix) {
	t.clock++
	p.used = t.clock
	p.hits++
}

// add records tokens, which no prefix of the line has yet, under a free holder sequence, which the caller fills.
func (t *tree) add(line string, tokens []Token) *prefix {
	t.clock++
	p := &prefix{sequence: t.free[len(t.free)-1], line: line, tokens: tokens, used: t.clock}
	t.free = t.free[:len(t.free)-1]
	t.held = append(t.held, p)
	n := t.roots[line]
	if n == nil {
		n = &node{children: map[Token]*node{}}
		t.roots[line] = n
	}
	for rest := tokens; ; {
		if len(rest) == 0 {
			n.prefix, p.node = p, n
			return p
		}
		next := n.children[rest[0]]
		if next == nil {
			next = &node{edge: rest, parent: n, children: map[Token]*node{}}
			n.children[rest[0]] = next
		}
		same := CommonPrefix(next.edge, rest)
		if same < len(next.edge) {
			next = next.split(same)
		}
		n, rest = next, rest[same:]
	}
}

// split puts a node into the edge above n, behind that many of its tokens, and returns it.
func (n *node) split(at int) *node {
	upper := &node{edge: n.edge[:at], parent: n.parent, children: map[Token]*node{n.edge[at]: n}}
	n.parent.children[n.edge[0]] = upper
	n.edge, n.parent = n.edge[at:], upper
	return upper
}

// drop forgets a prefix; the caller empties its sequence.
func (t *tree) drop(p *prefix) {
	t.held = slices.DeleteFunc(t.held, func(other *prefix) bool { return other == p })
	t.free = append(t.free, p.sequence)
	n := p.node
	n.prefix = nil
	for n.prefix == nil && len(n.children) == 0 {
		if n.parent == nil {
			delete(t.roots, p.line)
			return
		}
		delete(n.parent.children, n.edge[0])
		n = n.parent
	}
	if n.prefix != nil || n.parent == nil || len(n.children) != 1 {
		return
	}
	for _, child := range n.children { // an edge through a place where nothing ends or forks is one edge
		child.edge = slices.Concat(n.edge, child.edge)
		child.parent = n.parent
		n.parent.children[child.edge[0]] = child
	}
}
