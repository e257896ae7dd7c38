//go:build linux

// Command peers measures quipu and other servers under the same loads, in turn, and reports the ratios. scripts/bench-peers
// builds what it needs and calls it.
//
// Every measurement starts a server of its own, so that nothing is left of the one before, in rounds: each load on each
// server, then all again, so that what disturbs the machine for a while disturbs all. Within a round all servers get the same
// requests, and no round gets those of another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// options is what the command line says.
type options struct {
	model, embedding     string // files
	quipu, llama, python string // a binary, a folder and a Python; the last two may be empty
	quipuFlags           string // more of them
	workloads, servers   string
	rounds               int
	short, neighbour     bool
	threads              int
	cells, overloadCells int
	noIgnoreEOS          bool
	documents            string
	out, docs            string
	reportOnly           bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "spin" {
		spin(os.Args[2])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, parse()); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	flag.StringVar(&o.model, "model", "", "chat model, a .gguf file")
	flag.StringVar(&o.embedding, "embedding-model", "", "embedding model, a .gguf file: the load embed needs it")
	flag.StringVar(&o.quipu, "quipu", "bin/quipu", "the quipu binary")
	flag.StringVar(&o.quipuFlags, "quipu-flags", "", "more flags of quipu serve, as one text")
	flag.StringVar(&o.llama, "llama", "", "folder of llama-server and llama-batched-bench; empty leaves them out")
	flag.StringVar(&o.python, "python", "", "a Python that has llama-cpp-python's server; empty leaves it out")
	flag.StringVar(&o.workloads, "workloads", "", "loads, joined by commas: "+strings.Join(loadNames(), ", ")+" (default: all)")
	flag.StringVar(&o.servers, "servers", "", "servers, joined by commas, as the report calls them (default: all); ratios hold only between those of one run")
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each load on each server")
	flag.BoolVar(&o.short, "short", false, "one round of few requests, to try whether everything runs: results go into the folder short of --out, and the document stays as it is")
	flag.BoolVar(&o.neighbour, "neighbour", false, "measure short and single also beside a process that keeps one processor busy")
	flag.IntVar(&o.threads, "threads", runtime.NumCPU(), "threads of each server")
	flag.IntVar(&o.cells, "ctx-size", 16*1536, "cells of the KV cache, in all, of each server")
	flag.IntVar(&o.overloadCells, "overload-ctx-size", 8*1792, "the same for the load overload: half of what its clients ask for")
	flag.BoolVar(&o.noIgnoreEOS, "no-ignore-eos", false, "don't send ignore_eos")
	flag.StringVar(&o.documents, "documents", "field", "where quipu gets the passages of the load rag: field or prompt; others get them in the prompt")
	flag.StringVar(&o.out, "out", "build/peers", "folder of the results, one JSON file a measurement; those of other loads and models are kept and reported too")
	flag.StringVar(&o.docs, "docs", "docs/benchmarks.md", "document whose results are written anew")
	flag.BoolVar(&o.reportOnly, "report", false, "measure nothing, report what the folder holds")
	flag.Parse()
	if o.short {
		o.rounds, o.out = 1, filepath.Join(o.out, "short")
	}
	return o
}

func run(ctx context.Context, o options) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("there is nothing to do with %q", flag.Args())
	}
	if !o.reportOnly {
		if err := measure(ctx, o); err != nil {
			return err
		}
	}
	records, err := readRecords(o.out)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("%s holds no results", o.out)
	}
	text := report(records)
	fmt.Println(text)
	if err := plots(o.out, records); err != nil {
		return err
	}
	if o.short {
		return nil
	}
	return writeDocument(o.docs, text)
}

// measure runs all loads on all servers, in rounds.
func measure(ctx context.Context, o options) error {
	loads, err := chosen(o)
	if err != nil {
		return err
	}
	for _, file := range []string{o.model, o.quipu} {
		if _, err := os.Stat(file); err != nil {
			return err
		}
	}
	all, err := servers(ctx, o)
	if err != nil {
		return err
	}
	if all, err = named(all, o.servers); err != nil {
		return err
	}
	if err := forget(o, all, loads); err != nil {
		return err
	}
	for round := range o.rounds {
		for _, l := range loads {
			prompt := 0
			for _, s := range all {
				if !s.takes(l) {
					continue
				}
				r := measureOne(ctx, o, s, l, round, prompt)
				if ctx.Err() != nil {
					return errors.New("stopped")
				}
				if r.Result != nil && r.Result.Completed > 0 && r.Result.PromptTokens > 0 { // llama-cpp-python doesn't count them
					prompt = r.Result.PromptTokens / (r.Result.Completed + r.Result.Cut)
				}
				if err := r.write(o.out); err != nil {
					return err
				}
				fmt.Fprintln(os.Stderr, r.line())
			}
		}
	}
	return nil
}

// forget removes what an earlier run measured of the same.
func forget(o options, servers []server, loads []load) error {
	for _, l := range loads {
		for _, s := range servers {
			r := record{Model: modelName(o.model), Load: l.name, Server: s.name}
			old, err := filepath.Glob(strings.TrimSuffix(r.path(o.out), "1.json") + "*.json")
			if err != nil {
				return err
			}
			for _, file := range old {
				if err := os.Remove(file); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
