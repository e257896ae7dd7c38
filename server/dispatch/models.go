package dispatch

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/server/fault"
)

// Default is the name under which the first model of each kind is always served.
const Default = "default"

// Generator is what is needed of a chat model. engine.Generator has it.
type Generator interface {
	Info() engine.Info
	Generate(ctx context.Context, r *engine.Request) (*engine.Stream, error)
}

// Answerer gives grounded answers; its last event has Answer set. *answer.Answerer is one.
type Answerer interface {
	Stream(ctx context.Context, q answer.Question) iter.Seq2[answer.Event, error]
}

// Embedder is what is needed of an embedding model. engine.Embedder has it.
type Embedder interface {
	Info() engine.Info
	EmbedCounted(ctx context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error)
}

// Reranker is what is needed of a reranking model. engine.Reranker has it.
type Reranker interface {
	Info() engine.Info
	Rerank(ctx context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error)
}

// Stores knows the stores of the knowledge base. It returns retrieval.ErrNoStore for one that is not there.
type Stores interface {
	Store(ctx context.Context, name string) (retrieval.Store, error)
}

// Chat is a served chat model.
type Chat struct {
	Generator Generator
	Answerer  Answerer // over the same model; nil when there is no knowledge base
}

// Models are the models that are served; the first of each kind is the default. They never change.
type Models struct {
	Chats     []Chat
	Embedders []Embedder
	Rerankers []Reranker
}

// Chat gives the chat model of a name; "" and Default mean the first.
func (m Models) Chat(name string) (Chat, error) {
	return find(m.Chats, "chat model", name, func(c Chat) string { return c.Generator.Info().Name })
}

// Embedder gives the embedding model of a name; "" and Default mean the first.
func (m Models) Embedder(name string) (Embedder, error) {
	return find(m.Embedders, "embedding model", name, func(e Embedder) string { return e.Info().Name })
}

// Reranker gives the reranking model of a name; "" and Default mean the first.
func (m Models) Reranker(name string) (Reranker, error) {
	return find(m.Rerankers, "reranking model", name, func(r Reranker) string { return r.Info().Name })
}

// Unknown is the fault of a name that no model of any kind has.
func (m Models) Unknown(name string) *fault.Fault {
	var names []string
	for _, c := range m.Chats {
		names = append(names, c.Generator.Info().Name)
	}
	for _, e := range m.Embedders {
		names = append(names, e.Info().Name)
	}
	for _, r := range m.Rerankers {
		names = append(names, r.Info().Name)
	}
	return unknown("model", name, names)
}

func find[T any](models []T, kind, name string, nameOf func(T) string) (T, error) {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = nameOf(m)
		if name == "" || name == Default || name == names[i] {
			return m, nil
		}
	}
	var none T
	return none, unknown(kind, name, names)
}

func unknown(kind, name string, names []string) *fault.Fault {
	served := "none is served"
	if len(names) > 0 {
		served = "served: " + strings.Join(names, ", ")
	}
	return &fault.Fault{Status: http.StatusNotFound, Type: fault.InvalidRequest, Code: fault.NoModel, Param: "model",
		Message: fmt.Sprintf("there is no %s %.100q (%s)", kind, name, served)}
}
