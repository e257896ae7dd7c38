// Package chunk cuts structured text into passages.
//
// The cut follows the structure: first the sections that headings make, then blocks, then sentences, and only what is
// still too long is cut at words or characters. Sizes are tokens of the embedding model, counted over exactly what will
// be embedded: the path of headings, a continued table's header and the passage. Small neighbouring sections share a
// passage; table rows and, where they fit, code blocks stay whole; a heading stays with what follows it.
//
//	pieces, err := chunk.Split(text, embedder, chunk.Default())
//
// Split keeps no state; it is as safe for concurrent use as the counter it is given.
package chunk
