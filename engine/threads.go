package engine

import "slices"

// Threaded is a backend that computes with threads of this machine's processors, as many as it is told before a step.
type Threaded interface {
	// Threads is how many it may use at the most.
	Threads() int
	// SetThreads says with how many the next Decode computes. It belongs to the loop.
	SetThreads(n int)
}

// tuner chooses how many threads compute: by trying, while running, for nobody knows what else the machine does. ggml's threads
// wait for each other by spinning, so beside one busy neighbour two threads are three times slower than one. It belongs to the
// loop.
type tuner struct {
	arms   []int
	at     int       // the arm in use
	recent []float64 // what its last steps took, in seconds a unit of work
	usual  float64   // what they take in the long run
	trial  int       // the arm on trial; -1 is none
	tried  []float64
	next   int // the neighbour to try next: -1 or 1
	due    int // steps until a trial
}

const (
	trialEvery   = 192 // steps
	trialUpEvery = 64  // steps, with less than all threads: a busy neighbour leaves some time
	trialDoubt   = 3   // steps, when the machine seems to have changed
	trialSteps   = 4
	trialWorst   = 1.5 // times as long a step on trial may be, or it is over
)

// newTuner starts with the most threads.
func newTuner(most int) *tuner {
	t := &tuner{trial: -1, next: -1, due: 16}
	for n := 1; n < most; n *= 2 {
		t.arms = append(t.arms, n)
	}
	if most > 3 {
		t.arms = append(t.arms, most-1)
		slices.Sort(t.arms)
		t.arms = slices.Compact(t.arms)
	}
	t.arms = append(t.arms, most)
	t.at = len(t.arms) - 1
	return t
}

// threads is how many compute the next step.
func (t *tuner) threads() int {
	if t.trial >= 0 {
		return t.arms[t.trial]
	}
	return t.arms[t.at]
}

// observe learns what a step took a unit of work, and decides about trials. It reports whether another number of threads turned
// out to be better.
func (t *tuner) observe(seconds float64) (changed bool) {
	if len(t.arms) == 1 {
		return false
	}
	if t.trial >= 0 {
		if t.tried = append(t.tried, seconds); len(t.tried) == trialSteps || seconds > trialWorst*median(t.recent) {
			return t.judge()
		}
		return false
	}
	t.recent = append(t.recent, seconds)
	if len(t.recent) > trialSteps {
		t.recent = t.recent[1:]
	}
	blend(&t.usual, seconds)
	t.due--
	// Something has come over the machine when several steps together take much longer than they use to.
	slow := len(t.recent) == trialSteps && slices.Min(t.recent) > 1.4*t.usual
	if t.due <= 0 || slow {
		t.begin()
	}
	return false
}

// doubt has a trial soon, compared with what steps take from now on.
func (t *tuner) doubt() {
	if t.trial < 0 {
		t.recent, t.due = nil, trialDoubt
	}
}

// begin tries a neighbour of the arm in use, below and above in turn.
func (t *tuner) begin() {
	t.trial = t.at + t.next
	if t.trial < 0 || t.trial >= len(t.arms) {
		t.trial = t.at - t.next
	}
	t.next = -t.next
	t.tried = t.tried[:0]
}

// judge ends a trial: the better arm stays. The median tells, for single steps are disturbed by anything.
func (t *tuner) judge() (better bool) {
	better = len(t.tried) == trialSteps && median(t.tried) < 0.97*median(t.recent)
	if better {
		t.at = t.trial
		t.recent, t.usual = slices.Clone(t.tried), median(t.tried)
		t.due = 16 // what was better before may be so again soon
	} else {
		t.due = trialEvery
		if t.at < len(t.arms)-1 {
			t.due = trialUpEvery
		}
		t.usual = median(t.recent)
	}
	t.trial = -1
	return better
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
