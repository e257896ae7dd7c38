package openai

import "reflect"

// Wire types whose fields the tests and docs/api.md must cover.
var (
	ChatRequest      = reflect.TypeFor[chatRequest]()
	EmbeddingRequest = reflect.TypeFor[embeddingRequest]()
	RerankRequest    = reflect.TypeFor[rerankRequest]()
)
