package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/engine/worker"
	"go.uber.org/goleak"
)

// The test binary is its own worker, and a front to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			if err := serve(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "front":
			front()
		}
	}
	goleak.VerifyTestMain(m)
}

// part is what a worker of these tests plays.
type part struct {
	Refuse  string // an error of loading
	Dies    string // with this last word, before it has loaded; only while this file is there: Unless
	Unless  string
	Deaths  []death
	Embeds  bool
	Reranks bool
	Context int
}

// death ends the worker in the middle of a request whose text holds a word, once it has generated so many tokens. With a
// file it happens only until that is there.
type death struct {
	Word  string
	After int
	Once  string
}

func serve() error {
	conn, err := net.FileConn(os.NewFile(worker.SocketFD, "front"))
	if err != nil {
		return err
	}
	return worker.Serve(conn, os.Stdin, func(_ context.Context, settings []byte, progress func(float32), h engine.Hooks) (worker.Model, error) {
		var p part
		if err := json.Unmarshal(settings, &p); err != nil {
			return worker.Model{}, err
		}
		progress(0.5)
		if p.Dies != "" {
			if _, err := os.Stat(p.Unless); err == nil {
				fmt.Fprintln(os.Stderr, p.Dies)
				kill()
			}
		}
		if p.Refuse != "" {
			return worker.Model{}, fmt.Errorf("%s: %w", p.Refuse, engine.ErrBadRequest)
		}
		if p.Embeds {
			return worker.Model{Embedder: embedder{}, Close: func() error { return nil }}, nil
		}
		if p.Reranks {
			return worker.Model{Reranker: reranker{}, Close: func() error { return nil }}, nil
		}
		fmt.Fprintln(os.Stderr, `{"level":"debug","from":"the child","message":"loaded"}`)
		e, err := engine.New(enginetest.NewFake(engine.Limits{Cells: 1 << 16, Batch: 64, Sequences: 24, Running: 6}, p.Context), engine.DefaultConfig(), h)
		return worker.Model{Generator: mortal{e, p.Deaths}, Close: e.Close}, err
	})
}

func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// mortal dies as it was told.
type mortal struct {
	*engine.Engine
	deaths []death
}

func (m mortal) Generate(ctx context.Context, r *engine.Request) (*engine.Stream, error) {
	s, err := m.Engine.Generate(ctx, r)
	for _, d := range m.deaths {
		if err != nil || !strings.Contains(r.Text, d.Word) {
			continue
		}
		if d.Once != "" {
			if _, err := os.Stat(d.Once); err == nil {
				continue
			}
		}
		return d.come(ctx, s, len(r.Generated)), nil
	}
	return s, err
}

// come passes a stream on until the death.
func (d death) come(ctx context.Context, s *engine.Stream, have int) *engine.Stream {
	out, sink := engine.NewStream(s.Close)
	go func() {
		for {
			if have >= d.After {
				if d.Once != "" {
					_ = os.WriteFile(d.Once, nil, 0o644)
				}
				time.Sleep(5 * time.Millisecond) // what was generated reaches the front
				kill()
			}
			e, err := s.Recv(ctx)
			if err != nil {
				sink.Fail(err)
				return
			}
			have += len(e.Tokens)
			sink.Send(e)
		}
	}()
	return out
}

// embedder gives a text's length, and refuses long ones.
type embedder struct{}

func (embedder) Info() engine.Info {
	return engine.Info{Name: "lengths", Dimensions: 1, MaxInput: 10}
}

func (e embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	rows, _, err := e.EmbedCounted(ctx, texts, false)
	return rows, err
}

func (embedder) EmbedCounted(_ context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error) {
	for i, t := range texts {
		if len(t) > 10 && !truncate {
			return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(t), Limit: 10}
		}
		n := min(len(t), 10)
		rows = append(rows, []float32{float32(n)})
		read += n
	}
	return rows, read, nil
}

func (embedder) CountTokens(texts []string) ([]int, error) {
	counts := make([]int, len(texts))
	for i, t := range texts {
		counts[i] = len(t)
	}
	return counts, nil
}

// reranker scores a text by its length beside the query's.
type reranker struct{}

func (reranker) Info() engine.Info { return engine.Info{Name: "scores", MaxInput: 10} }

func (reranker) Rerank(_ context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error) {
	for i, t := range texts {
		n := len(query) + len(t)
		if n > 10 && !truncate {
			return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: n, Limit: 10}
		}
		scores = append(scores, float32(len(t)-len(query)))
		read += min(n, 10)
	}
	return scores, read, nil
}

func config(t testing.TB, p part) worker.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if p.Context == 0 {
		p.Context = 4096
	}
	c := worker.Default(self, "worker")
	c.Name = "fake"
	if c.Settings, err = json.Marshal(p); err != nil {
		t.Fatal(err)
	}
	c.Pause, c.MaxPause = time.Millisecond, 5*time.Millisecond
	c.Deaths = 100
	return c
}

func start(t testing.TB, c worker.Config) *worker.Worker {
	t.Helper()
	w, err := worker.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// plain asks for n tokens after a text, whether or not the model would end before.
func plain(text string, n int) *engine.Request {
	return &engine.Request{Text: text, MaxTokens: n, IgnoreEOS: true, Logprobs: -1}
}

func read(ctx context.Context, s *engine.Stream) (string, engine.Event, error) {
	defer s.Close()
	return enginetest.Read(ctx, s)
}

func ask(t testing.TB, g engine.Generator, r *engine.Request) (string, engine.Event) {
	t.Helper()
	s, err := g.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	text, last, err := read(t.Context(), s)
	if err != nil {
		t.Fatalf("%v after %q", err, text)
	}
	return text, last
}

// undisturbed is what an engine in this process says.
func undisturbed(t testing.TB, r *engine.Request) string {
	t.Helper()
	e, err := engine.New(enginetest.NewFake(engine.Limits{Cells: 1 << 16, Batch: 64, Sequences: 24, Running: 6}, 4096), engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	text, _ := ask(t, e, r)
	return text
}

func here(b *testing.B) engine.Generator {
	e, err := engine.New(enginetest.NewFake(engine.Limits{Cells: 1 << 16, Batch: 64, Sequences: 24, Running: 6}, 4096), engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	return e
}

// tokens generates 64 tokens and tells what one takes.
func tokens(b *testing.B, g engine.Generator) {
	const n = 64
	for b.Loop() {
		ask(b, g, plain("a", n))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/token")
}
