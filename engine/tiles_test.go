package engine_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// A batch that is computed in tiles has rows of streams or of prompts, and both go on.
func TestTiles(t *testing.T) {
	const tile = 16
	limits := engine.Limits{Cells: 2048, Batch: 64, Sequences: 24, Running: 6, Tile: tile}
	f := enginetest.NewFake(limits, 512)
	mixed, alone := 0, 0
	f.Fail = func(rows []engine.Row) error {
		streams, prompt := 0, 0
		for _, r := range rows {
			if r.Position < 100 { // the prompts have 100 tokens
				prompt++
			} else {
				streams++
			}
		}
		switch {
		case streams > 0 && prompt > 0 && len(rows) >= tile:
			mixed++
		case streams == 0:
			alone++
		}
		return nil
	}
	c := engine.DefaultConfig()
	c.Draft, c.Budget = false, 40
	e := start(t, f, c)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() { generated(t, e, strings.Repeat(fmt.Sprintf("%02d", i), 50), "", 30, 1, "") })
	}
	wg.Wait()
	if mixed > 0 || alone < 10 {
		t.Errorf("%d mixed batches were computed in tiles, %d with prompts alone", mixed, alone)
	}
}
