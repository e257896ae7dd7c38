package ranking

import (
	"math/rand/v2"
	"slices"
)

// Interval is a mean over questions with its 95 % confidence interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// resamples of a bootstrap; its error in a limit is then about a hundredth of the interval.
const resamples = 10_000

// Bootstrap gives the mean of values and its percentile interval (Efron 1979), the same for the same values. Of no values it is 0.
func Bootstrap(values []float64) Interval {
	n := len(values)
	if n == 0 {
		return Interval{}
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	means := make([]float64, resamples)
	for i := range means {
		for range n {
			means[i] += values[r.IntN(n)]
		}
		means[i] /= float64(n)
	}
	slices.Sort(means)
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return Interval{Mean: sum / float64(n), Low: means[resamples*25/1000], High: means[resamples*975/1000-1]}
}
