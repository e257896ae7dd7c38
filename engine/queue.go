package engine

import (
	"cmp"
	"slices"
)

// queue holds the tasks that wait, those of each key in their order of arrival. Whose turn it is says a counter of the tokens
// that were computed for a key: the one with the least goes first (the virtual token counter of Sheng et al. 2024, "Fairness in
// Serving Large Language Models": the same bound as deficit round robin, without a quantum to choose). A key that was away
// starts at the least counter of those who wait, so that nobody saves up turns. It belongs to the loop.
type queue struct {
	lines  map[string][]*task
	tokens map[string]float64 // computed for a key, weighed; of keys that have tasks
	active map[string]int     // tasks of a key, waiting or running
	n      int
}

// decodeWeight is what a generated token counts in prompt tokens: it takes a step of its own.
const decodeWeight = 2

func newQueue() *queue {
	return &queue{lines: map[string][]*task{}, tokens: map[string]float64{}, active: map[string]int{}}
}

// enter books a new task and puts it at the end of its line.
func (q *queue) enter(t *task) {
	if q.active[t.key] == 0 {
		least, any := 0.0, false
		for _, n := range q.tokens {
			if !any || n < least {
				least, any = n, true
			}
		}
		q.tokens[t.key] = least
	}
	q.active[t.key]++
	q.lines[t.key] = append(q.lines[t.key], t)
	q.n++
}

// leave ends the booking of a task that enter began.
func (q *queue) leave(t *task) {
	if q.active[t.key]--; q.active[t.key] == 0 {
		delete(q.active, t.key)
		delete(q.tokens, t.key)
	}
}

// others tells whether other keys have tasks, waiting or running.
func (q *queue) others(key string) bool {
	n := len(q.active)
	if q.active[key] > 0 {
		n--
	}
	return n > 0
}

// back puts a task that ran at the front of its line.
func (q *queue) back(t *task) {
	q.lines[t.key] = slices.Insert(q.lines[t.key], 0, t)
	q.n++
}

// charge books computed tokens of a key.
func (q *queue) charge(t *task, tokens int, weight float64) {
	if _, ok := q.tokens[t.key]; ok {
		q.tokens[t.key] += weight * float64(tokens)
	}
}

// keys lists those who wait, whose turn is first before the others.
func (q *queue) keys() []string {
	keys := make([]string, 0, len(q.lines))
	for key := range q.lines {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if q.tokens[a] != q.tokens[b] {
			return cmp.Compare(q.tokens[a], q.tokens[b])
		}
		return int(q.lines[a][0].number) - int(q.lines[b][0].number)
	})
	return keys
}

// remove takes those out of the lines that f is true for.
func (q *queue) remove(f func(*task) bool) {
	for key, line := range q.lines {
		kept := slices.DeleteFunc(line, f)
		q.n -= len(line) - len(kept)
		if len(kept) == 0 {
			delete(q.lines, key)
		} else {
			q.lines[key] = kept
		}
	}
}

// all lists everybody who waits.
func (q *queue) all() []*task {
	var tasks []*task
	for _, line := range q.lines {
		tasks = append(tasks, line...)
	}
	return tasks
}
