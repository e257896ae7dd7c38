package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Table is the result for people.
func (r *Result) Table() string {
	var b strings.Builder
	b.WriteString(r.title() + "\n\n")
	fmt.Fprintf(&b, "%-26s %9s %9s %9s %9s %9s\n", "milliseconds", "p50", "p95", "p99", "max", "number")
	for _, g := range r.Groups {
		of := ""
		if len(r.Groups) > 1 {
			of = ", " + g.Name
		}
		for _, row := range []struct {
			name string
			Times
		}{{"first token", g.FirstToken}, {"gap", g.Gap}, {"latency", g.Latency}} {
			if row.N > 0 {
				fmt.Fprintf(&b, "%-26s %9.1f %9.1f %9.1f %9.1f %9d\n", row.name+of, row.P50, row.P95, row.P99, row.Max, row.N)
			}
		}
	}
	fmt.Fprintf(&b, "\n%d completed, %d failed", r.Completed, r.Failed)
	if r.Cut > 0 {
		fmt.Fprintf(&b, ", %d cut", r.Cut)
	}
	fmt.Fprintf(&b, " in %.1f s: %.2f requests/s", r.Seconds, r.Requests)
	if r.Passages > 0 {
		fmt.Fprintf(&b, ", %.1f passages/s", r.Passages)
	}
	if r.OutputTokens > 0 {
		fmt.Fprintf(&b, ", %.1f output tokens/s", r.Output)
	}
	if r.PromptTokens > 0 {
		fmt.Fprintf(&b, ", %.1f prompt tokens/s", r.Prompt)
		if r.CachedTokens > 0 {
			fmt.Fprintf(&b, " (%.0f %% of them cached)", 100*float64(r.CachedTokens)/float64(r.PromptTokens))
		}
	}
	b.WriteString("\n")
	if len(r.Finish) > 0 {
		b.WriteString("ended by")
		for i, f := range slices.Sorted(maps.Keys(r.Finish)) {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s: %d", f, r.Finish[f])
		}
		b.WriteString("\n")
	}
	if r.Again > 0 {
		fmt.Fprintf(&b, "%d sent again: the server had closed a connection that it kept\n", r.Again)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "%6d × %s\n", e.Count, e.Text)
	}
	return b.String()
}

func (r *Result) title() string {
	t := fmt.Sprintf("%s: %d clients", r.Workload, r.Clients)
	if r.Clients == 1 {
		t = r.Workload + ": 1 client"
	}
	if r.Tokens > 0 {
		t += fmt.Sprintf(", %d tokens", r.Tokens)
	}
	if r.Documents != "" {
		t += fmt.Sprintf(", passages in the %s, %s order", r.Documents, r.Order)
	}
	t += fmt.Sprintf(", seed %d", r.Seed)
	if r.Stopped {
		t += " (stopped before its end)"
	}
	return t
}
