package answer

import "math"

// linear is a logistic model: the weights of the features that it looks at.
type linear struct {
	bias    float64
	weights features
}

func (f features) vector() []float64 {
	return []float64{f.Dense, f.Bare, f.Passage, f.Cover, f.Literal, f.Weakest, f.Weak, f.Missing, f.Absent, f.Met, f.Unmet, f.Heading,
		f.Gain, f.Question, f.Focus, f.Denies}
}

func (l linear) logit(x []float64) float64 {
	sum := l.bias
	for i, w := range l.weights.vector() {
		sum += w * x[i]
	}
	return sum
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

var evidenceModel = linear{bias: -4.9, weights: features{Dense: 2.3, Bare: 2.2, Cover: 1.5, Literal: 1.4, Weak: 1, Absent: -0.5, Met: 0.6, Unmet: -1.6, Question: -2, Denies: -0.3}}

var rankModel = linear{bias: -4.4, weights: features{Dense: 1.9, Bare: 1.8, Cover: 1.3, Literal: 1.2, Weak: 1, Absent: -0.5, Met: 0.6, Unmet: -1.6, Gain: 0.28, Question: -2, Denies: -0.3}}

var answerableModel = linear{bias: -2.6, weights: features{Dense: 1.8, Cover: 1.6, Weakest: 1.3, Weak: 0.5, Missing: -1, Met: 0.4, Unmet: -1.2}}

const (
	supportBias    = -5.0
	supportOverlap = 5.0
	supportCosine  = 3.0
	rankMargin     = 0.5
	quoteMargin    = 1.0
)
