package engine

// cells mirrors the KV cache: which sequence holds which cells, shared ones counted once. It exists so that admission is
// exact; the backend's own cache has no such count.
type cells struct {
	limit   int
	running int // sequences below it run; the others only hold
	used    int
	kept    int       // of used, those that no running sequence holds
	refs    []int32   // of each cell, how many sequences hold it
	runs    []int32   // of each cell, how many of them run
	free    []int32   // cells that nobody holds
	held    [][]int32 // of each sequence, the cell at each position
}

func newCells(limit, running, sequences int) *cells {
	c := &cells{limit: limit, running: running, refs: make([]int32, limit), runs: make([]int32, limit), free: make([]int32, limit), held: make([][]int32, sequences)}
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
		c.used++
		c.kept++
		c.hold(sequence, cell)
	}
}

func (c *cells) hold(sequence int, cell int32) {
	c.refs[cell]++
	if sequence < c.running {
		if c.runs[cell]++; c.runs[cell] == 1 {
			c.kept--
		}
	}
	c.held[sequence] = append(c.held[sequence], cell)
}

// share gives the first n cells of one sequence to another, empty one as well.
func (c *cells) share(from, to, n int) {
	for _, cell := range c.held[from][:n] {
		c.hold(to, cell)
	}
}

// cut takes all cells from position n on away from a sequence.
func (c *cells) cut(sequence, n int) {
	held := c.held[sequence]
	for _, cell := range held[n:] {
		if sequence < c.running {
			if c.runs[cell]--; c.runs[cell] == 0 {
				c.kept++
			}
		}
		if c.refs[cell]--; c.refs[cell] == 0 {
			c.used--
			c.kept--
			c.free = append(c.free, cell)
		}
	}
	c.held[sequence] = held[:n]
}

// shared counts the cells from position n on that others hold as well: cutting them off a sequence does not free them.
func (c *cells) shared(sequence, n int) int {
	shared := 0
	for _, cell := range c.held[sequence][min(n, len(c.held[sequence])):] {
		if c.refs[cell] > 1 {
			shared++
		}
	}
	return shared
}

// own counts the cells that nobody shares with a sequence: what cutting it would free.
func (c *cells) own(sequence int) int { return c.len(sequence) - c.shared(sequence, 0) }
