package dispatch

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
)

// Ask is a chat request of any dialect.
type Ask struct {
	Model string
	// Request is what a plain answer is generated from. Its Chat is set.
	Request engine.Request
	// AnyTemperature says that the client named no temperature: a grounded answer is then greedy.
	AnyTemperature bool

	// Store names the documents; empty is retrieval.DefaultStore.
	Store string
	// Grounded is the client's own word on whether to answer from them; nil leaves it to the server.
	Grounded *bool
	// TopK passages at most; 0 is the answerer's default.
	TopK int
	// Plain names a field of the request that only a plain answer can honour, such as tools; empty when there is none.
	Plain string
}

// Event is one step of a reply. Text never ends inside a character.
type Event struct {
	Text      string
	Reasoning string
	ToolCalls []engine.ToolCall // pieces, to be joined by index
	Tokens    []engine.TokenInfo
	End       *End // set in the last event
}

// End says how a reply ended.
type End struct {
	Finish engine.FinishReason
	Usage  engine.Usage
	Answer *answer.Answer // of a grounded reply
}

// Reply is an answer about to be given. Each range over Events asks for it anew; leaving the range early cancels it.
type Reply struct {
	Model    string // the name it is served under
	Grounded bool
	Events   iter.Seq2[Event, error]
}

// Dispatcher brings asks to models and documents. Safe for concurrent use.
type Dispatcher struct {
	models Models
	stores Stores
	mode   Mode
}

// New wires a Dispatcher; without a knowledge base stores is nil.
func New(models Models, stores Stores, mode Mode) *Dispatcher {
	return &Dispatcher{models: models, stores: stores, mode: mode}
}

// Open decides who answers. Nothing runs before the reply's events are ranged over; refusals by the model or the documents
// are their first error.
func (d *Dispatcher) Open(ctx context.Context, a *Ask) (*Reply, error) {
	line := access.From(ctx)
	line.Chat = true
	chat, err := d.models.Chat(a.Model)
	if err != nil {
		return nil, err
	}
	line.Model = chat.Generator.Info().Name
	if line.Grounded, err = d.grounded(ctx, chat, a); err != nil {
		return nil, err
	}
	r := &Reply{Model: line.Model, Grounded: line.Grounded}
	if r.Grounded {
		r.Events = ask(ctx, chat.Answerer, a)
	} else {
		r.Events = generate(ctx, chat.Generator, &a.Request)
	}
	return r, nil
}

// generate is the way without documents.
func generate(ctx context.Context, g Generator, r *engine.Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		line := access.From(ctx)
		stream, err := g.Generate(ctx, r)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer stream.Close()
		for {
			e, err := stream.Recv(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			out := Event{Text: e.Text, Reasoning: e.Reasoning, ToolCalls: e.ToolCalls, Tokens: e.Tokens}
			line.Usage.GeneratedTokens += len(e.Tokens) // in case the client leaves before the end
			if e.Finish != "" {
				out.End = &End{Finish: e.Finish, Usage: e.Usage}
				line.Usage = e.Usage
				line.Timings = answer.Timings{QueueMS: ms(e.Timings.Queue), PrefillMS: ms(e.Timings.Prefill),
					FirstTokenMS: ms(e.Timings.FirstToken), DecodeMS: ms(e.Timings.Decode)}
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ask is the way over the documents.
func ask(ctx context.Context, from Answerer, a *Ask) iter.Seq2[Event, error] {
	r := &a.Request
	q := answer.Question{ID: r.ID, Key: r.Key, Store: a.Store, Messages: r.Chat.Messages, TopK: a.TopK,
		MaxTokens: r.MaxTokens, Stop: r.Stop, Sampling: r.Sampling}
	if a.AnyTemperature {
		q.Sampling.Temperature = 0
	}
	return func(yield func(Event, error) bool) {
		for e, err := range from.Stream(ctx, q) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			out := Event{Text: e.Delta}
			if w := e.Answer; w != nil {
				out.End = &End{Finish: w.Finish, Usage: w.Usage, Answer: w}
				line := access.From(ctx)
				line.Abstained, line.Citations, line.Usage, line.Timings = w.Abstained, len(w.Citations), w.Usage, w.Timings
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}
