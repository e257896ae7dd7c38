package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"google.golang.org/grpc"
)

// call makes a call that has one answer.
func call[A any](ctx context.Context, w *Worker, name string, question any) (A, error) {
	var answer reply[A]
	err := w.carry(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ func()) error {
		answer = reply[A]{}
		if err := conn.Invoke(ctx, prefix+name, question, &answer); err != nil {
			return broken(ctx, err)
		}
		return answer.Error.unpack()
	})
	return answer.Value, err
}

// Score weighs continuations; see engine.Generator.
func (w *Worker) Score(ctx context.Context, asks []engine.ScoreAsk) ([]engine.Score, error) {
	return call[[]engine.Score](ctx, w, scoreCall, asks)
}

// Render returns the prompt as Generate would feed it.
func (w *Worker) Render(ctx context.Context, r *engine.Request) (engine.Prompt, error) {
	return call[engine.Prompt](ctx, w, renderCall, r)
}

// Tokenize splits plain text.
func (w *Worker) Tokenize(ctx context.Context, text string) ([]engine.Token, error) {
	return call[[]engine.Token](ctx, w, tokenizeCall, text)
}

// Embed returns one unit-length row per text.
func (w *Worker) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	rows, _, err := w.EmbedCounted(ctx, texts, false)
	return rows, err
}

// EmbedCounted is Embed that also gives how many tokens it read; see engine.Embedder.
func (w *Worker) EmbedCounted(ctx context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error) {
	e, err := call[embedded](ctx, w, embedCall, reading{Texts: texts, Truncate: truncate})
	return e.Rows, e.Read, err
}

// Rerank scores texts against a query; see engine.Reranker.
func (w *Worker) Rerank(ctx context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error) {
	r, err := call[reranked](ctx, w, rerankCall, reading{Query: query, Texts: texts, Truncate: truncate})
	return r.Scores, r.Read, err
}

// CountTokens gives the tokens of each text, special ones included.
func (w *Worker) CountTokens(texts []string) ([]int, error) {
	return call[[]int](context.Background(), w, countCall, texts)
}

// Generate queues a request; see engine.Generator. When the process dies the stream goes on from the tokens it had, in the
// next one.
func (w *Worker) Generate(ctx context.Context, r *engine.Request) (*engine.Stream, error) {
	request, err := encoding.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrBadRequest, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, sink := engine.NewStream(cancel)
	g := &generation{question: submission{Request: request, Generated: slices.Clone(r.Generated)}, sink: sink, taken: make(chan error, 1)}
	go func() {
		defer cancel()
		if err := w.carry(ctx, g.run); err != nil {
			sink.Fail(err)
			g.take(err)
		}
	}()
	if err := <-g.taken; err != nil {
		return nil, err
	}
	return stream, nil
}

// generation is a stream on its way through one process after the other. One goroutine runs it.
type generation struct {
	question submission
	sink     *engine.Sink
	taken    chan error // gets one: whether the request was taken

	first   time.Time      // token passed on
	timings engine.Timings // as they were at the first token
	earlier bool           // another process had a part in it
}

func (g *generation) take(err error) {
	select {
	case g.taken <- err:
	default: // that was decided before
	}
}

var generateStream = &grpc.StreamDesc{StreamName: generateCall, ServerStreams: true}

func (g *generation) run(ctx context.Context, conn *grpc.ClientConn, on func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the end of the call, after the last event
	events, err := open(ctx, conn, generateStream, &g.question)
	if err != nil {
		return broken(ctx, err)
	}
	var taken reply[engine.Event]
	if err := events.RecvMsg(&taken); err != nil {
		return broken(ctx, err)
	}
	if taken.Error != nil {
		return taken.Error.unpack()
	}
	g.take(nil)
	fresh := false
	for {
		var next reply[engine.Event]
		if err := events.RecvMsg(&next); err != nil {
			g.earlier = !g.first.IsZero()
			return broken(ctx, err)
		}
		if next.Error != nil {
			return next.Error.unpack()
		}
		event := next.Value
		if len(event.Tokens) > 0 && !fresh {
			fresh = true
			on()
		}
		for _, t := range event.Tokens {
			g.question.Generated = append(g.question.Generated, t.ID)
		}
		g.clock(&event)
		g.sink.Send(event)
		if event.Finish != "" {
			return nil
		}
	}
}

// clock mends the timings of a stream that more than one process had a part in: they know nothing of each other.
func (g *generation) clock(e *engine.Event) {
	switch {
	case g.first.IsZero():
		if len(e.Tokens) > 0 {
			g.first, g.timings = time.Now().Add(-e.Timings.Decode), e.Timings
		}
	case g.earlier:
		e.Timings = g.timings
		e.Timings.Decode = time.Since(g.first)
	}
}

// open begins a call that has many answers.
func open(ctx context.Context, conn *grpc.ClientConn, desc *grpc.StreamDesc, question any) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, desc, prefix+desc.StreamName)
	if err != nil {
		return nil, err
	}
	// A stream that is broken by now says why when it is read.
	_ = stream.SendMsg(question)
	return stream, stream.CloseSend()
}
