// Package retrieval turns documents into passages and questions into hits.
//
// The vocabulary: a document is one file as the user gave it; load turns it into text with places (headings, offsets);
// chunk cuts it into passages measured in the embedding model's own tokens; store, the system of record, makes a
// document with its passages and vectors visible in one transaction; index answers nearest-neighbour queries and is
// rebuilt from the record; base joins them: it holds the named stores of one data folder, and a search gives hits,
// scored passages. This package holds the types that they share, and imports none of them.
package retrieval
