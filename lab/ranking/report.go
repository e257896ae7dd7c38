package ranking

import (
	"fmt"
	"slices"
	"strings"
)

// Metrics are those of one arm: the values of each question, in the questions' order.
type Metrics struct {
	Arm    string               `json:"arm"`
	Values map[string][]float64 `json:"-"`
	Means  map[string]Interval  `json:"metrics"`
	// P50 and P95 are how long a search took, in milliseconds.
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
}

// Names of the metrics, in the order of reports.
func Names() []string { return []string{"nDCG@10", "recall@10", "recall@100", "MRR@10", "MAP@100"} }

// Measure holds rankings against grades. rankings has the best documents of each question, milliseconds how long its search took.
func Measure(arm string, rankings [][]string, grades []Grades, milliseconds []float64) Metrics {
	m := Metrics{Arm: arm, Values: map[string][]float64{}, Means: map[string]Interval{}}
	for i, ranked := range rankings {
		g := grades[i]
		for name, v := range map[string]float64{
			"nDCG@10": NDCG(ranked, g, 10), "recall@10": Recall(ranked, g, 10), "recall@100": Recall(ranked, g, 100),
			"MRR@10": ReciprocalRank(ranked, g, 10), "MAP@100": AveragePrecision(ranked[:min(100, len(ranked))], g),
		} {
			m.Values[name] = append(m.Values[name], v)
		}
	}
	for name, values := range m.Values {
		m.Means[name] = Bootstrap(values)
	}
	sorted := slices.Sorted(slices.Values(milliseconds))
	if n := len(sorted); n > 0 {
		m.P50, m.P95 = sorted[(n-1)/2], sorted[(n*95+99)/100-1]
	}
	return m
}

// Difference is by how much b is better than a in a metric, with the interval over questions, which are paired.
func Difference(a, b Metrics, metric string) Interval {
	values := make([]float64, len(a.Values[metric]))
	for i := range values {
		values[i] = b.Values[metric][i] - a.Values[metric][i]
	}
	return Bootstrap(values)
}

// Report is what an evaluation found.
type Report struct {
	Data      string    `json:"data"`
	Documents int       `json:"documents"`
	Questions int       `json:"questions"`
	Arms      []Metrics `json:"arms"`
}

// Table is the report as Markdown.
func (r Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d documents, %d questions; in brackets 95 %% confidence intervals over questions\n\n| arm |", r.Data, r.Documents, r.Questions)
	for _, name := range Names() {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString(" p50, ms | p95 |\n|---|" + strings.Repeat("---|", len(Names())+2) + "\n")
	for _, m := range r.Arms {
		fmt.Fprintf(&b, "| %s |", m.Arm)
		for _, name := range Names() {
			v := m.Means[name]
			fmt.Fprintf(&b, " %.3f [%.3f, %.3f] |", v.Mean, v.Low, v.High)
		}
		fmt.Fprintf(&b, " %.1f | %.1f |\n", m.P50, m.P95)
	}
	if len(r.Arms) > 1 {
		best := r.Arms[len(r.Arms)-1]
		b.WriteByte('\n')
		for _, m := range r.Arms[:len(r.Arms)-1] {
			d := Difference(m, best, "nDCG@10")
			fmt.Fprintf(&b, "%s over %s: nDCG@10 %+.3f [%+.3f, %+.3f]\n", best.Arm, m.Arm, d.Mean, d.Low, d.High)
		}
	}
	return b.String()
}
