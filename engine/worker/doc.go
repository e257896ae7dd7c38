// Package worker runs a model in a child process of the same binary. [Start] is the front's side: a [Worker] is an
// engine.Generator of a chat model, an engine.Embedder of an embedding model, or an engine.Reranker of a reranking model. [Serve] is the whole life of the child.
//
// llama.cpp ends its process on what it did not expect. Here that ends one worker: the front starts it again, and the
// requests that were in it go on from the tokens they had. A request that takes its workers along with it is failed.
//
// The two talk gRPC over a pair of connected sockets that the child inherits, so that there is no file that others could
// open or that stays behind. Messages are the engine's own types in CBOR: both ends are the same binary, so there are no
// versions to agree on, and no type to write down twice (docs/adr/0005-workers.md).
//
// # Goroutines and processes
//
// Of each Worker one goroutine supervises, locked to its thread: Linux ends the child when that thread ends. Each
// generation has one that passes events on. The child lives as long as its standard input is open, so none outlives its
// front, however that ended.
package worker
