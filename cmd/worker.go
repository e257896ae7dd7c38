package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/engine/worker"
	"github.com/spf13/cobra"
)

// use is what a model is loaded for.
type use int

const (
	generates use = iota
	embeds
	reranks
)

// job is a model to load, here or in a worker.
type job struct {
	Use     use
	Path    string
	Options native.Options
	Engine  engine.Config
}

func (j job) load(ctx context.Context, progress func(float32), h engine.Hooks) (worker.Model, error) {
	j.Options.Progress = progress
	switch j.Use {
	case embeds:
		e, err := native.LoadEmbedder(ctx, j.Path, j.Options)
		if err != nil {
			return worker.Model{}, err
		}
		return worker.Model{Embedder: e, Close: e.Close}, nil
	case reranks:
		r, err := native.LoadReranker(ctx, j.Path, j.Options)
		if err != nil {
			return worker.Model{}, err
		}
		return worker.Model{Reranker: r, Close: r.Close}, nil
	}
	b, err := native.Load(ctx, j.Path, j.Options)
	if err != nil {
		return worker.Model{}, err
	}
	e, err := engine.New(b, j.Engine, h)
	if err != nil {
		return worker.Model{}, err
	}
	return worker.Model{Generator: e, Close: e.Close}, nil
}

// employ has a worker do a job.
func (a *app) employ(ctx context.Context, j job, progress func(float32), h engine.Hooks) (worker.Model, error) {
	self, err := ownFile()
	if err != nil {
		return worker.Model{}, err
	}
	c := worker.Default(self, "worker", "--log-level", a.settings.LogLevel)
	c.Name, c.Hooks, c.Log, c.Progress, c.Queue = j.Options.Name, h, a.log, progress, j.Engine.Queue
	if c.Settings, err = json.Marshal(j); err != nil {
		return worker.Model{}, err
	}
	w, err := worker.Start(ctx, c)
	if err != nil {
		return worker.Model{}, err
	}
	a.workers = append(a.workers, w)
	return worker.Model{Generator: w, Embedder: w, Reranker: w, Close: w.Close}, nil
}

// ownFile is the file that this process runs. Linux keeps it after an upgrade has put another in its place, which would not
// understand this one.
func ownFile() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

func newWorker() *cobra.Command {
	return &cobra.Command{
		Use:     "worker",
		Short:   "Run one model for the quipu that started this process",
		Example: "  quipu serve --isolation process   # starts its workers itself",
		Hidden:  true,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The front says when a worker ends, after the requests in it: signals that were meant for all don't.
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			_ = os.WriteFile("/proc/self/comm", []byte("quipu"), 0) // or it would be called exe
			level, err := cmd.Flags().GetString("log-level")
			if err != nil {
				return err
			}
			log, err := newLogger(level, "json")
			if err != nil {
				return err
			}
			logLlama(log)
			conn, err := net.FileConn(os.NewFile(worker.SocketFD, "front"))
			if err != nil {
				return usageError{fmt.Errorf("quipu starts its workers itself: %w", err)}
			}
			return worker.Serve(conn, os.Stdin, func(ctx context.Context, settings []byte, progress func(float32), h engine.Hooks) (worker.Model, error) {
				var j job
				if err := json.Unmarshal(settings, &j); err != nil {
					return worker.Model{}, err
				}
				return j.load(ctx, progress, h)
			})
		},
	}
}
