package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/engine/worker"
	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/models"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
	"github.com/quipu-ai/quipu/retrieval/store/sqlite"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// settings are what flags, environment and config file may set; each command declares the flags it looks at.
type settings struct {
	Data      string `koanf:"data"`
	Cache     string `koanf:"cache"`
	LogLevel  string `koanf:"log-level"`
	LogFormat string `koanf:"log-format"`

	Model          string `koanf:"model"`
	EmbeddingModel string `koanf:"embedding-model"`
	RerankModel    string `koanf:"rerank-model"`
	Context        int    `koanf:"context"`
	Parallel       int    `koanf:"parallel"`
	Threads        int    `koanf:"threads"`
	GPULayers      int    `koanf:"gpu-layers"`

	Cells      int           `koanf:"cells"`
	TargetGap  time.Duration `koanf:"target-gap"`
	Placed     string        `koanf:"placed"`
	Adapters   []string      `koanf:"adapter"`
	Draft      bool          `koanf:"draft"`
	DraftModel string        `koanf:"draft-model"`
	KVMemory   int           `koanf:"kv-memory"`
	KVDisk     int           `koanf:"kv-disk"`

	Addr      string `koanf:"addr"`
	Grounded  string `koanf:"grounded"`
	Isolation string `koanf:"isolation"`
	Upstream  string `koanf:"upstream"`
	// UpstreamModel is one of the upstream server's, UpstreamKey what it wants to see; a flag would show that to everybody.
	UpstreamModel string `koanf:"upstream-model"`
	UpstreamKey   string `koanf:"upstream-key"`

	Origins []string `koanf:"origin"`
	Hosts   []string `koanf:"host"`
	Store   string   `koanf:"store"`
	TopK    int      `koanf:"top-k"`
	JSON    bool     `koanf:"json"`
}

// validate refuses numbers that mean nothing, wherever they came from.
func (s settings) validate() error {
	if _, ok := placings[s.Placed]; !ok && s.Placed != "" {
		return usageError{fmt.Errorf("--placed %s: use auto, always or never", s.Placed)}
	}
	if s.TargetGap < 0 {
		return usageError{fmt.Errorf("--target-gap %s: use a positive time, such as 100ms", s.TargetGap)}
	}
	for _, n := range []struct {
		name           string
		value, low, up int
	}{
		{"context", s.Context, 0, math.MaxInt32}, {"cells", s.Cells, 0, math.MaxInt32}, {"kv-memory", s.KVMemory, 0, 1 << 30}, {"kv-disk", s.KVDisk, 0, 1 << 30}, {"parallel", s.Parallel, 0, 256}, {"threads", s.Threads, 0, 4096},
		{"gpu-layers", s.GPULayers, -1, math.MaxInt32}, {"top-k", s.TopK, 0, 200},
	} {
		if n.value < n.low || n.value > n.up {
			return usageError{fmt.Errorf("--%s %d: use a number from %d to %d", n.name, n.value, n.low, n.up)}
		}
	}
	return nil
}

const (
	defaultChat      = "smollm2-135m"
	defaultEmbedding = "all-minilm-l6-v2"
)

// embeddingFlags and modelFlags declare what openers of models look at.
func embeddingFlags(cmd *cobra.Command) {
	cmd.Flags().String("embedding-model", defaultEmbedding, "embedding model: a name or a .gguf file")
	cmd.Flags().Int("threads", 0, "threads to compute with (default: the processors this process may use)")
	cmd.Flags().Int("gpu-layers", 0, "layers on GPUs (0: all where there is a GPU, -1: none)")
}

func modelFlags(cmd *cobra.Command) {
	embeddingFlags(cmd)
	cmd.Flags().String("model", defaultChat, "chat model: a name or a .gguf file")
	cmd.Flags().Int("context", 0, "tokens of one request, prompt and answer (default: the model's, at most 8192)")
	cmd.Flags().Int("parallel", 0, "sequences computed together (default: 16)")
	engineFlags(cmd)
}

// app is what a command opened; close closes it in reverse.
type app struct {
	settings settings
	log      zerolog.Logger
	library  *models.Library
	closers  []func() error

	isolated  bool   // models run in workers
	draft     string // the draft model's file; "" is none
	workers   []*worker.Worker
	embedder  engine.Embedder
	base      *base.Base
	engine    engine.Generator
	rerankers []dispatch.Reranker
}

// withApp runs a command with the settings, the models' folder and nothing else opened yet.
func withApp(run func(cmd *cobra.Command, a *app, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		a, err := open(cmd)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		return run(cmd, a, args)
	}
}

// open reads the settings and makes the logger.
func open(cmd *cobra.Command) (*app, error) {
	a := &app{}
	if err := loadSettings(cmd, &a.settings); err != nil {
		return nil, err
	}
	err := a.settings.validate()
	if err != nil {
		return nil, err
	}
	if a.log, err = newLogger(a.settings.LogLevel, a.settings.LogFormat); err != nil {
		return nil, err
	}
	a.library, err = models.New(models.Config{Dir: filepath.Join(a.settings.Cache, "models"), Endpoint: os.Getenv("HF_ENDPOINT"), Token: os.Getenv("HF_TOKEN")})
	if err != nil {
		return nil, err
	}
	if err := llama.CheckCPU(); err != nil {
		return nil, err
	}
	logLlama(a.log)
	return a, nil
}

// logLlama writes llama.cpp's log into ours. It calls its chatter info; what matters to an operator are its errors, the rest
// is for debugging.
func logLlama(log zerolog.Logger) {
	llama.SetLog(func(level llama.LogLevel, text string) {
		event := log.Debug()
		if level == llama.LogError {
			event = log.Warn()
		}
		event.Str("from", "llama.cpp").Msg(text)
	})
}

func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

// close closes what was opened, last first.
func (a *app) close() error {
	var err error
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, a.closers[i]())
	}
	return err
}

// resolve finds a model's file; checksum gives its checksum. Both may take long, and show it.
func (a *app) resolve(ctx context.Context, name string) (models.Installed, error) {
	var s steps
	defer s.done()
	return a.library.Resolve(ctx, name, s.show)
}

func (a *app) checksum(ctx context.Context, path string) (string, error) {
	var s steps
	defer s.done()
	return a.library.Checksum(ctx, path, s.show)
}

// load loads a model, in a worker where models are isolated; it is closed with the app.
func (a *app) load(ctx context.Context, m models.Installed, u use, h engine.Hooks) (worker.Model, error) {
	sum, err := a.checksum(ctx, m.Path)
	if err != nil {
		return worker.Model{}, err
	}
	bar := newProgress("loading "+m.Name, 100, func(n int64) string { return fmt.Sprintf("%d %%", n) })
	defer bar.done()
	progress := func(done float32) { bar.set(int64(done*100), 100) }
	j := job{Use: u, Path: m.Path, Engine: a.engineConfig(), Options: native.Options{
		Name: m.Name, SHA256: sum, Context: a.settings.Context, Running: a.settings.Parallel, Cells: a.settings.Cells, Threads: a.settings.Threads,
		GPULayers: a.settings.GPULayers,
	}}
	if u == generates {
		if j.Options.Adapters, err = a.settings.adapters(); err != nil {
			return worker.Model{}, err
		}
		j.Options.DraftModel = a.draft
	}
	var model worker.Model
	if a.isolated {
		model, err = a.employ(ctx, j, progress, h)
	} else {
		model, err = j.load(ctx, progress, h)
	}
	if err == nil {
		a.onClose(model.Close)
	}
	return model, err
}

// embeddingModel and chatModel find the files of the models that the settings name, the latter the draft model's too. Commands
// look for all that they need before they load any.
func (a *app) embeddingModel(ctx context.Context) (models.Installed, error) {
	m, err := a.resolve(ctx, a.settings.EmbeddingModel)
	if err != nil {
		err = fmt.Errorf("embedding model: %w", err)
	}
	return m, err
}

func (a *app) chatModel(ctx context.Context) (models.Installed, error) {
	m, err := a.resolve(ctx, a.settings.Model)
	if err != nil {
		return m, fmt.Errorf("chat model: %w", err)
	}
	if a.settings.DraftModel == "" {
		return m, nil
	}
	draft, err := a.resolve(ctx, a.settings.DraftModel)
	if err != nil {
		return m, fmt.Errorf("draft model: %w", err)
	}
	a.draft = draft.Path
	return m, nil
}

// store looks into the record for the store that the settings name, before models are loaded, which takes longer: a record
// that can't be used and a name that can't be a store's show here. A store that is not there is an empty one, and a folder
// without a record stays as it is.
func (a *app) store(ctx context.Context) (retrieval.Store, error) {
	if _, err := os.Stat(filepath.Join(a.settings.Data, sqlite.File)); errors.Is(err, fs.ErrNotExist) {
		return retrieval.Store{}, nil
	}
	b, err := base.Open(ctx, base.Default(a.settings.Data))
	if err != nil {
		return retrieval.Store{}, fmt.Errorf("data folder %s: %w", a.settings.Data, err)
	}
	s, err := b.Store(ctx, a.settings.Store)
	if errors.Is(err, retrieval.ErrNoStore) {
		err = nil
	}
	return s, errors.Join(err, b.Close())
}

// openBase opens the knowledge base with its embedding model m.
func (a *app) openBase(ctx context.Context, m models.Installed) error {
	model, err := a.load(ctx, m, embeds, engine.Hooks{})
	if err != nil {
		return fmt.Errorf("embedding model %s: %w", m.Name, err)
	}
	a.embedder = model.Embedder
	info := a.embedder.Info()
	c := base.Default(a.settings.Data)
	c.Embedder = a.embedder
	c.Info = retrieval.EmbedderInfo{Name: info.Name, SHA256: info.SHA256, Dimensions: info.Dimensions, MaxInput: info.MaxInput}
	return a.openRecord(ctx, c)
}

// openRecord opens the knowledge base. Without an embedding model in c it neither ingests nor searches.
func (a *app) openRecord(ctx context.Context, c base.Config) (err error) {
	if a.base, err = base.Open(ctx, c); err != nil {
		return fmt.Errorf("data folder %s: %w", a.settings.Data, err)
	}
	a.onClose(a.base.Close)
	return nil
}

// openEngine loads the chat model m.
func (a *app) openEngine(ctx context.Context, m models.Installed, h engine.Hooks) error {
	model, err := a.load(ctx, m, generates, h)
	if err != nil {
		return fmt.Errorf("chat model %s: %w", m.Name, err)
	}
	a.engine = model.Generator
	return nil
}

// answerer joins a generator with what was opened.
func (a *app) answerer(g engine.Generator) (*answer.Answerer, error) {
	return answer.New(answer.Default(), a.base, g, a.embedder)
}

// findDocuments checks that the store holds documents.
func (a *app) findDocuments(ctx context.Context) error {
	s, err := a.store(ctx)
	if err == nil && s.Documents == 0 {
		return a.noDocuments()
	}
	return err
}

// openDocuments opens the knowledge base for questions.
func (a *app) openDocuments(ctx context.Context) error {
	if err := a.findDocuments(ctx); err != nil {
		return err
	}
	return a.openEmbedding(ctx)
}

// openEmbedding opens the knowledge base with the embedding model that the settings name.
func (a *app) openEmbedding(ctx context.Context) error {
	m, err := a.embeddingModel(ctx)
	if err != nil {
		return err
	}
	return a.openBase(ctx, m)
}

// findModels finds the files of both models.
func (a *app) findModels(ctx context.Context) (embedding, chat models.Installed, err error) {
	if a.settings.DraftModel != "" && !a.settings.Draft {
		return embedding, chat, usageError{fmt.Errorf("--draft-model %s: with --draft=false nothing is guessed: leave out one of them", a.settings.DraftModel)}
	}
	if embedding, err = a.embeddingModel(ctx); err != nil {
		return embedding, chat, err
	}
	chat, err = a.chatModel(ctx)
	return embedding, chat, err
}

// openModels opens the knowledge base and loads the chat model.
func (a *app) openModels(ctx context.Context, embedding, chat models.Installed, h engine.Hooks) error {
	if err := a.openBase(ctx, embedding); err != nil {
		return err
	}
	return a.openEngine(ctx, chat, h)
}

// openAnswerer opens everything that a question needs.
func (a *app) openAnswerer(ctx context.Context) (*answer.Answerer, error) {
	if a.settings.Placed == "auto" {
		a.settings.Placed = "never" // one question is answered sooner than it would be found out
	}
	if err := a.findDocuments(ctx); err != nil {
		return nil, err
	}
	embedding, chat, err := a.findModels(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.openModels(ctx, embedding, chat, engine.Hooks{DraftFailed: a.draftFailed}); err != nil {
		return nil, err
	}
	return a.answerer(a.engine)
}

func (a *app) noDocuments() error {
	of, with := "", ""
	if a.settings.Store != "" {
		of, with = "store "+a.settings.Store+" of ", " --store "+a.settings.Store
	}
	return fmt.Errorf("%[1]s%[2]s holds no documents yet: read some with `quipu ingest --data %[2]s%[3]s PATH`", of, a.settings.Data, with)
}
