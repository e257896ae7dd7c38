package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/upstream"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/server"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the OpenAI API over the documents",
		Long: `Serve the OpenAI API: chat completions (grounded in the documents when there are some), embeddings, reranking, models;
/healthz, /readyz and /metrics beside them. There is no access control yet: only the loopback interface is served unless
another address is named.`,
		Example: `  quipu serve --data my-data
  quipu serve --data my-data --addr 127.0.0.1:9000 --model path/to/model.gguf --grounded never
  quipu serve --data my-data --upstream http://127.0.0.1:8000/v1   # with the model of a server that is there`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			a, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.close()) }()
			return serve(cmd.Context(), a)
		},
	}
	modelFlags(cmd)
	cmd.Flags().String("rerank-model", "", "reranking model to serve beside them: a name or a .gguf file (default: none)")
	cmd.Flags().String("addr", "127.0.0.1:8080", "address to listen on")
	cmd.Flags().StringSlice("adapter", nil, "LoRA adapters that clients may ask for as models, NAME=FILE or NAME=FILE@SCALE")
	cmd.Flags().String("grounded", "auto", "answer from the documents: auto (when the store holds some), always or never")
	cmd.Flags().String("isolation", "process", "where models run: process (each in a process of its own, started again when it dies) or none")
	cmd.Flags().String("upstream", "", "generate with another server that speaks OpenAI's API, at this address, instead of a model here (key: QUIPU_UPSTREAM_KEY)")
	cmd.Flags().String("upstream-model", "", "the upstream server's model (default: the first that it names)")
	cmd.Flags().StringSlice("origin", nil, "origins of web pages that may call the API from a browser, as https://app.example")
	cmd.Flags().StringSlice("host", nil, "names, besides this machine's own, under which clients reach the server through a proxy")
	return cmd
}

func serve(ctx context.Context, a *app) error {
	c := server.Default()
	c.Grounded = dispatch.Mode(a.settings.Grounded)
	c.Origins, c.Hosts = a.settings.Origins, a.settings.Hosts
	if err := c.Validate(); err != nil {
		return usageError{errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))}
	}
	switch a.settings.Isolation {
	case "process":
		a.isolated = true
	case "none":
	default:
		return usageError{fmt.Errorf("--isolation %s: use process or none", a.settings.Isolation)}
	}
	if a.settings.Addr == "" { // to net.Listen it would mean every interface
		return usageError{errors.New("--addr is empty: name a host and a port, such as 127.0.0.1:8080")}
	}
	// The port is taken first: a port in use should not cost the loading of two models.
	listener, err := net.Listen("tcp", a.settings.Addr)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --addr", err)
	}
	a.onClose(func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	ready, err := answerProbes(a, c, listener)
	if err != nil {
		return err
	}
	s, model, err := openServer(ctx, a, c)
	if err = errors.Join(err, ready()); err != nil {
		return err
	}
	a.log.Info().Str("addr", "http://"+listener.Addr().String()).Str("model", model).Str("embedding_model", a.embedder.Info().Name).
		Str("data", a.settings.Data).Ints("workers", a.pids()).Msg("serving")
	fmt.Fprintf(os.Stderr, `
quipu serves http://%[1]s  (model %[2]s)
  curl -s http://%[1]s/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model": "default", "messages": [{"role": "user", "content": "How long is the battery guaranteed?"}]}'
`, listener.Addr(), model)
	endJobs := a.doJobs(ctx)
	defer endJobs()
	return s.Serve(ctx, listener)
}

// doJobs runs ingestions that wait, and those whose process died, beside the serving, until ctx ends; the function that it gives
// ends it and waits for that.
func (a *app) doJobs(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.base.Work(ctx, func(j retrieval.Job, r *retrieval.Report, err error) {
			event := a.log.Info()
			if err != nil {
				event = a.log.Warn().Err(err)
			}
			if r != nil {
				event = event.Int("added", r.Added).Int("replaced", r.Replaced).Int("unchanged", r.Unchanged).Int("failed", r.Failed).
					Int("skipped", r.Skipped).Int("passages", r.Passages).Float64("seconds", r.Seconds)
			}
			event.Str("job", j.ID).Str("store", j.Store).Str("state", string(j.State)).Msg("ingestion")
		})
	}()
	return func() {
		stop()
		<-done
	}
}

// openServer loads the models and makes the server of them; model is the chat model's name.
func openServer(ctx context.Context, a *app, c server.Config) (s *server.Server, model string, err error) {
	if a.settings.Upstream != "" {
		return openUpstream(ctx, a, c)
	}
	embedding, chat, err := a.findModels(ctx)
	if err != nil {
		return nil, "", err
	}
	rerank, err := a.rerankModel(ctx)
	if err != nil {
		return nil, "", err
	}
	if _, err := a.store(ctx); err != nil {
		return nil, "", err
	}
	adapters, err := a.settings.adapters()
	if err != nil {
		return nil, "", err
	}
	metrics := server.NewEngineMetrics(chat.Name)
	hooks := metrics.Hooks()
	hooks.Placing, hooks.DraftFailed = a.placed, a.draftFailed
	if err := a.openModels(ctx, embedding, chat, hooks); err != nil {
		return nil, "", err
	}
	a.hintFormat(chat.Name, a.engine.Info().Quantization)
	generators := []engine.Generator{a.engine}
	for _, adapter := range adapters { // each is a model of its own to clients
		generators = append(generators, engine.WithAdapter(a.engine, adapter.Name))
	}
	if err := a.openReranker(ctx, rerank); err != nil {
		return nil, "", err
	}
	var chats []dispatch.Chat
	for _, g := range generators {
		answerer, err := a.answerer(g)
		if err != nil {
			return nil, "", err
		}
		chats = append(chats, dispatch.Chat{Generator: g, Answerer: answerer})
	}
	s, err = a.newServer(c, chats, metrics)
	return s, chat.Name, err
}

// openUpstream makes the server of a chat model elsewhere and an embedding model here.
func openUpstream(ctx context.Context, a *app, c server.Config) (s *server.Server, model string, err error) {
	embedding, err := a.embeddingModel(ctx)
	if err != nil {
		return nil, "", err
	}
	if _, err := a.store(ctx); err != nil {
		return nil, "", err
	}
	rerank, err := a.rerankModel(ctx)
	if err != nil {
		return nil, "", err
	}
	u, err := upstream.New(ctx, upstream.Config{URL: a.settings.Upstream, Key: a.settings.UpstreamKey, Model: a.settings.UpstreamModel, Context: a.settings.Context})
	if err != nil {
		return nil, "", err
	}
	a.onClose(u.Close)
	if err := a.openBase(ctx, embedding); err != nil {
		return nil, "", err
	}
	if err := a.openReranker(ctx, rerank); err != nil {
		return nil, "", err
	}
	chat := dispatch.Chat{Generator: u}
	if u.Tokenizes() {
		config := answer.Default()
		config.Scored = 0 // such servers give no likelihoods
		if u.Info().Parameters == 0 {
			config.Trusted = 0 // who runs a server of models runs none of the smallest
		}
		if chat.Answerer, err = answer.New(config, a.base, u, a.embedder); err != nil {
			return nil, "", err
		}
	} else {
		a.log.Warn().Msg("the upstream server does not tokenize: nothing is answered from the documents")
	}
	s, err = a.newServer(c, []dispatch.Chat{chat})
	return s, u.Info().Name, err
}

func (a *app) newServer(c server.Config, chats []dispatch.Chat, more ...prometheus.Collector) (*server.Server, error) {
	return server.New(c, server.Deps{
		Models:     dispatch.Models{Chats: chats, Embedders: []dispatch.Embedder{a.embedder}, Rerankers: a.rerankers},
		Stores:     a.base,
		Ready:      a.ready,
		Collectors: append(a.restarts(), more...),
		Log:        a.log,
	})
}

// ready tells why questions can't be answered now.
func (a *app) ready(ctx context.Context) error {
	for _, w := range a.workers {
		if err := w.Health(ctx); err != nil {
			return err
		}
	}
	_, err := a.base.Stores(ctx)
	return err
}

// pids are the workers' processes.
func (a *app) pids() []int {
	pids := make([]int, len(a.workers))
	for i, w := range a.workers {
		pids[i] = w.PID()
	}
	return pids
}

// restarts counts those of each worker.
func (a *app) restarts() []prometheus.Collector {
	var counters []prometheus.Collector
	for _, w := range a.workers {
		counters = append(counters, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "quipu_worker_restarts_total",
			Help: "Processes that took over from one that died.", ConstLabels: prometheus.Labels{"model": w.Info().Name}},
			func() float64 { return float64(w.Restarts()) }))
	}
	return counters
}

// answerProbes serves the probes until everything is loaded, which may take minutes; then ready leaves the listener to the
// real server.
func answerProbes(a *app, c server.Config, l net.Listener) (ready func() error, err error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("%s is no TCP address", l.Addr())
	}
	c.Drain = time.Second // nobody is worth waiting for
	early, err := server.New(c, server.Deps{Starting: true, Log: a.log})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- early.Serve(ctx, lent{tcp}) }()
	return func() error {
		stop()
		return errors.Join(<-ended, tcp.SetDeadline(time.Time{}))
	}, nil
}

// lent is a listener whose closing ends a waiting Accept, and no more.
type lent struct{ *net.TCPListener }

func (l lent) Close() error { return l.SetDeadline(time.Unix(1, 0)) }
