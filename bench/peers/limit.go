//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/quipu-ai/quipu/bench"
)

// limits says how llama-batched-bench computes what a load asks for, with nothing around it: what no server of these kernels
// gets past by batching alone.
var limits = map[string]struct {
	sequences int
	shared    bool // one prompt for all
}{
	"short":       {16, false},
	"single":      {1, false},
	"prefix-cold": {16, true},
}

// limit runs llama-batched-bench as the load would, with prompts of so many tokens.
func limit(ctx context.Context, o options, l load, c bench.Config, prompt int) (bench.Result, []string, error) {
	how := limits[l.name]
	args := []string{filepath.Join(o.llama, limitName), "-m", o.model, "-c", fmt.Sprint(o.cells), "-t", fmt.Sprint(o.threads), "-tb", fmt.Sprint(o.threads),
		"-npp", fmt.Sprint(max(prompt, 1)), "-ntg", fmt.Sprint(c.Tokens), "-npl", fmt.Sprint(how.sequences), "--output-format", "jsonl"}
	if how.shared {
		args = append(args, "-pps")
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return bench.Result{}, args, fmt.Errorf("%w: %s", err, said.String()[max(0, said.Len()-300):])
	}
	var line struct {
		Prompt   float64 `json:"t_pp"`
		Generate float64 `json:"t_tg"`
	}
	at := bytes.LastIndexByte(out, '{')
	if at < 0 {
		return bench.Result{}, args, fmt.Errorf("%s printed no JSON", limitName)
	}
	if err := json.NewDecoder(bytes.NewReader(out[at:])).Decode(&line); err != nil {
		return bench.Result{}, args, err
	}
	r := bench.Result{Workload: l.workload, Clients: how.sequences, Tokens: c.Tokens, Completed: how.sequences, OutputTokens: how.sequences * c.Tokens}
	// The decode rate is what servers are held against, except where the prompt is most of the work: there it is paid once.
	r.Seconds = line.Generate
	if how.shared {
		batches := max(1, c.Requests/how.sequences)
		r.Completed, r.OutputTokens = batches*how.sequences, batches*how.sequences*c.Tokens
		r.Seconds = line.Prompt + float64(batches)*line.Generate
	}
	r.Requests, r.Output = float64(r.Completed)/r.Seconds, float64(r.OutputTokens)/r.Seconds
	return r, args, nil
}
