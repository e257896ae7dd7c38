package base

import (
	"cmp"
	"slices"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/index"
)

// found is what the arms answered.
type found struct {
	question []float32
	dense    []index.Match
	lexical  []retrieval.Match
	cosines  map[string]float64 // of all passages that were found
}

// rrfOffset is k of reciprocal rank fusion, as its authors set it.
const rrfOffset = 60

// fuse ranks all that the arms found. Its hits have ids and scores, no texts yet.
func fuse(f found, arms retrieval.Arms, fusion retrieval.Fusion) []retrieval.Hit {
	byID := make(map[string]*retrieval.Hit, len(f.cosines))
	hit := func(id string) *retrieval.Hit {
		h := byID[id]
		if h == nil {
			h = &retrieval.Hit{Passage: retrieval.Passage{ID: id}, Dense: f.cosines[id]}
			byID[id] = h
		}
		return h
	}
	for rank, m := range f.dense {
		h := hit(m.Passage)
		if fusion.Method == retrieval.RRF {
			h.Fused += 1 / float64(rrfOffset+1+rank)
		}
	}
	for rank, m := range f.lexical {
		h := hit(m.Passage)
		h.Lexical = m.Score
		if fusion.Method == retrieval.RRF {
			h.Fused += 1 / float64(rrfOffset+1+rank)
		}
	}
	best, top := 0., -1.
	for _, h := range byID {
		best, top = max(best, h.Lexical), max(top, h.Dense)
	}
	hits := make([]retrieval.Hit, 0, len(byID))
	for _, h := range byID {
		if fusion.Method == retrieval.Convex {
			// The least possible scores are -1 and 0.
			if top > -1 {
				h.Fused += fusion.Weight * (h.Dense + 1) / (top + 1)
			}
			if best > 0 {
				h.Fused += (1 - fusion.Weight) * h.Lexical / best
			}
		}
		switch arms {
		case retrieval.Dense:
			h.Score = h.Dense
		case retrieval.Lexical:
			h.Score = h.Lexical
		default:
			h.Score = h.Fused
		}
		hits = append(hits, *h)
	}
	slices.SortFunc(hits, func(a, b retrieval.Hit) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Passage.ID, b.Passage.ID))
	})
	return hits
}
