package engine

// drafting is how well guesses go of what a stream says next, which are computed and checked together: an answer that quotes its
// prompt costs fewer steps. Guesses come from what stands behind the same tokens earlier in the prompt and the answer (prompt
// look-up decoding; Saxena 2023), else from a draft model, and are only made while they pay. It belongs to the loop.
type drafting struct {
	hit float64 // how often a guessed token was right, lately
}

const (
	draftMost  = 16
	draftMatch = 3 // tokens that must be the same for a guess
	draftDepth = 8 // tokens that are compared
)

// forced guesses what the grammar leaves no choice about.
func (g *generation) forced(n int) []Token {
	if f, ok := g.sampler.(Forcer); ok {
		return f.Forced(n)
	}
	return nil
}

// look guesses up to n tokens to follow.
func look(tokens []Token, n int) []Token {
	last := len(tokens) - 1
	best, length := -1, draftMatch-1
	for i := last - 1; i >= draftMatch-1 && length < draftDepth; i-- {
		if tokens[i] != tokens[last] {
			continue
		}
		same := 1
		for same < draftDepth && i-same >= 0 && tokens[i-same] == tokens[last-same] {
			same++
		}
		if same > length {
			best, length = i+1, same
		}
	}
	if best < 0 {
		return nil
	}
	return tokens[best:min(best+n, len(tokens))]
}

// size is how many tokens to guess, each of which takes some seconds, so that a token costs least: with k guesses of which each is
// right with probability p, (1-p^(k+1))/(1-p) tokens come out of one step of k more rows, and one for each of the other streams, which
// wait for it.
func (d *drafting) size(c *cost, each float64, streams, most int) int {
	best, rate := 0, 0.0
	for k := 0; k <= most; k++ {
		seconds := c.step(streams + k)
		if seconds == 0 {
			return min(most, 4) // nothing is known yet
		}
		expected, power := float64(streams-1), 1.0
		for range k + 1 {
			expected += power
			power *= d.hit
		}
		if r := expected / (seconds + each*float64(k)); r > rate*1.02 {
			best, rate = k, r
		}
	}
	return best
}

// learn books how many of the guesses were right.
func (d *drafting) learn(right, guessed int) {
	for range right {
		d.hit += (1 - d.hit) / 16
	}
	if right < guessed {
		d.hit -= d.hit / 8
	}
}

// What a stream that rests comes to hope for, so that it tries again. Guesses of a draft model must be right more often to pay.
const (
	saidAtBest  = 0.6
	modelAtBest = 0.95
)

// rest lets a stream that does not guess forget slowly that guesses were wrong.
func (d *drafting) rest(best float64) { d.hit += (best - d.hit) / 128 }
