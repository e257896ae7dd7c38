package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Embedder is an embedding model on this machine. It gathers the texts of concurrent callers into full batches, sorted by
// length. It is safe for concurrent use; its owner closes it.
type Embedder struct {
	info    engine.Info
	model   *llama.Model
	vocab   *llama.Vocab
	context *llama.Context
	batch   *llama.Batch

	jobs  chan []*embedding
	stop  context.CancelFunc
	ended chan struct{}
	mu    sync.RWMutex
	shut  bool
}

var _ engine.Embedder = (*Embedder)(nil)

// embedding is one text on its way through the loop.
type embedding struct {
	ctx    context.Context
	tokens []llama.Token
	vector []float32
	err    error
	done   *sync.WaitGroup
}

const embedBatch = 1024

// LoadEmbedder opens a GGUF embedding model. Context, Cells and Running of the options do not apply.
func LoadEmbedder(ctx context.Context, path string, o Options) (*Embedder, error) {
	model, err := llama.Load(ctx, path, o.modelParams())
	if err != nil {
		return nil, err
	}
	e := &Embedder{model: model, vocab: model.Vocab(), info: o.info(path, model.Facts()), jobs: make(chan []*embedding), ended: make(chan struct{})}
	if err := e.open(o); err != nil {
		return nil, errors.Join(err, e.free())
	}
	loop, stop := context.WithCancel(context.Background())
	e.stop = stop
	go e.run(loop)
	return e, nil
}

func (e *Embedder) open(o Options) error {
	facts := e.model.Facts()
	e.info.MaxInput = min(facts.ContextTrain, 2048)
	e.info.Context = e.info.MaxInput
	batch := max(embedBatch, e.info.MaxInput)
	p := llama.DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences = batch, batch, batch, 64
	p.Threads, p.BatchThreads = o.threads(), o.threads()
	p.Embeddings = true
	var err error
	if e.context, err = llama.NewContext(e.model, p); err != nil {
		return err
	}
	switch e.context.Pooling() {
	case llama.PoolingNone:
		return fmt.Errorf("%s says of no pooling: it is not an embedding model", e.info.File)
	case llama.PoolingRank:
		return fmt.Errorf("%s is a reranking model: it gives scores, not embeddings", e.info.File)
	}
	e.batch, err = llama.NewBatch(batch, 1)
	return err
}

// Info describes the model.
func (e *Embedder) Info() engine.Info { return e.info }

// CountTokens gives the tokens of each text, special ones included.
func (e *Embedder) CountTokens(texts []string) ([]int, error) {
	counts := make([]int, len(texts))
	var buffer []llama.Token
	for i, text := range texts {
		var err error
		if buffer, err = e.vocab.AppendTokens(buffer[:0], text, true, false); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		counts[i] = len(buffer)
	}
	return counts, nil
}

// Embed returns one unit-length row per text.
func (e *Embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	work := make([]*embedding, len(texts))
	done := &sync.WaitGroup{}
	for i, text := range texts {
		tokens, err := e.vocab.Tokenize(text, true, false)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		if len(tokens) > e.info.MaxInput {
			return nil, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(tokens), Limit: e.info.MaxInput}
		}
		work[i] = &embedding{ctx: ctx, tokens: tokens, done: done}
	}
	if len(work) == 0 {
		return nil, ctx.Err()
	}
	done.Add(len(work))
	if err := e.submit(ctx, work); err != nil {
		return nil, err
	}
	done.Wait()
	rows := make([][]float32, len(work))
	for i, w := range work {
		if w.err != nil {
			return nil, w.err
		}
		rows[i] = w.vector
	}
	return rows, nil
}

func (e *Embedder) submit(ctx context.Context, work []*embedding) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.shut {
		return engine.ErrClosed
	}
	select {
	case e.jobs <- work:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the embedder's goroutine: it alone uses the context.
func (e *Embedder) run(ctx context.Context) {
	runtime.LockOSThread()
	defer close(e.ended)
	var queue []*embedding
	for {
		if len(queue) == 0 {
			select {
			case work := <-e.jobs:
				queue = append(queue, work...)
			case <-ctx.Done():
				return
			}
		}
		for more := true; more; {
			select {
			case work := <-e.jobs:
				queue = append(queue, work...)
			default:
				more = false
			}
		}
		// Neighbours of about the same length share a batch; the longest go first, so that nobody waits behind them twice.
		slices.SortStableFunc(queue, func(a, b *embedding) int { return cmp.Compare(len(b.tokens), len(a.tokens)) })
		queue = e.step(ctx, queue)
	}
}

// step computes one batch from the front of the queue and returns what is left.
func (e *Embedder) step(ctx context.Context, queue []*embedding) []*embedding {
	var batch []*embedding
	e.batch.Clear()
	n := 0
	for ; n < len(queue); n++ {
		w := queue[n]
		if err := w.ctx.Err(); err != nil {
			w.finish(nil, err)
			continue
		}
		if len(batch) == e.context.Sequences() || e.batch.Len()+len(w.tokens) > e.batch.Cap() {
			break
		}
		// Room and token ids were checked before, so that no text is in the batch by halves.
		for i, t := range w.tokens {
			if err := e.batch.Add(t, i, true, len(batch)); err != nil {
				return e.fail(append(batch, queue[n:]...), err)
			}
		}
		batch = append(batch, w)
	}
	if len(batch) == 0 {
		return queue[n:]
	}
	err := e.compute(ctx)
	for i, w := range batch {
		var row []float32
		if err == nil {
			row, err = e.context.SequenceEmbedding(i)
		}
		if err != nil {
			w.finish(nil, fmt.Errorf("%w: %w", engine.ErrBackend, err))
			continue
		}
		w.finish(unit(row), nil)
	}
	return queue[n:]
}

// fail ends all that waits: a batch that refuses its own vocabulary's tokens is not fit for any of it.
func (e *Embedder) fail(queue []*embedding, err error) []*embedding {
	for _, w := range queue {
		w.finish(nil, fmt.Errorf("%w: %w", engine.ErrBackend, err))
	}
	return nil
}

func (e *Embedder) compute(ctx context.Context) error {
	if !e.context.HasMemory() {
		return e.context.Encode(ctx, e.batch)
	}
	if err := e.context.Memory().Clear(false); err != nil {
		return err
	}
	return e.context.Decode(ctx, e.batch)
}

func (w *embedding) finish(vector []float32, err error) {
	w.vector, w.err = vector, err
	w.done.Done()
}

// unit copies a row, scaled to length one; a row of zeros stays as it is.
func unit(row []float32) []float32 {
	var sum float64
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	out := slices.Clone(row)
	if sum == 0 {
		return out
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range out {
		out[i] *= scale
	}
	return out
}

// Close waits for what is under way and frees the model. It may be called again.
func (e *Embedder) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return nil
	}
	e.shut = true
	e.stop()
	<-e.ended
	return e.free()
}

func (e *Embedder) free() error {
	if e.batch != nil {
		e.batch.Close()
	}
	if e.context != nil {
		e.context.Close()
	}
	return e.model.Close()
}
