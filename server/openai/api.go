package openai

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// API serves the dialect. Safe for concurrent use.
type API struct {
	dispatcher *dispatch.Dispatcher
	models     dispatch.Models
	limits     strict.Limits
	heartbeat  time.Duration
	started    time.Time
}

// New wires an API. Heartbeat is the time after which a silent stream sends a comment.
func New(d *dispatch.Dispatcher, m dispatch.Models, l strict.Limits, heartbeat time.Duration) *API {
	return &API{dispatcher: d, models: m, limits: l, heartbeat: heartbeat, started: time.Now()}
}

// Routes adds the dialect's routes.
func (a *API) Routes(r gin.IRoutes) {
	r.POST("/v1/chat/completions", a.chatCompletions)
	r.POST("/v1/embeddings", a.embeddings)
	r.POST("/v1/rerank", a.rerank)
	r.GET("/v1/models", a.listModels)
	r.GET("/v1/models/*id", a.getModel) // a model's name may hold slashes
}

// encode is for what clients read: a model's bytes that are no UTF-8 become U+FFFD instead of failing the answer.
func encode(v any) ([]byte, error) {
	return json.Marshal(v, jsontext.AllowInvalidUTF8(true))
}

func respond(c *gin.Context, status int, v any) {
	data, err := encode(v)
	if err != nil {
		Fail(c, err)
		return
	}
	c.Data(status, "application/json", data)
	if c.Errors.Last() != nil { // of the writing
		_ = note(c, fault.ErrGone)
	}
}

func ok(c *gin.Context, v any) { respond(c, http.StatusOK, v) }
