package answer

import (
	"math"
	"testing"
)

// sample is one row of a fit: what is known, and whether it is what is looked for.
type sample struct {
	x []float64
	y bool
}

// scale brings features to mean 0 and deviation 1, so that one penalty suits all.
type scale struct{ mean, deviation []float64 }

func newScale(samples []sample) scale {
	n := len(samples[0].x)
	s := scale{make([]float64, n), make([]float64, n)}
	for j := range n {
		for _, p := range samples {
			s.mean[j] += p.x[j] / float64(len(samples))
		}
		for _, p := range samples {
			s.deviation[j] += (p.x[j] - s.mean[j]) * (p.x[j] - s.mean[j]) / float64(len(samples))
		}
		s.deviation[j] = math.Sqrt(s.deviation[j]) + 1e-9
	}
	return s
}

func (s scale) apply(x []float64) []float64 {
	out := make([]float64, len(x))
	for j := range x {
		if s.deviation[j] > 1e-6 {
			out[j] = (x[j] - s.mean[j]) / s.deviation[j]
		}
	}
	return out
}

// raw gives weights and bias for unscaled features.
func (s scale) raw(w []float64, bias float64) ([]float64, float64) {
	out := make([]float64, len(w))
	for j := range w {
		if s.deviation[j] > 1e-6 {
			out[j] = w[j] / s.deviation[j]
			bias -= out[j] * s.mean[j]
		}
	}
	return out, bias
}

// descend minimises a smooth convex function by gradient descent with momentum (Nesterov, 1983).
func descend(n int, gradient func(w, g []float64)) []float64 {
	w, before, g, ahead := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for step := range 4000 {
		momentum := float64(step) / float64(step+3)
		for j := range w {
			ahead[j] = w[j] + momentum*(w[j]-before[j])
		}
		clear(g)
		gradient(ahead, g)
		copy(before, w)
		for j := range w {
			w[j] = ahead[j] - 0.3*g[j]
		}
	}
	return w
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// fitLogistic fits P(y) = sigmoid(w·x + bias) with an L2 penalty on the scaled weights.
func fitLogistic(samples []sample, penalty float64) ([]float64, float64) {
	s := newScale(samples)
	n := len(samples[0].x)
	scaled := make([]sample, len(samples))
	for i, p := range samples {
		scaled[i] = sample{s.apply(p.x), p.y}
	}
	w := descend(n+1, func(w, g []float64) {
		for _, p := range scaled {
			off := sigmoid(dot(w[:n], p.x) + w[n])
			if p.y {
				off--
			}
			for j, v := range p.x {
				g[j] += off * v / float64(len(scaled))
			}
			g[n] += off / float64(len(scaled))
		}
		for j := range n {
			g[j] += 2 * penalty * w[j]
		}
	})
	return s.raw(w[:n], w[n])
}

// fitChoice fits weights that put what is looked for first in each group: the probability of a row is softmax(w·x), and the
// likelihood that of any of the group's right rows. Groups without one are left out.
func fitChoice(groups [][]sample, penalty float64) []float64 {
	var all []sample
	var useful [][]sample
	for _, g := range groups {
		right := false
		for _, p := range g {
			right = right || p.y
		}
		if right {
			useful = append(useful, g)
			all = append(all, g...)
		}
	}
	s := newScale(all)
	n := len(all[0].x)
	scaled := make([][]sample, len(useful))
	for i, g := range useful {
		for _, p := range g {
			scaled[i] = append(scaled[i], sample{s.apply(p.x), p.y})
		}
	}
	w := descend(n, func(w, g []float64) {
		for _, group := range scaled {
			p := make([]float64, len(group))
			most := math.Inf(-1)
			for i, row := range group {
				p[i] = dot(w, row.x)
				most = max(most, p[i])
			}
			total, right := 0.0, 0.0
			for i, row := range group {
				p[i] = math.Exp(p[i] - most)
				total += p[i]
				if row.y {
					right += p[i]
				}
			}
			for i, row := range group {
				pull := p[i] / total
				if row.y {
					pull -= p[i] / right
				}
				for j, v := range row.x {
					g[j] += pull * v / float64(len(scaled))
				}
			}
		}
		for j := range n {
			g[j] += 2 * penalty * w[j]
		}
	})
	raw, _ := s.raw(w, 0)
	return raw
}

func TestFitLogistic(t *testing.T) {
	var samples []sample
	for i := range 200 {
		x := float64(i%20) - 10
		samples = append(samples, sample{[]float64{x, 1, math.Sin(float64(i))}, x > 2})
	}
	w, bias := fitLogistic(samples, 0.001)
	if at := -bias / w[0]; at < 1 || at > 4 {
		t.Errorf("the border lies at %.2f (weights %v)", at, w)
	}
	if math.Abs(w[2]) > math.Abs(w[0]) {
		t.Errorf("noise weighs more than what decides: %v", w)
	}
}

func TestFitChoice(t *testing.T) {
	var groups [][]sample
	for i := range 40 {
		var g []sample
		for k := range 5 {
			g = append(g, sample{[]float64{float64((i + k) % 5), math.Cos(float64(i * k))}, (i+k)%5 == 4})
		}
		groups = append(groups, g)
	}
	if w := fitChoice(groups, 0.001); w[0] < 1 || math.Abs(w[1]) > w[0]/2 {
		t.Errorf("weights %v", w)
	}
}
