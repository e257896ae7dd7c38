package engine

// cells mirrors the KV cache: which sequence holds which cells, shared ones counted once. It exists so that admission is
// exact; the backend's own cache has no such count.
type cells struct {
	limit int
	used  int
	refs  []int32   // of each cell, how many sequences hold it
	free  []int32   // cells that nobody holds
	held  [][]int32 // of each sequence, the cell at each position
}

func newCells(limit, sequences int) *cells {
	c := &cells{limit: limit, refs: make([]int32, limit), free: make([]int32, limit), held: make([][]int32, sequences)}
	for i := range c.free {
		c.free[i] = int32(limit - 1 - i)
	}
	return c
}

func (c *cells) available() int { return c.limit - c.used }

// len is the number of positions that a sequence holds.
func (c *cells) len(sequence int) int { return len(c.held[sequence]) }

// grow gives a sequence n more cells; the caller has checked available.
func (c *cells) grow(sequence, n int) {
	for range n {
		cell := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.refs[cell] = 1
		c.used++
		c.held[sequence] = append(c.held[sequence], cell)
	}
}

// share gives the first n cells of one sequence to another, empty one as well.
func (c *cells) share(from, to, n int) {
	for _, cell := range c.held[from][:n] {
		c.refs[cell]++
		c.held[to] = append(c.held[to], cell)
	}
}

// cut takes all cells from position n on away from a sequence.
func (c *cells) cut(sequence, n int) {
	held := c.held[sequence]
	for _, cell := range held[n:] {
		if c.refs[cell]--; c.refs[cell] == 0 {
			c.used--
			c.free = append(c.free, cell)
		}
	}
	c.held[sequence] = held[:n]
}

// own counts the cells that nobody shares with a sequence: what cutting it would free.
func (c *cells) own(sequence int) int {
	n := 0
	for _, cell := range c.held[sequence] {
		if c.refs[cell] == 1 {
			n++
		}
	}
	return n
}
