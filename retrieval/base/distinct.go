package base

import (
	"maps"
	"strings"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/lexical"
)

// same is the share of their words from which two passages say the same, if all their numbers agree: "10 days" is not "14 days".
const same = .9

// distinct gives the first k passages that don't say what a better one says.
func distinct(hits []retrieval.Hit, analyzer *lexical.Analyzer, k int) []retrieval.Hit {
	type words struct{ all, numbers map[string]bool }
	var seen []words
	kept := hits[:0]
next:
	for _, h := range hits {
		if len(kept) == k {
			break
		}
		w := words{map[string]bool{}, map[string]bool{}}
		for _, term := range analyzer.Terms(h.Passage.Lead + " " + h.Passage.Text) {
			w.all[term] = true
			if strings.ContainsAny(term, "0123456789") {
				w.numbers[term] = true
			}
		}
		for _, other := range seen {
			if maps.Equal(w.numbers, other.numbers) && overlap(w.all, other.all) >= same {
				continue next
			}
		}
		seen = append(seen, w)
		kept = append(kept, h)
	}
	return kept
}

// overlap is the Jaccard index of two sets; 1 of empty ones.
func overlap(a, b map[string]bool) float64 {
	both := 0
	for x := range a {
		if b[x] {
			both++
		}
	}
	if either := len(a) + len(b) - both; either > 0 {
		return float64(both) / float64(either)
	}
	return 1
}

// diverse takes hits one by one, each time the one that is best after losing weight times its likeness to those taken.
func diverse(hits []retrieval.Hit, vectors map[string][]float32, weight float64, k int) []retrieval.Hit {
	if len(hits) == 0 {
		return hits
	}
	// Scores have scales of their own; the best counts 1, the last 0.
	high, low := hits[0].Score, hits[len(hits)-1].Score
	worth := func(h retrieval.Hit) float64 {
		if high == low {
			return 1
		}
		return (h.Score - low) / (high - low)
	}
	likeness := make([]float64, len(hits)) // to the nearest of those taken
	taken := make([]bool, len(hits))
	var out []retrieval.Hit
	for len(out) < min(k, len(hits)) {
		best, value := -1, 0.
		for i, h := range hits {
			if v := (1-weight)*worth(h) - weight*likeness[i]; !taken[i] && (best < 0 || v > value) {
				best, value = i, v
			}
		}
		taken[best] = true
		out = append(out, hits[best])
		chosen := vectors[hits[best].Passage.ID]
		for i, h := range hits {
			if v := vectors[h.Passage.ID]; len(v) == len(chosen) {
				likeness[i] = max(likeness[i], cosine(chosen, v))
			}
		}
	}
	return out
}
