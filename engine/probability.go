package engine

import (
	"math"
	"slices"
)

// logNorm is the log of the sum of the exponentials of logits: logprob(t) = logits[t] - logNorm(logits).
func logNorm(logits []float32) float64 {
	top := float32(math.Inf(-1))
	for _, l := range logits {
		top = max(top, l)
	}
	if math.IsInf(float64(top), -1) {
		return 0
	}
	var sum float64
	for _, l := range logits {
		if d := l - top; d > -20 { // what is smaller adds less than float32 can hold
			sum += math.Exp(float64(d))
		}
	}
	return float64(top) + math.Log(sum)
}

// likeliest lists the n most likely tokens, best first.
func likeliest(logits []float32, n int) []Token {
	top := make([]Token, 0, n+1)
	for t := range logits {
		if len(top) == n && (n == 0 || logits[t] <= logits[top[n-1]]) {
			continue
		}
		i, _ := slices.BinarySearchFunc(top, logits[t], func(have Token, l float32) int {
			if logits[have] >= l {
				return -1
			}
			return 1
		})
		top = slices.Insert(top, i, Token(t))
		if len(top) > n {
			top = top[:n]
		}
	}
	return top
}
