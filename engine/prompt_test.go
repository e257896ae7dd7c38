package engine_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// The step that ends a short prompt takes no long ones in, but a bit of the oldest: its first token waits for it.
func TestShortPromptsEndSoon(t *testing.T) {
	f := enginetest.NewFake(engine.Limits{Cells: 1024, Batch: 64, Running: 4, Sequences: 8}, 400)
	computing, submitted := make(chan struct{}), make(chan struct{})
	var steps []map[int]int // rows by sequence
	var ends []int          // steps in which the short prompt is computed to its end
	f.Fail = func(rows []engine.Row) error {
		if len(steps) == 0 {
			close(computing)
			<-submitted
		}
		step := map[int]int{}
		for _, r := range rows {
			step[r.Sequence]++
			if r.Position == 9 && r.Output {
				ends = append(ends, len(steps))
			}
		}
		steps = append(steps, step)
		return nil
	}
	c := engine.DefaultConfig()
	c.Placing, c.Draft, c.Cache = engine.PlaceNever, false, engine.CacheConfig{}
	e := start(t, f, c)
	var wait sync.WaitGroup
	ask := func(text string) {
		s, err := e.Generate(t.Context(), &engine.Request{Text: text, MaxTokens: 1, Logprobs: -1})
		if err != nil {
			t.Error(err)
			return
		}
		wait.Go(func() {
			defer s.Close()
			if _, _, err := enginetest.Read(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	ask("first " + strings.Repeat("a", 300))
	<-computing
	ask("second " + strings.Repeat("b", 300))
	ask("ten tokens")
	close(submitted)
	wait.Wait()
	if len(ends) != 1 || ends[0] != 1 || len(steps[1]) != 2 {
		t.Fatalf("the short prompt ended in steps %v of %v, want the second, with one long prompt", ends, steps)
	}
	for _, n := range steps[1] {
		if n > 16 { // a quarter of the batch
			t.Errorf("beside the end of a short prompt %d rows were computed of a long one", n)
		}
	}
}
