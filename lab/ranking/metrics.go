package ranking

import (
	"cmp"
	"math"
	"slices"
)

// Grades are how relevant documents are to one question, by id; 0 and less is irrelevant, as is what has no grade.
type Grades map[string]int

func (g Grades) relevant() int {
	n := 0
	for _, grade := range g {
		if grade > 0 {
			n++
		}
	}
	return n
}

// NDCG is the normalized discounted cumulative gain of the first k, with linear gains as trec_eval's ndcg_cut has them
// (Järvelin and Kekäläinen 2002).
func NDCG(ranked []string, g Grades, k int) float64 {
	best := make([]int, 0, len(g))
	for _, grade := range g {
		best = append(best, max(grade, 0))
	}
	slices.SortFunc(best, func(a, b int) int { return cmp.Compare(b, a) })
	gain, ideal := 0., 0.
	for i, id := range ranked[:min(k, len(ranked))] {
		gain += float64(max(g[id], 0)) / math.Log2(float64(i)+2)
	}
	for i, grade := range best[:min(k, len(best))] {
		ideal += float64(grade) / math.Log2(float64(i)+2)
	}
	if ideal == 0 {
		return 0
	}
	return gain / ideal
}

// Recall is the share of the relevant documents among the first k.
func Recall(ranked []string, g Grades, k int) float64 {
	found := 0
	for _, id := range ranked[:min(k, len(ranked))] {
		if g[id] > 0 {
			found++
		}
	}
	if n := g.relevant(); n > 0 {
		return float64(found) / float64(n)
	}
	return 0
}

// ReciprocalRank is one over the rank of the first relevant document among the first k, 0 without any.
func ReciprocalRank(ranked []string, g Grades, k int) float64 {
	for i, id := range ranked[:min(k, len(ranked))] {
		if g[id] > 0 {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// AveragePrecision is the mean of the precisions at each relevant document; one that is not ranked counts 0.
func AveragePrecision(ranked []string, g Grades) float64 {
	found, sum := 0, 0.
	for i, id := range ranked {
		if g[id] > 0 {
			found++
			sum += float64(found) / float64(i+1)
		}
	}
	if n := g.relevant(); n > 0 {
		return sum / float64(n)
	}
	return 0
}
