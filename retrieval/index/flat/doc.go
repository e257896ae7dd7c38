// Package flat is the index of large stores: it looks at every passage, in a byte a dimension, and at the best of them again
// in two.
//
// A vector is kept in 16-bit fixed point with a scale of its own, its high and its low bytes apart. A search runs over the high
// bytes alone, which are int8 vectors of the usual kind; the low bytes make the cosines of the best max(4k, 64) exact to a few
// millionths. Both are dot products of bytes, for which there are kernels of AVX-512 VNNI and of AVX2, chosen by what the
// processor has, and a portable one.
//
// Rows stand in segments, a document's rows side by side in one of them. What searches read is a snapshot that never changes:
// a Put writes rows behind those that any snapshot shows, copies what little else it changes, and publishes the next snapshot by
// one atomic store. So searches take no lock and wait for nobody, and one Put runs at a time. A row that is deleted stays where
// it is, marked dead, until half of its segment is; then the Put that made it so moves the other half on, at most 1,024 rows.
//
// A large search is shared among goroutines, as many as there are processors that no search has taken yet. All of them end
// before the search does.
//
// Memory of a passage: two bytes a dimension (rounded up to 64 dimensions), 4 bytes of scale, its id, and about 80 bytes a
// document; up to twice that where documents were deleted.
package flat
