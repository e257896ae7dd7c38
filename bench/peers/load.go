//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/bench"
)

// load is a workload as it is measured here.
type load struct {
	name      string
	workload  string
	clients   int // 0: the workload's
	kind      kind
	order     string
	field     bool // quipu gets the passages in the field documents
	neighbour bool
	measures  []figure
}

// kind says what a server is started for.
type kind string

const (
	chats     kind = "chats"
	overload  kind = "overload"
	embedding kind = "embedding"
)

// figure is a number that is compared.
type figure struct {
	name  string
	less  bool // is better
	of    func(*bench.Result) float64
	goal  float64 // that the ratio should reach
	limit bool    // compared with llama-batched-bench instead of servers
}

func requests(goal float64) figure {
	return figure{name: "requests/s", of: func(r *bench.Result) float64 { return r.Requests }, goal: goal}
}

func output(goal float64) figure {
	return figure{name: "tokens/s", of: func(r *bench.Result) float64 { return r.Output }, goal: goal}
}

func firstToken(name, group string, of func(bench.Times) float64, goal float64) figure {
	return figure{name: name, less: true, of: func(r *bench.Result) float64 { return of(r.Group(group).FirstToken) }, goal: goal}
}

func mean(t bench.Times) float64 { return t.Mean }
func p50(t bench.Times) float64  { return t.P50 }
func p95(t bench.Times) float64  { return t.P95 }

// loads lists all, in the order of the report.
func loads() []load {
	return []load{
		{name: "rag", workload: "rag", order: bench.OrderRandom, field: true, measures: []figure{requests(4), firstToken("first token p50, ms", "all", p50, 8)}},
		{name: "rag-canonical", workload: "rag", order: bench.OrderCanonical, measures: []figure{requests(1.2)}},
		{name: "prefix-cold", workload: "prefix-cold", measures: []figure{requests(1.8), firstToken("first token p95, ms", "all", p95, 3)}},
		{name: "prefix-warm", workload: "prefix-warm", measures: []figure{requests(1.5)}},
		{name: "short", workload: "short", measures: []figure{output(1.1),
			{name: "tokens/s, of the limit", of: func(r *bench.Result) float64 { return r.Output }, goal: .85, limit: true}}},
		{name: "mixed", workload: "mixed", measures: []figure{
			{name: "gap p99 of the streams, ms", less: true, of: func(r *bench.Result) float64 { return r.Group("streams").Gap.P99 }, goal: 2.5},
			firstToken("first token p50 of the streams, ms", "streams", p50, 3),
			firstToken("first token mean of the streams, ms", "streams", mean, 3),
			firstToken("first token p95 of the streams, ms", "streams", p95, 3),
			{name: "tokens/s, prompts and answers", of: func(r *bench.Result) float64 { return r.Prompt + r.Output }, goal: 1}}},
		{name: "single", workload: "single", measures: []figure{output(1), firstToken("first token p50, ms", "all", p50, 1)}},
		{name: "quote", workload: "quote", measures: []figure{output(1.3)}},
		{name: "json", workload: "json", measures: []figure{output(1.4)}},
		{name: "single-neighbour", workload: "single", neighbour: true, measures: []figure{output(2)}},
		{name: "short-neighbour", workload: "short", clients: 8, neighbour: true, measures: []figure{output(2)}},
		{name: "embed", workload: "embed", kind: embedding, measures: []figure{
			{name: "passages/s", of: func(r *bench.Result) float64 { return r.Passages }, goal: 1.2}}},
		{name: "overload", workload: "overload", kind: overload, measures: []figure{
			{name: "completed, of 100", of: func(r *bench.Result) float64 {
				return 100 * float64(r.Completed) / float64(max(1, r.Completed+r.Failed))
			}},
			requests(0)}},
		{name: "cancel", workload: "cancel", measures: []figure{firstToken("first token after cancelling p50, ms", "after", p50, 0)}},
	}
}

func loadNames() []string {
	var names []string
	for _, l := range loads() {
		if !l.neighbour {
			names = append(names, l.name)
		}
	}
	return names
}

// chosen lists the loads that the options name.
func chosen(o options) ([]load, error) {
	names := loadNames()
	if o.workloads != "" {
		names = strings.Split(o.workloads, ",")
	}
	for _, name := range names {
		if !slices.Contains(loadNames(), name) {
			return nil, fmt.Errorf("there is no load %q: use %s", name, strings.Join(loadNames(), ", "))
		}
	}
	var list []load
	for _, l := range loads() {
		name := l.name
		if l.neighbour {
			name = l.workload
		}
		if l.kind == "" {
			l.kind = chats
		}
		if !slices.Contains(names, name) || l.neighbour && !o.neighbour {
			continue
		}
		if l.kind == embedding && o.embedding == "" {
			if o.workloads != "" {
				return nil, fmt.Errorf("the load %s needs an --embedding-model", l.name)
			}
			continue
		}
		list = append(list, l)
	}
	return list, nil
}

// config is what the load asks of a server.
func (l load) config(o options, s server, url string, round int) bench.Config {
	c := bench.Default(url, l.workload)
	c.NoIgnoreEOS = o.noIgnoreEOS
	c.Seed = uint64(1000 + round)
	if l.clients > 0 {
		c.Clients = l.clients
	}
	if l.order != "" {
		c.Order = l.order
	}
	if l.field && s.name == quipuName {
		c.Documents = o.documents
	}
	if o.short {
		c.Clients = min(c.Clients, 4)
		c.Requests = c.Clients
		c.Tokens = min(c.Tokens, 200) // the records of json need those
		c.Timeout /= 5
	}
	return c
}
