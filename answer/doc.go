// Package answer gives grounded answers: retrieve, pack, generate, cite, check support, quote or abstain.
//
// A language model alone will answer anything. Here every sentence of its answer is held against the passages that were
// retrieved; a sentence that they support carries a citation computed by alignment, not by asking the model to cite; one
// that they don't is replaced by the passages' own best sentence, quoted, or the answer abstains. So the smallest model
// gives valid citations, and what no document says is not said.
package answer
