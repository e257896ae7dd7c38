package native

import (
	"testing"

	"github.com/quipu-ai/quipu/engine"
)

// Only what is one prompt's, and long, is filled up.
func TestFilling(t *testing.T) {
	rows := func(sequences, each, from int) (rows []engine.Row) {
		for s := range sequences {
			for i := range each {
				rows = append(rows, engine.Row{Sequence: s, Position: from + i})
			}
		}
		return rows
	}
	for _, c := range []struct {
		what string
		rows []engine.Row
		want int
	}{
		{"a question behind passages", rows(1, 50, 1000), 14},
		{"a short one", rows(1, 32, 1000), 32},
		{"a very short one", rows(1, 20, 1000), 0},
		{"a short prompt", rows(1, 20, 0), 0},
		{"two questions", rows(2, 30, 1000), 4},
		{"three questions", rows(3, 20, 1000), 0},
		{"streams", rows(20, 1, 1000), 0},
		{"a tile", rows(1, 64, 1000), 0},
	} {
		if got := filling(c.rows); got != c.want {
			t.Errorf("%s: %d rows are added, want %d", c.what, got, c.want)
		}
	}
}
