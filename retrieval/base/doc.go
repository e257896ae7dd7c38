// Package base is the knowledge base: the named stores of one data folder, joining load, chunk, store and index.
//
// The record on disk is the truth; each store's vector index is built from it when the store is first searched, and brought
// up to date before every search from the record's changes, so that documents ingested by another process are found too. A
// Base is safe for concurrent use, also beside other processes on the same folder; its owner closes it.
package base
