// Package index says what a vector index is. Implementations live beside it, one folder each, and pass indextest.
package index

import "context"

// Index finds the passages whose vectors are nearest to a question's. It is kept in memory and can be rebuilt from the
// record at any time. All methods are safe for concurrent use; a search sees each document as it was before or after a
// Put, never half of it.
type Index interface {
	// Put makes these a document's passages, in place of those it had; without passages it removes the document. Vectors
	// has a unit-length row per passage, which belongs to the index from then on.
	Put(ctx context.Context, document string, passages []string, vectors [][]float32) error
	// Search gives the k nearest passages or all there are, nearest first, and of equally near ones by id. With only, it
	// searches the passages of these documents, by their ids, and is as exact among them as among all: ids that are not there
	// count for nothing, an empty list finds nothing, nil is all documents.
	Search(ctx context.Context, vector []float32, k int, only []string) ([]Match, error)
	// Len is the number of passages.
	Len() int
}

// Match is a passage found.
type Match struct {
	Passage string  // its id
	Cosine  float64 // -1 to 1
}
