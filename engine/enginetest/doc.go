// Package enginetest holds a deterministic engine.Backend for tests and the suites that every engine, embedding model and
// reranking model passes, whatever computes it.
//
// The fake computes nothing, but keeps its KV cache honestly: which sequence holds which cells, shared or not. Its next
// token depends on everything that a sequence holds, so an engine that mixes sequences up, leaves a gap or reuses a wrong
// prefix gives another text than Continue, which says what is right.
package enginetest
