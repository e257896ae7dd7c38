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

// encoder computes one row of floats for each text: what Embedder and Reranker share. Its loop puts the texts of concurrent
// callers together into full batches, in turn, so that a question never waits for all of somebody's documents, and hands them to
// workers. It is safe for concurrent use; its owner closes it.
type encoder struct {
	info    engine.Info
	model   *llama.Model
	vocab   *llama.Vocab
	workers []*encodeWorker
	threads int // of all workers together
	full    int // tokens that fill a batch; a text that is longer has one of its own
	closing int // special tokens behind a text

	calls    chan *encodeCall
	finished chan *encodeJob
	stop     context.CancelFunc
	ended    chan struct{}
	mu       sync.RWMutex
	shut     bool
}

// encodeCall is the texts of one caller on their way through the loop, which owns it until done is closed.
type encodeCall struct {
	ctx     context.Context
	texts   [][]llama.Token
	waiting []int // texts that were not in a batch yet, longest first
	left    int   // texts that have no row yet
	served  int   // tokens taken from it, from where the others stood when it came
	rows    [][]float32
	err     error
	done    chan struct{}
}

// encodeWorker computes batches; its goroutine alone uses its context.
type encodeWorker struct {
	context *llama.Context
	batch   *llama.Batch
	jobs    chan *encodeJob
}

// encodeJob is a batch. The loop makes it, a worker fills rows and errs in, and the loop takes it back.
type encodeJob struct {
	worker  *encodeWorker
	threads int
	places  []encodePlace
	rows    [][]float32
	errs    []error
}

type encodePlace struct {
	call *encodeCall
	text int
}

const (
	// A batch's attention is computed with all of its tokens and masked, so a batch larger than a processor needs to be busy
	// costs more than it brings: see BenchmarkEmbed. A GPU needs more to be busy.
	cpuEncodeBatch = 192
	gpuEncodeBatch = 1024
	encodeTexts    = 64
	encodeMaxInput = 2048
	// llama.cpp gives each context room for the logits of a batch, which nobody computes here.
	encodeSpare = 512 << 20 // bytes of them, of all workers
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
	e.threads, e.full = o.threads(), cpuEncodeBatch
	gpu := o.GPULayers >= 0 && llama.SupportsGPU()
	if gpu {
		e.full = gpuEncodeBatch
	}
	if err := e.hire(); err != nil {
		return err
	}
	first := e.workers[0].context
	if err := fits(first.Pooling()); err != nil {
		return err
	}
	// Threads that wait for each other at every step of the graph get less done than each with a batch of its own, and far
	// less where other programs compute. What has a KV cache would need one for each.
	if !gpu && !first.HasMemory() {
		most := max(1, encodeSpare/(4*e.full*e.vocab.Len()))
		for len(e.workers) < min(e.threads, most) {
			if err := e.hire(); err != nil {
				return err
			}
		}
	}
	e.finished = make(chan *encodeJob, len(e.workers))
	empty, err := e.vocab.Tokenize("", true, false)
	if err != nil {
		return err
	}
	e.closing = len(empty)
	if s := e.vocab.Specials(); s.AddBOS && e.closing > 0 {
		e.closing--
	}
	return nil
}

// hire makes one more worker.
func (e *encoder) hire() error {
	room := max(e.full, e.info.MaxInput)
	p := llama.DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences = room, room, room, min(encodeTexts, room)
	p.Threads, p.BatchThreads = e.threads, e.threads
	p.Embeddings = true
	w := &encodeWorker{jobs: make(chan *encodeJob, 1)}
	e.workers = append(e.workers, w)
	var err error
	if w.context, err = llama.NewContext(e.model, p); err != nil {
		return err
	}
	w.batch, err = llama.NewBatch(room, 1)
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

// run is the loop: its goroutine alone knows who waits.
func (e *encoder) run(ctx context.Context) {
	defer close(e.ended)
	var working sync.WaitGroup
	for _, w := range e.workers {
		working.Go(func() { w.run(ctx, e.finished) })
	}
	var queue []*encodeCall
	idle := slices.Clone(e.workers)
	for {
		select {
		case c := <-e.calls:
			queue = join(queue, c)
		case j := <-e.finished:
			j.deliver()
			idle = append(idle, j.worker)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		for more := true; more; { // everybody who is there already
			select {
			case c := <-e.calls:
				queue = join(queue, c)
			default:
				more = false
			}
		}
		queue = slices.DeleteFunc(queue, (*encodeCall).settle)
		for len(idle) > 0 {
			j := e.plan(queue)
			if len(j.places) == 0 {
				break
			}
			slices.SortStableFunc(queue, func(a, b *encodeCall) int { return a.served - b.served })
			j.worker, idle = idle[len(idle)-1], idle[:len(idle)-1]
			j.threads = max(1, e.threads/len(e.workers))
			if len(idle) == len(e.workers)-1 && !slices.ContainsFunc(queue, (*encodeCall).waits) {
				j.threads = e.threads // nobody else has any use for them
			}
			j.worker.jobs <- j
		}
	}
	for _, w := range e.workers {
		close(w.jobs)
	}
	working.Wait()
	for _, c := range queue {
		c.err = engine.ErrClosed
		c.settle()
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
func (c *encodeCall) settle() bool {
	if c.err == nil && c.left > 0 {
		c.err = c.ctx.Err()
	}
	if c.err == nil && c.left > 0 {
		return false
	}
	if c.err != nil {
		c.rows, c.waiting = nil, nil
	}
	close(c.done)
	return true
}

func (c *encodeCall) waits() bool { return len(c.waiting) > 0 && c.ctx.Err() == nil }

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

// plan makes a batch: one text of each call in turn, as long as they fit. It may be empty.
func (e *encoder) plan(queue []*encodeCall) *encodeJob {
	j := &encodeJob{}
	room := max(e.full, e.info.MaxInput)
	for added := true; added; {
		added = false
		for _, c := range queue {
			text, ok := 0, false
			if len(j.places) < encodeTexts {
				text, ok = c.take(room)
			}
			if !ok {
				continue
			}
			n := len(c.texts[text])
			if len(j.places) == 0 {
				room = e.full
			}
			room -= n
			c.served += n
			j.places = append(j.places, encodePlace{c, text})
			added = true
		}
	}
	return j
}

// deliver hands the rows to their calls.
func (j *encodeJob) deliver() {
	for i, p := range j.places {
		if p.call.rows == nil { // it is settled
			continue
		}
		p.call.left--
		p.call.rows[p.text] = j.rows[i]
		if err := j.errs[i]; err != nil && p.call.err == nil {
			p.call.err = fmt.Errorf("%w: %w", engine.ErrBackend, err)
		}
	}
}

func (w *encodeWorker) run(ctx context.Context, finished chan<- *encodeJob) {
	runtime.LockOSThread() // which owns the threads that compute
	for j := range w.jobs {
		w.context.SetThreads(j.threads, j.threads)
		w.compute(ctx, j)
		finished <- j
	}
}

func (w *encodeWorker) compute(ctx context.Context, j *encodeJob) {
	j.rows, j.errs = make([][]float32, len(j.places)), make([]error, len(j.places))
	w.batch.Clear()
	var err error
	for s, p := range j.places {
		for i, t := range p.call.texts[p.text] {
			err = errors.Join(err, w.batch.Add(t, i, true, s))
		}
	}
	if err == nil {
		err = w.encode(ctx)
	}
	for s := range j.places {
		var row []float32
		if j.errs[s] = err; err == nil {
			row, j.errs[s] = w.context.SequenceEmbedding(s)
		}
		j.rows[s] = slices.Clone(row)
	}
}

func (w *encodeWorker) encode(ctx context.Context) error {
	if !w.context.HasMemory() {
		return w.context.Encode(ctx, w.batch)
	}
	if err := w.context.Memory().Clear(false); err != nil {
		return err
	}
	return w.context.Decode(ctx, w.batch)
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
	for _, w := range e.workers {
		if w.batch != nil {
			w.batch.Close()
		}
		if w.context != nil {
			w.context.Close()
		}
	}
	return e.model.Close()
}

func inputError(i int, err error) error {
	if errors.Is(err, llama.ErrClosed) {
		return engine.ErrClosed
	}
	return fmt.Errorf("input %d: %w", i, err)
}
