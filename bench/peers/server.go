//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	quipuName  = "quipu"
	llamaName  = "llama-server"
	pythonName = "llama-cpp-python"
	limitName  = "llama-batched-bench"
)

// server is a program at one setting.
type server struct {
	name    string
	ready   string // path that answers 200 once requests do
	kinds   []kind // that it is measured with; none: all
	command func(kind kind, port string, dir string) []string
}

func (s server) takes(l load) bool {
	if s.name == limitName {
		_, ok := limits[l.name]
		return ok
	}
	for _, k := range s.kinds {
		if k == l.kind {
			return true
		}
	}
	return len(s.kinds) == 0
}

// servers lists those that the options give, quipu first.
func servers(ctx context.Context, o options) ([]server, error) {
	cells := func(k kind) string {
		if k == overload {
			return fmt.Sprint(o.overloadCells)
		}
		return fmt.Sprint(o.cells)
	}
	threads := fmt.Sprint(o.threads)
	help, err := exec.CommandContext(ctx, o.quipu, "serve", "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("%s serve --help: %w", o.quipu, err)
	}
	sized := strings.Contains(string(help), " "+quipuCells+" ")
	if !sized {
		fmt.Fprintf(os.Stderr, "peers: %s serve has no %s: its KV cache has the size that it chooses\n", o.quipu, quipuCells)
	}
	list := []server{{name: quipuName, ready: "/readyz", command: func(k kind, port, dir string) []string {
		args := []string{o.quipu, "serve", "--addr", "127.0.0.1:" + port, "--data", dir, "--grounded", "never", "--model", o.model, "--threads", threads, "--log-level", "warn"}
		if o.embedding != "" {
			args = append(args, "--embedding-model", o.embedding)
		}
		if sized {
			args = append(args, quipuCells, cells(k))
		}
		return append(args, strings.Fields(o.quipuFlags)...)
	}}}
	if o.llama != "" {
		llama := func(setting string, kinds ...kind) server {
			return server{name: strings.TrimSpace(llamaName + " " + setting), ready: "/health", kinds: kinds, command: func(k kind, port, _ string) []string {
				args := []string{filepath.Join(o.llama, "llama-server"), "--host", "127.0.0.1", "--port", port, "--offline", "-t", threads, "-tb", threads}
				if k == embedding {
					args = append(args, "-m", o.embedding, "--embeddings", "-c", "8192")
				} else {
					args = append(args, "-m", o.model, "-c", cells(k), "-ctk", "f16", "-ctv", "f16")
				}
				return append(args, strings.Fields(setting)...)
			}}
		}
		list = append(list, llama(""), llama("-np 16"), llama("-np 16 -b 128 -ub 128", chats, overload),
			// Where slots share one pool, a request may be given up for another; where texts are embedded, a batch holds whole texts.
			llama("-np 16 --kv-unified", overload), llama("-np 16 -b 2048 -ub 2048", embedding))
	}
	if o.python != "" {
		list = append(list, server{name: pythonName, ready: "/v1/models", command: func(k kind, port, _ string) []string {
			// Without the last one, a new request ends the one under way.
			args := []string{o.python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", port, "--n_threads", threads, "--n_threads_batch", threads,
				"--interrupt_requests", "false"}
			if k == embedding {
				return append(args, "--model", o.embedding, "--embedding", "true", "--n_ctx", "512")
			}
			return append(args, "--model", o.model, "--n_ctx", cells(k))
		}})
	}
	if o.llama != "" {
		list = append(list, server{name: limitName})
	}
	return list, nil
}

// named picks servers by their names; no names are all.
func named(all []server, names string) ([]server, error) {
	if names == "" {
		return all, nil
	}
	var list []server
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(all, func(s server) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("there is no server %q: use %s", name, strings.Join(known, ", "))
		}
		list = append(list, all[i])
	}
	return list, nil
}

// quipuCells is the flag for the size of the KV cache.
const quipuCells = "--cells"

// startTime is enough for a large model on a slow disk.
const startTime = 10 * time.Minute

// process is a server under way, with all processes that it starts.
type process struct {
	cmd   *exec.Cmd
	url   string
	log   string // file
	ended chan struct{}
}

// start starts a server and waits until it is ready. Stop it.
func (s server) start(ctx context.Context, k kind, dir, log string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	args := s.command(k, port, dir)
	p := &process{cmd: exec.Command(args[0], args[1:]...), url: "http://127.0.0.1:" + port, log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for us, who then stop it
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its state says how it ended
		close(p.ended)
	}()
	if err := p.wait(ctx, s.ready); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// freePort names a port that was free a moment ago.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func (p *process) wait(ctx context.Context, path string) error {
	ctx, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return fmt.Errorf("it ended before it was ready: %v: %s", p.cmd.ProcessState, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("it was not ready in time: %w", ctx.Err())
		}
	}
}

// lastWords is the end of the log.
func (p *process) lastWords() string {
	text, _ := os.ReadFile(p.log)
	if len(text) > 300 {
		text = text[len(text)-300:]
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

var errDied = errors.New("the server ended while it was measured")

// died says how a server ended that nobody stopped.
func (p *process) died() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%w: %v: %s", errDied, p.cmd.ProcessState, p.lastWords())
	default:
		return nil
	}
}

// stop ends the process and those that it started.
func (p *process) stop() {
	children := family(p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone is as well
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	for pid, before := range children { // those that outlived it, and not others under their numbers
		if now := family(pid)[pid]; now != nil && now[started] == before[started] {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
