package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/quipu-ai/quipu/bench"
	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	var jsonFile, plotFile string
	var c bench.Config
	cmd := &cobra.Command{
		Use:   "bench URL",
		Short: "Measure a server that speaks the OpenAI API under load",
		Long: `Measure a server that speaks the OpenAI API under load, and report what its clients see: the time to the first token, the gaps
between tokens, whole latencies, requests and tokens a second, and what failed. All text is made from the seed: with the same
--seed each request is the same, and without one no server has seen them. Workloads:

` + workloadList() + `
Of this command's flags nothing is read from the environment or the config file, which are about this machine's own models.`,
		Example: `  quipu bench http://127.0.0.1:8080 --workload short
  quipu bench http://127.0.0.1:8080 --workload rag --documents field --clients 8 --json rag.json --plot rag.svg`,
		Args: exactArgs(1, "the URL of one server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.URL = args[0]
			c = benchDefaults(cmd, c)
			if err := c.Validate(); err != nil {
				return usageError{err}
			}
			return runBench(cmd, c, jsonFile, plotFile)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Workload, "workload", "", "the load to put on the server")
	flags.IntVar(&c.Clients, "clients", 0, "clients at a time (default: the workload's)")
	flags.IntVar(&c.Requests, "requests", 0, "requests in all (default: the workload's)")
	flags.DurationVar(&c.Duration, "duration", 0, "send requests for so long, instead of a number of them")
	flags.IntVar(&c.Tokens, "tokens", 0, "tokens of each answer (default: the workload's, 64 for most)")
	flags.StringVar(&c.Model, "model", "", "model to ask for (default: none is named, and the server takes its own)")
	flags.StringVar(&c.Key, "key", "", "API key")
	flags.Uint64Var(&c.Seed, "seed", 0, "seed of all texts (default: one is drawn, and reported)")
	flags.StringVar(&c.Documents, "documents", bench.DocumentsPrompt, `rag: passages go into the "prompt" or into the request's "field" documents`)
	flags.StringVar(&c.Order, "order", bench.OrderRandom, `rag: order of the passages, "random" or "canonical"`)
	flags.BoolVar(&c.NoIgnoreEOS, "no-ignore-eos", false, "don't send ignore_eos, which some servers refuse: answers may then be shorter")
	flags.DurationVar(&c.Timeout, "timeout", 10*time.Minute, "time limit of one request")
	flags.StringVar(&jsonFile, "json", "", "write the result, with every request, to this file")
	flags.StringVar(&plotFile, "plot", "", "draw the distributions into this file, as SVG")
	return cmd
}

func workloadList() string {
	var b strings.Builder
	for _, w := range bench.Workloads() {
		fmt.Fprintf(&b, "  %-12s %s (%d clients, %d requests)\n", w.Name, w.About, w.Clients, w.Requests)
	}
	return b.String()
}

// benchDefaults puts the workload's numbers in the place of those that were not given.
func benchDefaults(cmd *cobra.Command, c bench.Config) bench.Config {
	d := bench.Default(c.URL, c.Workload)
	given := cmd.Flags().Changed
	if !given("clients") {
		c.Clients = d.Clients
	}
	if !given("requests") {
		c.Requests = d.Requests
	}
	if !given("tokens") {
		c.Tokens = d.Tokens
	}
	if !given("seed") {
		c.Seed = uint64(rand.Uint32())
	}
	return c
}

func runBench(cmd *cobra.Command, c bench.Config, jsonFile, plotFile string) error {
	var bar *progress
	warm := false
	c.Progress = func(p bench.Progress) {
		if bar == nil || p.WarmUp != warm {
			if bar != nil {
				bar.done()
			}
			label := c.Workload
			if warm = p.WarmUp; warm {
				label += ", warm-up"
			}
			bar = newProgress(label, int64(p.Total), nil)
		}
		bar.at(fmt.Sprintf("%.0f tokens/s, %d failed", p.Tokens, p.Failed))
		bar.set(int64(p.Done), int64(p.Total))
	}
	r, err := bench.Run(cmd.Context(), c)
	if bar != nil {
		bar.done()
	}
	if err != nil {
		return err
	}
	fmt.Fprint(cmd.OutOrStdout(), visible(r.Table()))
	if jsonFile != "" {
		data, encodeErr := json.Marshal(r)
		err = errors.Join(encodeErr, os.WriteFile(jsonFile, append(data, '\n'), 0o644))
	}
	if plotFile != "" {
		err = errors.Join(err, os.WriteFile(plotFile, r.Plot(), 0o644))
	}
	switch {
	case err != nil:
		return err
	case r.Stopped:
		return cmd.Context().Err()
	case r.Completed == 0 && len(r.Errors) > 0:
		return fmt.Errorf("no request was answered: %s", r.Errors[0].Text)
	}
	return nil
}
