//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/bench"
)

// set is all records of one load with one model.
type set struct {
	load
	records []record
}

// rounds lists what a server measured, by round.
func (s set) rounds(server string) map[int]record {
	of := map[int]record{}
	for _, r := range s.records {
		if r.Server == server && r.Result != nil && r.Result.Completed > 0 {
			of[r.Round] = r
		}
	}
	return of
}

// servers lists those that were tried, in the order of the report.
func (s set) servers() []string {
	var names []string
	for _, r := range s.records {
		if !slices.Contains(names, r.Server) {
			names = append(names, r.Server)
		}
	}
	order := func(name string) int {
		program, _, _ := strings.Cut(name, " ")
		return slices.Index([]string{quipuName, llamaName, pythonName, limitName}, program)
	}
	slices.SortStableFunc(names, func(a, b string) int {
		if d := order(a) - order(b); d != 0 {
			return d
		}
		return len(a) - len(b)
	})
	return names
}

// median of a server's rounds; NaN when it has none.
func (s set) median(server string, of func(record) float64) float64 {
	var values []float64
	for _, r := range s.rounds(server) {
		values = append(values, of(r))
	}
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[half]
}

// best is the server at its best setting for a figure: the one with the best median.
func (s set) best(f figure) (name string, value float64) {
	value = math.NaN()
	for _, server := range s.servers() {
		if f.limit != (server == limitName) || !f.limit && !strings.HasPrefix(server, llamaName) {
			continue
		}
		if v := s.median(server, f.record); !math.IsNaN(v) && (math.IsNaN(value) || f.better(v, value)) {
			name, value = server, v
		}
	}
	return name, value
}

func (f figure) record(r record) float64 { return f.of(r.Result) }

func (f figure) better(a, b float64) bool {
	if f.less {
		return a < b
	}
	return a > b
}

// ratio is how many times better a is than b.
func (f figure) ratio(a, b float64) float64 {
	if f.less {
		a, b = b, a
	}
	return a / b
}

// spread is the worst and the best ratio of rounds that both servers measured.
func (s set) spread(f figure, peer string) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	peers := s.rounds(peer)
	for round, r := range s.rounds(quipuName) {
		if p, both := peers[round]; both {
			ratio := f.ratio(f.record(r), f.record(p))
			low, high = min(low, ratio), max(high, ratio)
		}
	}
	return low, high
}

// report writes the results of all models.
func report(records []record) string {
	var models []string
	for _, r := range records {
		if !slices.Contains(models, r.Model) {
			models = append(models, r.Model)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s. Ratios say how many times better quipu is; a figure of several rounds is their median.\n", machine())
	for _, model := range models {
		fmt.Fprintf(&b, "\n### %s\n\n", model)
		var sets []set
		for _, l := range loads() {
			s := set{load: l}
			for _, r := range records {
				if r.Model == model && r.Load == l.name {
					s.records = append(s.records, r)
				}
			}
			if len(s.records) > 0 {
				sets = append(sets, s)
			}
		}
		comparison(&b, sets)
		memories(&b, sets)
		for _, s := range sets {
			s.table(&b)
		}
	}
	return b.String()
}

func comparison(b *strings.Builder, sets []set) {
	b.WriteString("| load | figure | quipu | best of llama-server | at its setting | ratio | rounds | goal |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range sets {
		for _, f := range s.measures {
			ours, goal, rounds, ratio := s.median(quipuName, f.record), "", "", ""
			name, theirs := s.best(f)
			if name == "" && f.limit {
				continue
			}
			if f.goal > 0 {
				goal = fmt.Sprintf("%g", f.goal)
			}
			if !math.IsNaN(ours) && !math.IsNaN(theirs) {
				ratio = number(f.ratio(ours, theirs))
			}
			if low, high := s.spread(f, name); low <= high {
				rounds = number(low) + "–" + number(high)
			}
			setting := strings.TrimSpace(strings.TrimPrefix(name, llamaName))
			if name == llamaName {
				setting = "default"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", s.name, f.name, number(ours), number(theirs), setting, ratio, rounds, goal)
		}
	}
}

// memories compares what the servers hold with many clients.
func memories(b *strings.Builder, sets []set) {
	i := slices.IndexFunc(sets, func(s set) bool { return s.name == "short" })
	if i < 0 {
		return
	}
	b.WriteString("\n| memory beyond files, MB | idle | peak at 16 clients | peak with files | seconds to rest |\n|---|---|---|---|---|\n")
	s := sets[i]
	for _, server := range s.servers() {
		if server == limitName {
			continue
		}
		megabytes := func(of func(memory) int64) string {
			return number(s.median(server, func(r record) float64 { return float64(of(r.Memory)) / 1e6 }))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", server, megabytes(func(m memory) int64 { return m.Idle }),
			megabytes(func(m memory) int64 { return m.Peak }), megabytes(func(m memory) int64 { return m.RSS }),
			number(s.median(server, func(r record) float64 { return r.Rest })))
	}
}

// table lists a load's servers with all that their clients saw.
func (s set) table(b *strings.Builder) {
	fmt.Fprintf(b, "\n#### %s\n\n", s.name)
	if s.kind == embedding {
		b.WriteString("| server | passages/s | latency p50 | p95 | completed | failed |\n|---|---|---|---|---|---|\n")
	} else {
		b.WriteString("| server | requests/s | tokens/s | first token p50 | p95 | gap p50 | p99 | latency p50 | p95 | completed | failed |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, server := range s.servers() {
		completed, failed := 0, 0
		why := ""
		for _, r := range s.records {
			if r.Server != server {
				continue
			}
			if r.Result != nil {
				completed, failed = completed+r.Result.Completed, failed+r.Result.Failed
				if len(r.Result.Errors) > 0 {
					why = r.Result.Errors[0].Text
				}
			}
			if r.Error != "" {
				why = r.Error
			}
		}
		median := func(of func(record) float64) string { return number(s.median(server, of)) }
		cells := []string{server}
		if s.kind == embedding {
			cells = append(cells, median(func(r record) float64 { return r.Result.Passages }))
		} else {
			cells = append(cells, median(func(r record) float64 { return r.Result.Requests }), median(func(r record) float64 { return r.Result.Output }),
				median(func(r record) float64 { return r.main().FirstToken.P50 }), median(func(r record) float64 { return r.main().FirstToken.P95 }),
				median(func(r record) float64 { return r.main().Gap.P50 }), median(func(r record) float64 { return r.main().Gap.P99 }))
		}
		cells = append(cells, median(func(r record) float64 { return r.main().Latency.P50 }), median(func(r record) float64 { return r.main().Latency.P95 }),
			fmt.Sprint(completed), fmt.Sprint(failed)+shortly(why))
		if server == limitName {
			for i := 3; i < len(cells); i++ {
				cells[i] = ""
			}
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
}

// shortly is why something failed, fit for a table.
func shortly(why string) string {
	if why == "" {
		return ""
	}
	if r := []rune(why); len(r) > 90 {
		why = string(r[:90]) + "…"
	}
	return " (" + strings.NewReplacer("|", "/", "\n", " ", "<", "&lt;").Replace(why) + ")"
}

// number shows three digits.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// machine says what matters of the processor.
func machine() string {
	text := fmt.Sprintf("%d processors, %s", runtime.NumCPU(), runtime.GOARCH)
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return text
	}
	for _, feature := range []struct{ flag, name string }{{"avx512_vnni", "AVX-512 with VNNI"}, {"avx512f", "AVX-512"}, {"avx2", "AVX2"}, {"asimddp", "dot products"}} {
		if bytes.Contains(info, []byte(" "+feature.flag)) {
			return text + " with " + feature.name
		}
	}
	return text
}

// The document's results stand between these lines.
const (
	resultsBegin = "<!-- results: written by scripts/bench-peers -->"
	resultsEnd   = "<!-- end of results -->"
)

// writeDocument puts the results into their place.
func writeDocument(path, results string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), resultsBegin)
	_, after, ended := strings.Cut(rest, resultsEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for results: lines %q and %q", path, resultsBegin, resultsEnd)
	}
	return os.WriteFile(path, []byte(before+resultsBegin+"\n\n"+strings.TrimSpace(results)+"\n\n"+resultsEnd+after), 0o644)
}

// plots draws each load's distributions beside its measurements, with all rounds of a server as one curve.
func plots(dir string, records []record) error {
	type place struct{ model, load string }
	curves := map[place][]bench.Series{}
	for _, r := range records {
		if r.Result == nil || r.Server == limitName {
			continue
		}
		key := place{r.Model, r.Load}
		for _, s := range r.Result.Series() {
			name := r.Server
			if len(r.Result.Groups) > 1 {
				if s.Name != "streams" && s.Name != "after" {
					continue
				}
			}
			i := slices.IndexFunc(curves[key], func(c bench.Series) bool { return c.Name == name })
			if i < 0 {
				curves[key] = append(curves[key], bench.Series{Name: name})
				i = len(curves[key]) - 1
			}
			c := &curves[key][i]
			c.FirstToken, c.Gap, c.Latency = append(c.FirstToken, s.FirstToken...), append(c.Gap, s.Gap...), append(c.Latency, s.Latency...)
		}
	}
	for key, series := range curves {
		slices.SortFunc(series, func(a, b bench.Series) int { return strings.Compare(b.Name, a.Name) })
		if err := os.WriteFile(filepath.Join(dir, key.model, key.load+".svg"), bench.Plot(key.load+", "+key.model, series), 0o644); err != nil {
			return err
		}
	}
	return nil
}
