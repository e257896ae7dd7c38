package openai

import (
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/engine"
)

type modelList struct {
	Object string  `json:"object"` // list
	Data   []model `json:"data"`
}

type model struct {
	ID      string     `json:"id"`
	Object  string     `json:"object"` // model
	Created int64      `json:"created"`
	OwnedBy string     `json:"owned_by"`
	Quipu   modelFacts `json:"quipu"`
}

// modelFacts is what quipu knows about a model beyond OpenAI's form.
type modelFacts struct {
	Kind         string `json:"kind"` // chat, embedding or reranking
	Architecture string `json:"architecture,omitempty"`
	Quantization string `json:"quantization,omitempty"`
	Parameters   uint64 `json:"parameters,omitzero"`
	Bytes        uint64 `json:"bytes,omitzero"`
	Context      int    `json:"context,omitzero"`    // tokens, prompt and answer together
	MaxInput     int    `json:"max_input,omitzero"`  // tokens of one text to embed, or of a query and a text
	Dimensions   int    `json:"dimensions,omitzero"` // of an embedding
	SHA256       string `json:"sha256,omitempty"`
}

func (a *API) chatModel(i engine.Info) model {
	facts := factsOf("chat", i)
	facts.MaxInput, facts.Dimensions = 0, 0
	return a.model(i, facts)
}

func (a *API) embeddingModel(i engine.Info) model {
	facts := factsOf("embedding", i)
	facts.Context = 0
	return a.model(i, facts)
}

func (a *API) rerankingModel(i engine.Info) model {
	facts := factsOf("reranking", i)
	facts.Context, facts.Dimensions = 0, 0
	return a.model(i, facts)
}

func factsOf(kind string, i engine.Info) modelFacts {
	return modelFacts{Kind: kind, Architecture: i.Architecture, Quantization: i.Quantization, Parameters: i.Parameters,
		Bytes: i.SizeBytes, Context: i.Context, MaxInput: i.MaxInput, Dimensions: i.Dimensions, SHA256: i.SHA256}
}

func (a *API) model(i engine.Info, facts modelFacts) model {
	return model{ID: i.Name, Object: "model", Created: a.started.Unix(), OwnedBy: "quipu", Quipu: facts}
}

func (a *API) listModels(c *gin.Context) {
	list := modelList{Object: "list"}
	for _, m := range a.models.Chats {
		list.Data = append(list.Data, a.chatModel(m.Generator.Info()))
	}
	for _, m := range a.models.Embedders {
		list.Data = append(list.Data, a.embeddingModel(m.Info()))
	}
	for _, m := range a.models.Rerankers {
		list.Data = append(list.Data, a.rerankingModel(m.Info()))
	}
	ok(c, list)
}

func (a *API) getModel(c *gin.Context) {
	id := strings.TrimPrefix(c.Param("id"), "/")
	if id == "" {
		a.listModels(c)
		return
	}
	if chat, err := a.models.Chat(id); err == nil {
		ok(c, a.chatModel(chat.Generator.Info()))
		return
	}
	if embedder, err := a.models.Embedder(id); err == nil {
		ok(c, a.embeddingModel(embedder.Info()))
		return
	}
	if reranker, err := a.models.Reranker(id); err == nil {
		ok(c, a.rerankingModel(reranker.Info()))
		return
	}
	Fail(c, a.models.Unknown(id))
}
