//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/bench"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write golden files anew")

// The test's own binary plays the servers.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "play" {
		play(os.Args[2], os.Args[3])
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "spin" {
		spin(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

// play is a server that answers, one that ends at once, or one that ends at its first chat.
func play(how, port string) {
	if how == "broken" {
		fmt.Fprintln(os.Stderr, "no such model")
		os.Exit(3)
	}
	if how == "well" { // with a worker that has a group of its own, and doesn't end with it
		self, _ := os.Executable()
		worker := exec.Command(self, "play", "work", port)
		worker.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := worker.Start(); err != nil {
			panic(err)
		}
		fmt.Println(worker.Process.Pid)
	}
	held := make([]byte, 64<<20) // memory to be seen
	for i := range held {
		held[i] = 1
	}
	if how == "work" {
		time.Sleep(time.Minute)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		if how == "mortal" {
			fmt.Fprintln(os.Stderr, "assertion failed")
			os.Exit(4)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"}}]}`+"\n\n"+`data: {"choices":[{"delta":{},"finish_reason":"length"}]}`+"\n\n"+
			`data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":1}}`+"\n\ndata: [DONE]\n\n")
	})
	_ = http.ListenAndServe("127.0.0.1:"+port, mux)
	fmt.Fprint(io.Discard, held[0])
}

func player(t *testing.T, how string) server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return server{name: "player " + how, ready: "/health", command: func(_ kind, port, _ string) []string { return []string{self, "play", how, port} }}
}

func TestMeasureOne(t *testing.T) {
	o := options{model: "folder/model.gguf", out: t.TempDir(), short: true, cells: 100, overloadCells: 50, threads: 2}
	named := func(name string) load {
		for _, l := range loads() {
			if l.name == name {
				return l
			}
		}
		t.Fatalf("there is no load %s", name)
		return load{}
	}
	well := measureOne(t.Context(), o, player(t, "well"), named("short-neighbour"), 1, 0)
	if well.Error != "" || well.Result == nil || well.Result.Completed != 4 || well.Result.Seed != 1001 || well.Round != 1 || well.Cells != 100 || well.Model != "model" {
		t.Errorf("got %+v", well)
	}
	if m := well.Memory; m.Idle < 128<<20 || m.Peak < m.Idle || m.RSS < m.Peak {
		t.Errorf("memory %+v", m)
	}
	broken := measureOne(t.Context(), o, player(t, "broken"), named("short"), 0, 0)
	if broken.Result != nil || broken.Error != "it ended before it was ready: exit status 3: no such model" {
		t.Errorf("got %+v", broken)
	}
	l := named("overload")
	l.kind = overload
	mortal := measureOne(t.Context(), o, player(t, "mortal"), l, 0, 0)
	if mortal.Result == nil || mortal.Result.Failed != 4 || !strings.HasSuffix(mortal.Error, "exit status 4: assertion failed") || mortal.Cells != 50 {
		t.Errorf("got %+v", mortal)
	}
	for _, r := range []record{well, broken, mortal} {
		if err := r.write(o.out); err != nil {
			t.Fatal(err)
		}
	}
	back, err := readRecords(o.out)
	if err != nil || len(back) != 3 {
		t.Fatalf("%d records, %v", len(back), err)
	}
	if err := plots(o.out, back); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"short/player-broken.1.json", "short-neighbour/player-well.2.log", "overload/player-mortal.1.json", "short-neighbour.svg"} {
		if _, err := os.Stat(filepath.Join(o.out, "model", file)); err != nil {
			t.Error(err)
		}
	}
}

// Measuring again replaces what was measured of the same, and nothing else.
func TestForget(t *testing.T) {
	o := options{model: "model.gguf", out: t.TempDir()}
	for _, name := range []string{"llama-server", "llama-server -np 16"} {
		for round := range 2 {
			for _, l := range []string{"short", "rag"} {
				r := record{Model: "model", Load: l, Server: name, Round: round}
				if err := r.write(o.out); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	all := []server{{name: "quipu"}, {name: "llama-server"}, {name: "llama-server -np 16"}}
	chosen, err := named(all, "llama-server,quipu")
	if err != nil || len(chosen) != 2 {
		t.Fatalf("%d servers, %v", len(chosen), err)
	}
	if err := forget(o, chosen, []load{{name: "short"}}); err != nil {
		t.Fatal(err)
	}
	records, err := readRecords(o.out)
	if err != nil || len(records) != 6 {
		t.Errorf("%d records, %v", len(records), err)
	}
	for _, r := range records {
		if r.Load == "short" && r.Server == "llama-server" {
			t.Errorf("%+v was kept", r)
		}
	}
	if _, err := named(all, "other"); err == nil || !strings.Contains(err.Error(), "use quipu, llama-server, ") {
		t.Errorf("got %v", err)
	}
}

// Whoever stops a measurement leaves no server behind, and none of its workers.
func TestStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	log := filepath.Join(t.TempDir(), "log")
	p, err := player(t, "well").start(ctx, chats, "", log)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if found := family(p.cmd.Process.Pid); err != nil || len(found) != 2 || found[worker] == nil {
		t.Errorf("%q, %v: found %v", text, err, found)
	}
	stop()
	p.stop()
	for _, pid := range []int{p.cmd.Process.Pid, worker} {
		for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if now := family(pid)[pid]; now == nil || now[0] == "Z" { // whoever has it now may be slow to bury it
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("%d is still there", pid)
			}
		}
	}
	if _, err := player(t, "well").start(ctx, chats, "", filepath.Join(t.TempDir(), "log")); err == nil {
		t.Error("it was started")
	}
}

// The neighbour computes and ends when it is told to; a group at rest is seen to rest.
func TestNeighbour(t *testing.T) {
	pid, stop, err := startNeighbour()
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); computed(pid) < 100*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not compute")
		}
	}
	stop()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("it is still there")
	}
	p, err := player(t, "well").start(t.Context(), chats, "", filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if took := rest(t.Context(), p.cmd.Process.Pid); took >= restTime {
		t.Errorf("it did not rest in %v", took)
	}
}

func TestField(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t  627660 kB\nRssAnon:\t     12 kB\nRssShmem:\t0 kB\n")
	for name, want := range map[string]int64{"VmHWM": 627660 << 10, "RssAnon": 12 << 10, "RssShmem": 0, "RssFile": 0} {
		if got := field(status, name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestChosen(t *testing.T) {
	for _, test := range []struct {
		o     options
		names string // or the error
	}{
		{options{embedding: "e"}, strings.Join(loadNames(), " ")},
		{options{workloads: "single,short", neighbour: true}, "short single single-neighbour short-neighbour"},
		{options{workloads: "rag,single", neighbour: true}, "rag single single-neighbour"},
		{options{workloads: "embed", embedding: "e"}, "embed"},
		{options{workloads: "embed"}, "the load embed needs an --embedding-model"},
		{options{workloads: "short-neighbour"}, `there is no load "short-neighbour"`},
	} {
		var names []string
		list, err := chosen(test.o)
		for _, l := range list {
			names = append(names, l.name)
		}
		if err != nil {
			names = []string{err.Error()}
		}
		if got := strings.Join(names, " "); !strings.HasPrefix(got, test.names) {
			t.Errorf("%+v: got %s", test.o, got)
		}
	}
	if list, _ := chosen(options{}); len(list) != len(loadNames())-1 {
		t.Error("without an embedding model, embed is left out")
	}
}

// measured makes records with known figures, by round.
func measured(load, server string, first float64, rates ...float64) []record {
	var list []record
	for round, rate := range rates {
		r := bench.Result{Workload: load, Completed: 10, Requests: rate, Output: 64 * rate, Passages: rate, Calls: []bench.Call{{Group: "all", First: first, Latency: 2 * first, Gaps: []float64{1, 2}}}}
		r.Groups = []bench.Group{{Name: "all", Completed: 10, FirstToken: bench.Times{N: 1, P50: first, P95: first}, Latency: bench.Times{N: 1, P50: 2 * first, P95: 2 * first}}}
		list = append(list, record{Model: "model", Load: load, Server: server, Round: round, Result: &r, Memory: memory{100e6, 200e6, 300e6}})
	}
	return list
}

func reported() []record {
	var list []record
	add := func(r []record) { list = append(list, r...) }
	add(measured("rag", "llama-server", 800, .5, .4, .6))
	add(measured("rag", "llama-server -np 16", 400, .3, .3, .3))
	add(measured("rag", "quipu", 50, 2, 2.5, 4))
	add(measured("short", "quipu", 50, 4))
	add(measured("short", "llama-batched-bench", 0, 5))
	add(measured("short", "llama-server", 60, 2, 3))
	add(measured("embed", "quipu", 50, 100))
	add(measured("quote", "quipu", 50, 1))
	failed := record{Model: "model", Load: "quote", Server: "llama-server", Error: "it ended before it was ready: exit status 1: a | b\n<c>"}
	refused := measured("overload", "llama-server", 10, 1)
	refused[0].Result.Completed, refused[0].Result.Failed = 5, 15
	refused[0].Result.Errors = []bench.Failure{{Text: "400: too long", Count: 15}}
	add(refused)
	add(measured("overload", "quipu", 10, 1))
	return append(list, failed)
}

func TestReport(t *testing.T) {
	got := report(reported())
	_, got, _ = strings.Cut(got, "\n") // the first line is of this machine
	path := filepath.Join("testdata", "report.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v, got\n%s", err, got)
	}
	for _, line := range []string{
		"| rag | requests/s | 2.50 | 0.50 | default | 5.00 | 4.00–6.67 | 4 |",
		"| rag | first token p50, ms | 50.0 | 400 | -np 16 | 8.00 | 8.00–8.00 | 8 |",
		"| short | tokens/s | 256 | 160 | default | 1.60 | 2.00–2.00 | 1.1 |",
		"| short | tokens/s, of the limit | 256 | 320 | llama-batched-bench | 0.80 | 0.80–0.80 | 0.85 |",
		"| quote | tokens/s | 64.0 | – |  |  |  | 1.3 |",
		"| overload | completed, of 100 | 100 | 25.0 | default | 4.00 | 4.00–4.00 |  |",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", .456: "0.46", 12.34: "12.3", 1234.5: "1234", math.Inf(1): "–"} {
		if got := number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "–" {
		t.Errorf("got %s", got)
	}
}

// Only the results change in a document, and one without a place for them stays as it is.
func TestWriteDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	const around = "# Title\n\n%s\n\nend\n"
	place := resultsBegin + "\n\nold\n\n" + resultsEnd
	if err := os.WriteFile(path, fmt.Appendf(nil, around, place), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, results := range []string{"new\n", "newer"} {
		if err := writeDocument(path, results); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(path)
		if want := fmt.Sprintf(around, resultsBegin+"\n\n"+strings.TrimSpace(results)+"\n\n"+resultsEnd); string(got) != want {
			t.Errorf("got %q", got)
		}
	}
	if err := os.WriteFile(path, []byte("no place"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDocument(path, "new"); err == nil {
		t.Error("it found a place")
	}
	if text, err := os.ReadFile("../../docs/benchmarks.md"); err != nil || strings.Count(string(text), resultsBegin) != 1 || strings.Count(string(text), resultsEnd) != 1 {
		t.Errorf("docs/benchmarks.md has no place for results: %v", err)
	}
}

// The limit is computed from what llama-batched-bench prints.
func TestLimit(t *testing.T) {
	dir := t.TempDir()
	line, err := json.Marshal(map[string]float64{"t_pp": 3, "t_tg": 4})
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$@\" >" + dir + "/asked\necho 'main: n_kv_max = 1'\necho '" + string(line) + "'\n"
	if err := os.WriteFile(filepath.Join(dir, limitName), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o := options{llama: dir, model: "m.gguf", threads: 2, cells: 4096}
	for name, want := range map[string]struct {
		requests, output float64
		asked            string
	}{
		"short":       {16. / 4, 1024. / 4, "-m m.gguf -c 4096 -t 2 -tb 2 -npp 40 -ntg 64 -npl 16 --output-format jsonl"},
		"single":      {1. / 4, 64. / 4, "-m m.gguf -c 4096 -t 2 -tb 2 -npp 40 -ntg 64 -npl 1 --output-format jsonl"},
		"prefix-cold": {32. / 11, 2048. / 11, "-m m.gguf -c 4096 -t 2 -tb 2 -npp 40 -ntg 64 -npl 16 --output-format jsonl -pps"},
	} {
		l := load{name: name, workload: name}
		r, _, err := limit(t.Context(), o, l, l.config(o, server{}, "", 0), 40)
		if err != nil || r.Requests != want.requests || r.Output != want.output {
			t.Errorf("%s: got %v and %v, %v", name, r.Requests, r.Output, err)
		}
		asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
		if strings.TrimSpace(string(asked)) != want.asked {
			t.Errorf("%s: asked for %s", name, asked)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, limitName), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	l := load{name: "short", workload: "short"}
	if _, _, err := limit(ctx, o, l, l.config(o, server{}, "", 0), 40); err == nil {
		t.Error("no error")
	}
}
