package base

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/lexical"
)

func order(hits []retrieval.Hit) string {
	var ids []string
	for _, h := range hits {
		ids = append(ids, h.Passage.ID)
	}
	return strings.Join(ids, " ")
}

func TestFuse(t *testing.T) {
	f := found{
		dense:   []index.Match{{Passage: "a", Cosine: .9}, {Passage: "b", Cosine: .8}, {Passage: "c", Cosine: .1}},
		lexical: []retrieval.Match{{Passage: "c", Score: 10}, {Passage: "b", Score: 9}, {Passage: "d", Score: 1}},
		cosines: map[string]float64{"a": .9, "b": .8, "c": .1, "d": -.2},
	}
	for _, c := range []struct {
		arms   retrieval.Arms
		fusion retrieval.Fusion
		want   string
	}{
		{retrieval.Both, retrieval.Fusion{Method: retrieval.Convex, Weight: .5}, "b c a d"},
		{retrieval.Both, retrieval.Fusion{Method: retrieval.Convex, Weight: 1}, "a b c d"},
		{retrieval.Both, retrieval.Fusion{Method: retrieval.Convex, Weight: 0}, "c b d a"},
		{retrieval.Both, retrieval.Fusion{Method: retrieval.RRF}, "c b a d"},
	} {
		hits := fuse(f, c.arms, c.fusion)
		if got := order(hits); got != c.want {
			t.Errorf("%+v: %s, want %s", c.fusion, got, c.want)
		}
		for _, h := range hits {
			if h.Dense != f.cosines[h.Passage.ID] || h.Score != h.Fused {
				t.Errorf("%+v", h)
			}
		}
	}
	hits := fuse(f, retrieval.Both, retrieval.Fusion{Method: retrieval.Convex, Weight: .5})
	if want := .5*1.8/1.9 + .5*.9; math.Abs(hits[0].Fused-want) > 1e-12 || hits[0].Lexical != 9 {
		t.Errorf("%+v, want %g", hits[0], want)
	}
	f.lexical = nil
	if got := order(fuse(f, retrieval.Both, retrieval.DefaultFusion())); !strings.HasPrefix(got, "a b c") {
		t.Errorf("without words: %s", got)
	}
	if got := fuse(found{}, retrieval.Both, retrieval.DefaultFusion()); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestDistinct(t *testing.T) {
	a, err := lexical.New("")
	if err != nil {
		t.Fatal(err)
	}
	var hits []retrieval.Hit
	for id, text := range []string{
		"The battery of every Lumen bicycle is guaranteed for two years or 500 cycles, whichever comes first, everywhere in the world.",
		"The battery of every LUMEN bicycle is guaranteed for two years or 500 cycles – whichever comes first, everywhere in the world!",
		"The battery of every Lumen bicycle is guaranteed for two years or 800 cycles, whichever comes first, everywhere in the world.",
		"Another thing.",
		"",
		"",
	} {
		hits = append(hits, retrieval.Hit{Passage: retrieval.Passage{ID: string(rune('a' + id)), Text: text}})
	}
	for k, want := range map[int]string{len(hits): "a c d e", 2: "a c", 0: ""} {
		if got := order(distinct(slices.Clone(hits), a, k)); got != want {
			t.Errorf("of at most %d kept are %s, want %s", k, got, want)
		}
	}
}

func TestDiverse(t *testing.T) {
	hit := func(id string, score float64) retrieval.Hit {
		return retrieval.Hit{Passage: retrieval.Passage{ID: id}, Score: score}
	}
	hits := []retrieval.Hit{hit("a", 10), hit("b", 9.9), hit("c", 5), hit("d", 1)}
	vectors := map[string][]float32{"a": {1, 0}, "b": {1, 0}, "c": {0, 1}, "d": {0, 1}}
	for weight, want := range map[float64]string{.0001: "a b c", .5: "a c b"} {
		if got := order(diverse(append([]retrieval.Hit(nil), hits...), vectors, weight, 3)); got != want {
			t.Errorf("%g: %s, want %s", weight, got, want)
		}
	}
	if got := diverse(nil, nil, .5, 3); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
