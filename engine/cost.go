package engine

import "time"

// cost is what a step takes on this machine, learned while running: a base that grows with the streams in it, and so much more
// for each prompt token, which depends on how many come at a time (kernels have widths that suit them). From it follows how
// many prompt tokens a step may take beside streams. It belongs to the loop.
type cost struct {
	gap    time.Duration // between the tokens of a stream, that prompts beside it should not exceed
	decode []float64     // seconds of a step without prompt tokens, by rows; 0 is not known yet
	token  []float64     // seconds that each prompt token adds, by size of the piece as in pieces; 0 is not known yet

	guess  float64 // seconds of a token that the draft model guesses; 0 is not known, or not any more
	follow float64 // seconds of a token that it only reads; 0 is not known yet
	rested int     // how often in a row no guess was worth it
}

// pieces are the sizes of prompt pieces that steps choose from, streams' rows included. Kernels are better at some than at others,
// so what a token costs is measured for each.
var pieces = [...]int{16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048}

// patience is how many times longer than without prompts a step may take, whatever the gap: where streams alone nearly fill the
// gap, new ones would come in token by token, and the fewer run the less all together get done.
const patience = 2.5

// readings is how many steps of one stream, which hardly do anything but read the weights, a step for prompts alone may take
// whatever the gap.
const readings = 8

// forgetting is by what part a step brings what larger pieces seem to cost closer to what it cost itself. A piece that was slow once,
// as the first of a size are, would never be tried again.
const forgetting = 1.0 / 64

func newCost(gap time.Duration, rows int) *cost {
	return &cost{gap: gap, decode: make([]float64, rows+1), token: make([]float64, len(pieces))}
}

// blend moves an average an eighth of the way, or takes the first value.
func blend(average *float64, value float64) {
	if *average == 0 {
		*average = value
	} else {
		*average += (value - *average) / 8
	}
}

// observe learns from a step of so many rows for streams and so many prompt tokens.
func (c *cost) observe(streams, prompt int, took time.Duration) {
	seconds := took.Seconds()
	if prompt == 0 {
		if streams < len(c.decode) {
			blend(&c.decode[streams], seconds)
		}
		return
	}
	if streams > 0 {
		seconds = max(seconds-c.step(streams), seconds/8)
	}
	size, each := piece(streams+prompt), seconds/float64(prompt)
	blend(&c.token[size], each)
	for i := size + 1; i < len(c.token); i++ {
		if c.token[i] > each {
			c.token[i] += (each - c.token[i]) * forgetting
		}
	}
}

// piece is the index of the largest piece that is not above so many rows.
func piece(rows int) int {
	i := 0
	for i+1 < len(pieces) && pieces[i+1] <= rows {
		i++
	}
	return i
}

// step is what a step for so many rows of streams takes, in seconds; where that is not known, as much as the nearest known; 0
// when nothing is.
func (c *cost) step(rows int) float64 {
	rows = min(rows, len(c.decode)-1)
	for d := range len(c.decode) {
		if below := rows - d; below > 0 && c.decode[below] > 0 {
			return c.decode[below]
		}
		if above := rows + d; above < len(c.decode) && c.decode[above] > 0 {
			return c.decode[above]
		}
	}
	return 0
}

// perToken is what a prompt token costs in a piece of a size; where that is not known, as in the nearest known below, or above;
// 0 when nothing is.
func (c *cost) perToken(size int) float64 {
	for i := size; i >= 0; i-- {
		if c.token[i] > 0 {
			return c.token[i]
		}
	}
	for _, seconds := range c.token[size:] {
		if seconds > 0 {
			return seconds
		}
	}
	return 0
}

// budget is how many prompt tokens to compute in a step beside so many streams: as many as the gap allows, but always some. Where
// nobody streams, who comes meanwhile waits for the step: two gaps, or as long as makes the reading of the weights, which each step
// does anew, count for little.
func (c *cost) budget(streams, most int) int {
	base := c.step(streams)
	limit := max(c.gap.Seconds(), patience*base)
	if streams == 0 {
		base, limit = 0, max(2*c.gap.Seconds(), readings*c.step(1))
	}
	best := 0
	for i, size := range pieces {
		prompt := size - streams
		if prompt <= 0 || size > most {
			continue
		}
		// With nothing known the first is tried.
		if token := c.perToken(i); best > 0 && (token == 0 || base+token*float64(prompt) > limit) {
			break
		}
		best = prompt
	}
	return max(best, 1)
}

// guessed learns from guesses of the draft model. One that was far too slow, as the first ones are, does not count when others are
// faster.
func (c *cost) guessed(n int, took time.Duration) {
	each := took.Seconds() / float64(n)
	if c.guess > 2*each {
		c.guess = 0
	}
	blend(&c.guess, each)
	c.rested = 0
}

// stale is after how many rests what a guess takes is not known any more: nothing measures it meanwhile.
const stale = 256

// rest books that no guess of the draft model was worth it.
func (c *cost) rest() {
	if c.rested++; c.rested == stale {
		c.guess, c.rested = 0, 0
	}
}

// piece is how many tokens of a stream the draft model reads at a time beside so many streams: together about as long as a step.
func (c *cost) piece(streams int) int {
	if c.follow == 0 {
		return leastFollowed
	}
	return max(leastFollowed, min(int(c.step(streams)/c.follow)/streams, mostFollowed))
}
