package engine

import (
	"math"
	"slices"
	"testing"
	"time"
)

// Who had least computed comes first, and nobody saves up turns while away.
func TestQueue(t *testing.T) {
	q := newQueue()
	number := uint64(0)
	enter := func(key string) *task {
		number++
		task := &task{key: key, number: number}
		q.enter(task)
		return task
	}
	first, other := enter("a"), enter("b")
	if keys := q.keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("with equal counters %v come first", keys)
	}
	q.charge(first, 100, 1)
	if keys := q.keys(); keys[0] != "b" {
		t.Errorf("after 100 tokens for a come %v", keys)
	}
	q.charge(other, 1000, 1)
	late := enter("c")
	if q.tokens["c"] != 100 {
		t.Errorf("who comes late starts at %v, the least of the others is 100", q.tokens["c"])
	}
	q.remove(func(task *task) bool { return task == late })
	q.leave(late)
	if _, there := q.tokens["c"]; there || q.n != 2 {
		t.Errorf("who left is still counted: %v, %d wait", q.tokens, q.n)
	}
	q.back(&task{key: "a", number: 9})
	if q.lines["a"][0].number != 9 || q.n != 3 {
		t.Error("who was put back is not first in its line")
	}
}

// A piece is as large as the gap allows, by what was measured.
func TestBudget(t *testing.T) {
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	c := newCost(100*time.Millisecond, 32)
	if got := c.budget(4, 512); got != 12 {
		t.Errorf("with nothing known a piece has %d tokens, want the smallest, 12", got)
	}
	for range 20 {
		c.observe(4, 0, ms(20))
		c.observe(4, 28, ms(20+28*0.5)) // 0.5 ms a token
		c.observe(0, 128, ms(128*0.5))
	}
	if got := c.budget(4, 512); got != 128-4 {
		t.Errorf("at half a millisecond a token a piece has %d tokens, want 124: 20 + 62 ms", got)
	}
	for range 50 {
		c.observe(4, 124, ms(300)) // that size turned out to be slow
	}
	if got := c.budget(4, 512); got != 92 {
		t.Errorf("where 128 rows take 300 ms a piece has %d tokens, want 92", got)
	}
	for range 50 {
		c.observe(4, 0, ms(500))
	}
	if got := c.budget(4, 512); got < 100 {
		t.Errorf("where streams alone take longer than the gap a piece has %d tokens: new ones would never come in", got)
	}
	if got := c.budget(40, 512); got < 1 {
		t.Errorf("beside 40 streams a piece has %d tokens", got)
	}
}

// Where nobody streams a step for prompts ends soon all the same, for who comes meanwhile waits for it; but where reading the weights
// alone takes long, it does much each time it reads them.
func TestBudgetOfPromptsAlone(t *testing.T) {
	for reading, want := range map[time.Duration]int{4 * time.Millisecond: 192, 40 * time.Millisecond: 256} {
		c := newCost(100*time.Millisecond, 32)
		for range 50 {
			c.observe(1, 0, reading)
			c.observe(0, 128, 128*time.Millisecond) // a millisecond a token
		}
		if got := c.budget(0, 512); got != want {
			t.Errorf("where a step of one stream takes %v, a step for prompts alone has %d tokens, want %d", reading, got, want)
		}
	}
}

// A size that was slow once is tried again.
func TestBudgetForgets(t *testing.T) {
	c := newCost(100*time.Millisecond, 32)
	c.observe(1, 0, 10*time.Millisecond)
	c.observe(1, 31, 25*time.Millisecond)
	c.observe(1, 47, 2*time.Second) // its first time
	if got := c.budget(1, 64); got != 31 {
		t.Fatalf("after a step of 48 rows that took two seconds a piece has %d tokens, want 31", got)
	}
	for range 500 {
		c.observe(1, 31, 25*time.Millisecond)
	}
	if got := c.budget(1, 64); got != 63 {
		t.Errorf("long after a slow step a piece has %d tokens, want 63", got)
	}
}

// The tuner finds the number of threads that is fastest, and finds it again when the machine changes.
func TestTuner(t *testing.T) {
	for _, most := range []int{1, 2, 3, 8, 24} {
		tuner := newTuner(most)
		for _, best := range []int{most, 1, most} {
			used := map[int]int{}
			for i := range 3000 {
				n := tuner.threads()
				if n < 1 || n > most {
					t.Fatalf("%d threads of %d", n, most)
				}
				seconds := 0.010 * (1 + 0.2*math.Abs(float64(n-best)))
				if i%37 == 0 {
					seconds *= 5 // a hiccup means nothing
				}
				tuner.observe(seconds)
				if i >= 1500 {
					used[n]++
				}
			}
			if used[best] < 1300 {
				t.Errorf("of up to %d threads %d are best, used are %v", most, best, used)
			}
		}
	}
}

// Who is told that the machine has changed finds out with its next steps, however seldom they come.
func TestTunerDoubts(t *testing.T) {
	tuner := newTuner(2)
	took := func(best int) float64 {
		if tuner.threads() == best {
			return 0.01
		}
		return 0.02
	}
	for range 100 {
		if tuner.observe(took(2)) {
			t.Fatal("one thread is said to be better, and isn't")
		}
	}
	tuner.due = trialEvery
	tuner.doubt()
	for i := range trialDoubt + trialSteps {
		if changed := tuner.observe(took(1)); changed != (i == trialDoubt+trialSteps-1) {
			t.Errorf("step %d: changed is %t", i, changed)
		}
	}
	if tuner.threads() != 1 {
		t.Error("in doubt, it didn't find that one thread is better now")
	}
}

func TestLook(t *testing.T) {
	tokens := func(s string) []Token {
		var out []Token
		for _, b := range []byte(s) {
			out = append(out, Token(b))
		}
		return out
	}
	for _, c := range []struct {
		said string
		n    int
		want string
	}{
		{"the bell tower stands. the bell t", 6, "ower s"},
		{"abcdX abcdY zabcd", 3, "Y z"}, // the latest, where all are as long
		{"abcd1 xbcd2 abcd", 1, "1"},    // the longest, where one is longer
		{"no repetition", 5, ""},
		{"ababab", 4, "ab"},
		{"ab", 4, ""},
		{"", 4, ""},
		{"the cat the cat", 0, ""},
	} {
		said := tokens(c.said)
		if len(said) == 0 {
			continue
		}
		if got := look(said, c.n); !slices.Equal(got, tokens(c.want)) {
			t.Errorf("after %q: %q, want %q", c.said, got, c.want)
		}
	}
}

// Guessing follows what it brings.
func TestDraftingSize(t *testing.T) {
	c := newCost(time.Second, 32)
	for rows := 1; rows <= 17; rows++ { // each row more costs half as much as the first
		for range 10 {
			c.observe(rows, 0, time.Duration(10+5*(rows-1))*time.Millisecond)
		}
	}
	d := &drafting{hit: 0.7}
	for range 200 {
		d.learn(4, 4)
	}
	if n := d.size(c, 0, 1, 8); n != 8 {
		t.Errorf("where all guesses are right it makes %d, want all 8", n)
	}
	for range 60 {
		d.learn(0, 4)
	}
	if n := d.size(c, 0, 1, 8); n != 0 {
		t.Errorf("where no guess is right it makes %d", n)
	}
	for range 1000 {
		d.rest(saidAtBest)
	}
	if n := d.size(c, 0, 1, 8); n == 0 {
		t.Error("it never tries again")
	}
}

// What a guess of the draft model takes counts, and it is measured again when it was not for long.
func TestModelDraftingSize(t *testing.T) {
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	c := newCost(time.Second, 32)
	for rows := 1; rows <= 17; rows++ {
		c.observe(rows, 0, ms(10))
	}
	for _, w := range []struct {
		hit, each float64 // of 10 ms
		from, to  int
	}{
		{0.9, 0, 16, 16}, {0.9, 0.001, 5, 12}, {0.9, 0.004, 1, 4}, {0.9, 0.012, 0, 0}, {0.3, 0.001, 1, 2}, {0.3, 0.004, 0, 0}, {0.05, 0.001, 0, 0},
	} {
		if n := (&drafting{hit: w.hit}).size(c, w.each, 1, 16); n < w.from || n > w.to {
			t.Errorf("guesses of %.0f ms that are right with %.2f: it makes %d, want %d to %d", 1000*w.each, w.hit, n, w.from, w.to)
		}
	}
	// What one stream gains by it the other waits for.
	d := &drafting{hit: 0.6}
	if one, two := d.size(c, 0.004, 1, 16), d.size(c, 0.004, 2, 16); one != 1 || two != 0 {
		t.Errorf("alone it makes %d guesses, beside another %d; want 1 and 0", one, two)
	}
	c.guessed(4, ms(400)) // the first is slow
	for range 3 {
		c.guessed(4, ms(4))
	}
	if c.guess != 0.001 {
		t.Errorf("a guess takes %.4f s, want 0.001", c.guess)
	}
	for range stale {
		c.rest()
	}
	if c.guess != 0 {
		t.Error("what a guess takes is still known, though it has not been measured for long")
	}
	if n := c.piece(2); n != leastFollowed {
		t.Errorf("with nothing known it reads %d tokens", n)
	}
	c.follow = 0.0001
	if one, two := c.piece(1), c.piece(2); one != 100 || two != 50 {
		t.Errorf("beside one stream it reads %d tokens, beside two %d; want 100 and 50", one, two)
	}
}
