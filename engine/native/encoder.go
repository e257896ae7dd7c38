package native

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// encoder computes one row of floats for each text: the loop that Embedder and Reranker share. It puts the texts of
// concurrent callers together into full batches, in turn, so that a question never waits for all of somebody's documents.
// It is safe for concurrent use; its owner closes it.
type encoder struct {
	info    engine.Info
	model   *llama.Model
	vocab   *llama.Vocab
	context *llama.Context
	batch   *llama.Batch
	full    int // tokens that fill a batch; a text that is longer has one of its own
	closing int // special tokens behind a text

	calls chan *encodeCall
	stop  context.CancelFunc
	ended chan struct{}
	mu    sync.RWMutex
	shut  bool
}

// encodeCall is the texts of one caller on their way through the loop, which owns it until done is closed.
type encodeCall struct {
	ctx     context.Context
	texts   [][]llama.Token
	waiting []int // texts that were not in a batch yet, longest first
	left    int   // texts that have no row yet
	served  int   // tokens computed for it, from where the others stood when it came
	rows    [][]float32
	err     error
	done    chan struct{}
}

const (
	// A processor attends to all of a batch and masks what belongs to other texts, so batches that are larger than it needs
	// to be busy cost more than they bring: see BenchmarkEmbed. A GPU needs more to be busy.
	cpuEncodeBatch = 256
	gpuEncodeBatch = 1024
	encodeTexts    = 64
	encodeMaxInput = 2048
)

// open loads a model and starts the loop. fits looks at the pooling and refuses what is no such model.
func (e *encoder) open(ctx context.Context, path string, o Options, fits func(llama.Pooling) error) error {
	model, err := llama.Load(ctx, path, o.modelParams())
	if err != nil {
		return err
	}
	e.model, e.vocab, e.info = model, model.Vocab(), o.info(path, model.Facts())
	e.calls, e.ended = make(chan *encodeCall), make(chan struct{})
	if err := e.prepare(o, fits); err != nil {
		return errors.Join(err, e.free())
	}
	loop, stop := context.WithCancel(context.Background())
	e.stop = stop
	go e.run(loop)
	return nil
}

func (e *encoder) prepare(o Options, fits func(llama.Pooling) error) error {
	facts := e.model.Facts()
	if facts.HasEncoder && facts.HasDecoder {
		return fmt.Errorf("%s is a %s model: it turns texts into texts, not into embeddings", e.info.File, facts.Architecture)
	}
	e.info.MaxInput = min(facts.ContextTrain, encodeMaxInput)
	e.info.Context = e.info.MaxInput
	e.full = cpuEncodeBatch
	if o.GPULayers >= 0 && llama.SupportsGPU() {
		e.full = gpuEncodeBatch
	}
	room := max(e.full, e.info.MaxInput)
	p := llama.DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences = room, room, room, min(encodeTexts, room)
	p.Threads, p.BatchThreads = o.threads(), o.threads()
	p.Embeddings = true
	var err error
	if e.context, err = llama.NewContext(e.model, p); err != nil {
		return err
	}
	if err := fits(e.context.Pooling()); err != nil {
		return err
	}
	empty, err := e.vocab.Tokenize("", true, false)
	if err != nil {
		return err
	}
	e.closing = len(empty)
	if s := e.vocab.Specials(); s.AddBOS && e.closing > 0 {
		e.closing--
	}
	e.batch, err = llama.NewBatch(room, 1)
	return err
}

// Info describes the model.
func (e *encoder) Info() engine.Info { return e.info }

// cut shortens a text to so many tokens; what the model wants behind it stays.
func (e *encoder) cut(tokens []llama.Token, limit int) []llama.Token {
	if len(tokens) <= limit {
		return tokens
	}
	end := tokens[len(tokens)-e.closing:]
	return append(tokens[:limit-e.closing:limit-e.closing], end...)
}

// encode returns one row for each text, none of which is empty or longer than MaxInput. When ctx ends it returns at once.
func (e *encoder) encode(ctx context.Context, texts [][]llama.Token) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, ctx.Err()
	}
	c := &encodeCall{
		ctx: ctx, texts: texts, waiting: make([]int, len(texts)), left: len(texts), rows: make([][]float32, len(texts)), done: make(chan struct{}),
	}
	for i := range c.waiting {
		c.waiting[i] = i
	}
	slices.SortStableFunc(c.waiting, func(a, b int) int { return len(texts[b]) - len(texts[a]) })
	if err := e.submit(ctx, c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.rows, c.err
}

func (e *encoder) submit(ctx context.Context, c *encodeCall) error {
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

// run is the encoder's goroutine: it alone uses the context.
func (e *encoder) run(ctx context.Context) {
	runtime.LockOSThread()
	defer close(e.ended)
	var queue []*encodeCall
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
				queue = join(queue, c)
			default:
				more = false
			}
		}
		e.step(ctx, queue)
		queue = slices.DeleteFunc(queue, func(c *encodeCall) bool { return c.settle(ctx) })
		slices.SortStableFunc(queue, func(a, b *encodeCall) int { return a.served - b.served })
	}
}

// join lets a caller in as if it had been served as much as the one that was served least: it overtakes those who have had
// more, and nobody can be overtaken for ever.
func join(queue []*encodeCall, c *encodeCall) []*encodeCall {
	if len(queue) > 0 {
		c.served = queue[0].served
	}
	at, _ := slices.BinarySearchFunc(queue, c.served+1, func(q *encodeCall, served int) int { return q.served - served })
	return slices.Insert(queue, at, c)
}

// settle ends a call that has all its rows, has failed, or is not wanted any more.
func (c *encodeCall) settle(loop context.Context) bool {
	switch {
	case c.err != nil || c.left == 0:
	case loop.Err() != nil:
		c.err = engine.ErrClosed
	case c.ctx.Err() != nil:
		c.err = c.ctx.Err()
	default:
		return false
	}
	if c.err != nil {
		c.rows = nil
	}
	close(c.done)
	return true
}

// take gives the longest text that fits the room: batches are fullest when small texts come last.
func (c *encodeCall) take(room int) (text int, ok bool) {
	at, _ := slices.BinarySearchFunc(c.waiting, room, func(text, room int) int { return room - len(c.texts[text]) })
	if at == len(c.waiting) || c.ctx.Err() != nil {
		return 0, false
	}
	text = c.waiting[at]
	c.waiting = slices.Delete(c.waiting, at, at+1)
	return text, true
}

// step computes one batch of texts: one of each call in turn, as long as they fit.
func (e *encoder) step(ctx context.Context, queue []*encodeCall) {
	type place struct {
		call *encodeCall
		text int
	}
	var places []place
	var err error
	e.batch.Clear()
	for added := true; added; {
		added = false
		for _, c := range queue {
			room := e.full - e.batch.Len()
			if len(places) == 0 {
				room = e.batch.Cap()
			}
			if len(places) == e.context.Sequences() {
				break
			}
			text, ok := c.take(room)
			if !ok {
				continue
			}
			for i, t := range c.texts[text] {
				err = errors.Join(err, e.batch.Add(t, i, true, len(places)))
			}
			c.served += len(c.texts[text])
			places = append(places, place{c, text})
			added = true
		}
	}
	if len(places) == 0 {
		return
	}
	if err == nil {
		err = e.compute(ctx)
	}
	for i, p := range places {
		row, failed := []float32(nil), err
		if failed == nil {
			row, failed = e.context.SequenceEmbedding(i)
		}
		p.call.rows[p.text] = slices.Clone(row)
		p.call.left--
		switch {
		case failed == nil || p.call.err != nil:
		case ctx.Err() != nil:
			p.call.err = engine.ErrClosed
		default:
			p.call.err = fmt.Errorf("%w: %w", engine.ErrBackend, failed)
		}
	}
}

func (e *encoder) compute(ctx context.Context) error {
	if !e.context.HasMemory() {
		return e.context.Encode(ctx, e.batch)
	}
	if err := e.context.Memory().Clear(false); err != nil {
		return err
	}
	return e.context.Decode(ctx, e.batch)
}

// Close ends what is under way with engine.ErrClosed and frees the model. It may be called again.
func (e *encoder) Close() error {
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

func (e *encoder) free() error {
	if e.batch != nil {
		e.batch.Close()
	}
	if e.context != nil {
		e.context.Close()
	}
	return e.model.Close()
}

func inputError(i int, err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return fmt.Errorf("input %d: %w", i, err)
}
