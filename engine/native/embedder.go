package native

import (
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

// Embedder is an embedding model on this machine. It puts the texts of concurrent callers together into full batches, in
// turn, so that a question never waits for all of somebody's documents. It is safe for concurrent use; its owner closes it.
type Embedder struct {
	info    engine.Info
	model   *llama.Model
	vocab   *llama.Vocab
	context *llama.Context
	batch   *llama.Batch

	calls chan *embedCall
	stop  context.CancelFunc
	ended chan struct{}
	mu    sync.RWMutex
	shut  bool
}

var _ engine.Embedder = (*Embedder)(nil)

// embedCall is the texts of one Embed on their way through the loop, which owns it until done is closed.
type embedCall struct {
	ctx     context.Context
	texts   [][]llama.Token
	next    int // text that was not in a batch yet
	left    int // texts that have no vector yet
	vectors [][]float32
	err     error
	done    chan struct{}
}

const embedBatch = 1024

// LoadEmbedder opens a GGUF embedding model. Context, Cells and Running of the options do not apply.
func LoadEmbedder(ctx context.Context, path string, o Options) (*Embedder, error) {
	model, err := llama.Load(ctx, path, o.modelParams())
	if err != nil {
		return nil, err
	}
	e := &Embedder{model: model, vocab: model.Vocab(), info: o.info(path, model.Facts()), calls: make(chan *embedCall), ended: make(chan struct{})}
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
	if facts.HasEncoder && facts.HasDecoder {
		return fmt.Errorf("%s is a %s model: it turns texts into texts, not into embeddings", e.info.File, facts.Architecture)
	}
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
		return fmt.Errorf("%s names no pooling: it is not an embedding model", e.info.File)
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
			return nil, inputError(i, err)
		}
		counts[i] = len(buffer)
	}
	return counts, nil
}

func inputError(i int, err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return fmt.Errorf("input %d: %w", i, err)
}

// Embed returns one unit-length row per text. When ctx ends it returns at once.
func (e *Embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	c := &embedCall{
		ctx: ctx, texts: make([][]llama.Token, len(texts)), left: len(texts), vectors: make([][]float32, len(texts)), done: make(chan struct{}),
	}
	for i, text := range texts {
		tokens, err := e.vocab.Tokenize(text, true, false)
		if err != nil {
			return nil, inputError(i, err)
		}
		if len(tokens) == 0 {
			return nil, &engine.FieldError{Field: fmt.Sprintf("texts[%d]", i), Problem: "has no tokens to embed"}
		}
		if len(tokens) > e.info.MaxInput {
			return nil, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(tokens), Limit: e.info.MaxInput}
		}
		c.texts[i] = tokens
	}
	if len(texts) == 0 {
		return nil, ctx.Err()
	}
	if err := e.submit(ctx, c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.vectors, nil
}

func (e *Embedder) submit(ctx context.Context, c *embedCall) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.shut {
		return engine.ErrClosed
	}
	select {
	case e.calls <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the embedder's goroutine: it alone uses the context.
func (e *Embedder) run(ctx context.Context) {
	runtime.LockOSThread()
	defer close(e.ended)
	var queue []*embedCall
	for {
		if len(queue) == 0 {
			select {
			case c := <-e.calls:
				queue = append(queue, c)
			case <-ctx.Done():
				return
			}
		}
		for more := true; more; {
			select {
			case c := <-e.calls:
				queue = append(queue, c)
			default:
				more = false
			}
		}
		e.step(ctx, queue)
		queue = slices.DeleteFunc(queue, func(c *embedCall) bool { return c.settle(ctx) })
		if len(queue) > 1 {
			queue = append(queue[1:], queue[0]) // somebody else's text is the first of the next batch
		}
	}
}

// settle ends a call that has all its vectors, has failed, or is not wanted any more.
func (c *embedCall) settle(loop context.Context) bool {
	switch {
	case c.err != nil || c.left == 0:
	case loop.Err() != nil:
		c.err = engine.ErrClosed
	case c.ctx.Err() != nil:
		c.err = c.ctx.Err()
	default:
		return false
	}
	close(c.done)
	return true
}

// step computes one batch of texts: one of each call in turn, as long as they fit.
func (e *Embedder) step(ctx context.Context, queue []*embedCall) {
	type row struct {
		call *embedCall
		text int
	}
	var rows []row
	var err error
	e.batch.Clear()
	for added := true; added; {
		added = false
		for _, c := range queue {
			if c.next == len(c.texts) || c.ctx.Err() != nil || len(rows) == e.context.Sequences() || e.batch.Len()+len(c.texts[c.next]) > e.batch.Cap() {
				continue
			}
			for i, t := range c.texts[c.next] {
				err = errors.Join(err, e.batch.Add(t, i, true, len(rows)))
			}
			rows = append(rows, row{c, c.next})
			c.next++
			added = true
		}
	}
	if len(rows) == 0 {
		return
	}
	if err == nil {
		err = e.compute(ctx)
	}
	for i, r := range rows {
		vector, failed := []float32(nil), err
		if failed == nil {
			vector, failed = e.context.SequenceEmbedding(i)
		}
		if failed == nil {
			r.call.vectors[r.text], failed = unit(vector)
		}
		r.call.left--
		switch {
		case failed == nil || r.call.err != nil:
		case ctx.Err() != nil:
			r.call.err = engine.ErrClosed
		default:
			r.call.err = fmt.Errorf("%w: %w", engine.ErrBackend, failed)
		}
	}
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

// unit copies a row, scaled to length one; a row of zeros stays as it is.
func unit(row []float32) ([]float32, error) {
	var sum float64
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, errors.New("the embedding is not finite")
	}
	out := slices.Clone(row)
	if sum == 0 {
		return out, nil
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range out {
		out[i] *= scale
	}
	return out, nil
}

// Close ends what is under way with engine.ErrClosed and frees the model. It may be called again.
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
