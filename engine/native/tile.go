package native

import "github.com/quipu-ai/quipu/engine"

// On CPUs ggml computes attention of a batch of 64 rows and more in tiles of 64 rows, and of a smaller one row by row. A tile reads the
// cells that any of its rows needs, once, in about the time that ten single rows take to read theirs, and looks through the masks of all
// 64, which in a cache that is well filled takes longer than that. So a piece of a prompt
// that is smaller than a tile, behind a long context, is cheaper when it is filled up to one.
const (
	tileRows   = 64 // GGML_FA_TILE_Q
	tileWorth  = 25 // single rows that take as long as a tile
	tileLeast  = 16 // rows below which filling up does not pay
	fillerCost = 75 // cells that a row could read while a row of filling is computed
)

// filling is how many rows to add to a batch so that attention is computed in tiles; 0 where that would not be sooner.
func filling(rows []engine.Row) int {
	n := len(rows)
	if n < tileLeast || n >= tileRows {
		return 0
	}
	single, tile := 0, 0
	furthest := map[int]int{}
	for _, r := range rows {
		single += r.Position + 1
		if end := r.Position + 1; end > furthest[r.Sequence] {
			tile += end - furthest[r.Sequence]
			furthest[r.Sequence] = end
		}
	}
	if fill := tileRows - n; single > tileWorth*tile+fillerCost*fill {
		return fill
	}
	return 0
}
