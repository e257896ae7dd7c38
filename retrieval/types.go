package retrieval

import (
	"context"
	"time"
)

// DefaultStore is the store that ingest and ask use when none is named.
const DefaultStore = "default"

// Embedder turns texts into unit-length vectors, one row per text, and measures texts in its own tokens. engine.Embedder
// implements it.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	CountTokens(texts []string) ([]int, error)
}

// EmbedderInfo says what a store's vectors were made with. Vectors of different models are never compared.
type EmbedderInfo struct {
	Name       string // of the model
	SHA256     string // of its file; empty when unknown
	Dimensions int
	MaxInput   int // tokens that one input may have
}

// Same reports whether vectors of both can be compared.
func (e EmbedderInfo) Same(o EmbedderInfo) bool {
	if e.Dimensions != o.Dimensions {
		return false
	}
	if e.SHA256 != "" && o.SHA256 != "" {
		return e.SHA256 == o.SHA256
	}
	return e.Name == o.Name
}

// Store is a named collection of documents, embedded by one model.
type Store struct {
	ID        int64 // never used again after the store was deleted
	Name      string
	Embedder  EmbedderInfo
	Documents int
	Passages  int
	Sequence  int64 // grows with every change of its documents
	CreatedAt time.Time
}

// Change says what a document's passages are now; none when it was deleted. Vectors has a row per passage.
type Change struct {
	DocumentID string
	Sequence   int64 // of the store, when it changed
	Passages   []string
	Vectors    [][]float32
}

// Document is one ingested file.
type Document struct {
	ID         string // stable for (store, file)
	Store      string
	File       string // as the user named it: relative to the folder that was ingested, with forward slashes
	Title      string
	MediaType  string
	SHA256     string // of the file's bytes
	Bytes      int64
	Recipe     string // how its text was read and cut: a document ingested by another recipe is ingested anew
	Passages   int
	IngestedAt time.Time
}

// Passage is a stored piece of a document's text, cut at its structure.
type Passage struct {
	ID         string // stable for (document, content, place)
	DocumentID string
	Store      string
	File       string
	Title      string   // of the document
	Headings   []string // the path of headings that the passage stands under, outermost first
	Lead       string   // what a reader needs before Text: the header row of the table that it continues; mostly empty
	Text       string   // as it stands in the document's text: Text == text[Start:End]
	Start, End int      // byte offsets in the document's extracted text
	Ordinal    int      // 0, 1, 2 … in the document
	Page       int      // that Text begins on, from 1: a page, slide or sheet of the file; 0 where there are none
	Tokens     int      // in the embedding model's tokens, as embedded (with its headings)
}

// Hit is a passage with its score for a question, best first.
type Hit struct {
	Passage Passage
	// Score orders the hits; with one arm it is that arm's score.
	Score float64
	// Dense is the cosine of question and passage, -1 to 1.
	Dense float64
}

// Query is a question to one store.
type Query struct {
	Store string // empty is DefaultStore
	Text  string
	TopK  int // 1 to 200; 0 is 8
}

// Status of one document in an ingestion.
type Status string

// What became of a document.
const (
	Added     Status = "added"
	Replaced  Status = "replaced"
	Unchanged Status = "unchanged"
	Failed    Status = "failed"
	Skipped   Status = "skipped" // on purpose: it is nothing to read
)

// DocumentResult says what became of one document.
type DocumentResult struct {
	File     string `json:"file"`
	Status   Status `json:"status"`
	Passages int    `json:"passages"`
	// Code and Reason are set when Status is Failed or Skipped: a stable word, one of the Code constants, and a sentence for people.
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Progress is reported while an ingestion runs; from one goroutine, never concurrently.
type Progress struct {
	File      string // being worked on
	Documents int    // done so far
	Total     int    // documents in all
	Passages  int    // embedded so far
	Last      *DocumentResult
}

// Report sums an ingestion up.
type Report struct {
	Store     string           `json:"store"`
	Documents []DocumentResult `json:"documents"`
	Added     int              `json:"added"`
	Replaced  int              `json:"replaced"`
	Unchanged int              `json:"unchanged"`
	Failed    int              `json:"failed"`
	Skipped   int              `json:"skipped"`
	Passages  int              `json:"passages"`
	Seconds   float64          `json:"seconds"`
}

// Add counts one more document.
func (r *Report) Add(d DocumentResult) {
	r.Documents = append(r.Documents, d)
	r.Passages += d.Passages
	switch d.Status {
	case Added:
		r.Added++
	case Replaced:
		r.Replaced++
	case Unchanged:
		r.Unchanged++
	case Failed:
		r.Failed++
	case Skipped:
		r.Skipped++
	}
}
