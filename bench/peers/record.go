//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/quipu-ai/quipu/bench"
)

// record is one measurement.
type record struct {
	Model   string        `json:"model"`
	Load    string        `json:"load"`
	Server  string        `json:"server"`
	Round   int           `json:"round"`
	Command []string      `json:"command"`
	Threads int           `json:"threads"`
	Cells   int           `json:"cells"`
	Memory  memory        `json:"memory"`
	Rest    float64       `json:"seconds_to_rest"` // from being ready to being idle, which the measuring waits for
	Result  *bench.Result `json:"result,omitempty"`
	Error   string        `json:"error,omitempty"`
}

func modelName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".gguf") }

// measureOne starts a server, puts a load on it and stops it. prompt is how long prompts are, where that is known.
func measureOne(ctx context.Context, o options, s server, l load, round, prompt int) record {
	r := record{Model: modelName(o.model), Load: l.name, Server: s.name, Round: round, Threads: o.threads, Cells: o.cells}
	if l.kind == overload {
		r.Cells = o.overloadCells
	}
	var err error
	if s.name == limitName {
		var result bench.Result
		if result, r.Command, err = limit(ctx, o, l, l.config(o, s, "", round), prompt); err == nil {
			r.Result = &result
		}
	} else {
		err = r.serve(ctx, o, s, l)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (r *record) serve(ctx context.Context, o options, s server, l load) error {
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := r.path(o.out)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	p, err := s.start(ctx, l.kind, dir, strings.TrimSuffix(path, ".json")+".log")
	if err != nil {
		return err
	}
	defer p.stop()
	r.Command = p.cmd.Args
	r.Rest = rest(ctx, p.cmd.Process.Pid).Seconds()
	if l.neighbour {
		_, stop, err := startNeighbour()
		if err != nil {
			return err
		}
		defer stop()
	}
	end := watch(p.cmd.Process.Pid)
	result, err := bench.Run(ctx, l.config(o, s, p.url, r.Round))
	r.Memory = end()
	if err != nil {
		return err
	}
	r.Result = &result
	return p.died()
}

var notPlain = regexp.MustCompile(`[^a-z0-9]+`)

func (r *record) path(dir string) string {
	return filepath.Join(dir, r.Model, r.Load, fmt.Sprintf("%s.%d.json", strings.Trim(notPlain.ReplaceAllString(r.Server, "-"), "-"), r.Round+1))
}

func (r *record) write(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := r.path(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// main is the group of requests that matters: the first, and after cancelling the last.
func (r *record) main() bench.Group {
	switch g := r.Result.Groups; {
	case len(g) == 0:
		return bench.Group{}
	case r.Load == "cancel":
		return g[len(g)-1]
	default:
		return g[0]
	}
}

// line says shortly what was measured.
func (r *record) line() string {
	if r.Result == nil {
		return fmt.Sprintf("%-18s %-36s round %d: %s", r.Load, r.Server, r.Round+1, r.Error)
	}
	text := fmt.Sprintf("%-18s %-36s round %d: %6.2f requests/s, %d failed", r.Load, r.Server, r.Round+1, r.Result.Requests, r.Result.Failed)
	if r.Result.Passages > 0 {
		text += fmt.Sprintf(", %.1f passages/s", r.Result.Passages)
	}
	if r.Result.Output > 0 {
		first := r.main().FirstToken
		text += fmt.Sprintf(", %.1f tokens/s, first token p50 %.0f ms p95 %.0f ms", r.Result.Output, first.P50, first.P95)
	}
	if r.Error != "" {
		text += "; " + r.Error
	}
	return text
}

// readRecords reads all that a folder holds.
func readRecords(dir string) ([]record, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.json"))
	if err != nil {
		return nil, err
	}
	records := make([]record, len(files))
	for i, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &records[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return records, nil
}
