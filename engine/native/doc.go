// Package native runs models on this machine through llama.cpp: Load opens a chat model as an engine.Backend,
// LoadEmbedder an embedding model as an engine.Embedder, LoadReranker a reranking model as an engine.Reranker.
//
// What is loaded owns its model, context and samplers in C memory and frees them in Close; engine.New takes a Backend over
// and closes it.
package native
