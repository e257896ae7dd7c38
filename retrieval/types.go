package retrieval

import (
	"context"
	"fmt"
	"iter"
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
	Settings  Settings
}

// Content is all that is stored of a document beside its row.
type Content struct {
	Text     Text
	Passages []Passage
	Vectors  [][]float32 // a row per passage
	Terms    [][]string  // by which each passage is found word by word, in order; see retrieval/lexical
	// Job, unless it is empty, notes in the same transaction that this job's document from Source is done.
	Job, Source string
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
	Attributes Attributes // what a Filter asks for; nil is none
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

// Hit is a passage with its score for a question, best first, and what the score is made of.
type Hit struct {
	Passage Passage
	// Score orders the hits: Fused where both arms searched, else the arm's own.
	Score float64
	// Dense is the cosine of question and passage, -1 to 1.
	Dense float64
	// Lexical is the BM25 score, 0 where no word of the question is in the passage.
	Lexical float64
	// Fused joins both; its scale depends on the Fusion.
	Fused float64
}

// Query is a question to one store.
type Query struct {
	Store  string // empty is DefaultStore
	Text   string
	TopK   int     // 1 to 200; 0 is 8
	Filter *Filter // nil is all documents
	Arms   Arms    // 0 is both
	Fusion *Fusion // nil is the store's
	// Diversity is how much a hit loses for being like a better one, 0 to 1 (maximal marginal relevance; Carbonell and Goldstein
	// 1998); 0 only leaves out what is the same or nearly so.
	Diversity float64
}

// Arms are the ways in which passages are found.
type Arms uint8

// The arms.
const (
	Dense   Arms = 1 << iota // by the meaning of the whole
	Lexical                  // by words
	Both    = Dense | Lexical
)

// Fusion says how scores of both arms become one.
type Fusion struct {
	Method FusionMethod `json:"method,omitempty"`
	// Weight is the share of the dense score in a convex combination, 0 to 1.
	Weight float64 `json:"weight,omitempty"`
}

// FusionMethod is a way of joining scores.
type FusionMethod string

// The methods.
const (
	// Convex adds both scores, each brought to 0..1 for this question by its least possible value and its best hit (Bruch, Gai
	// and Ingber 2023).
	Convex FusionMethod = "convex"
	// RRF adds 1/(60+rank) over the arms (Cormack, Clarke and Büttcher 2009).
	RRF FusionMethod = "rrf"
)

// DefaultFusion leans on meaning: of the weights tried on SciFact .8 ranks best (docs/retrieval.md).
func DefaultFusion() Fusion { return Fusion{Method: Convex, Weight: .8} }

// Validate names what is unknown or out of range.
func (f Fusion) Validate() error {
	switch {
	case f.Method != Convex && f.Method != RRF:
		return fmt.Errorf("%w: the fusion %.40q; use %s or %s", ErrQuery, f.Method, Convex, RRF)
	case !(f.Weight >= 0 && f.Weight <= 1):
		return fmt.Errorf("%w: the fusion's weight %g; use 0 to 1", ErrQuery, f.Weight)
	}
	return nil
}

// Match is a passage that an arm found.
type Match struct {
	Passage string // its id
	Score   float64
}

// Settings are a store's own: how its documents are read and searched. The zero value is the default.
type Settings struct {
	// Language of its documents: words are stemmed and stop words dropped by it. Empty is any language, without stemming.
	Language string `json:"language,omitempty"`
	// Fusion; nil is DefaultFusion.
	Fusion *Fusion `json:"fusion,omitempty"`
	// Passages say how its documents are cut; zero fields are the default's.
	Passages PassageSettings `json:"passages,omitzero"`
}

// PassageSettings say how documents are cut, in the embedding model's tokens; see retrieval/chunk.
type PassageSettings struct {
	Target  int `json:"target,omitempty"`
	Max     int `json:"max,omitempty"`
	Overlap int `json:"overlap,omitempty"`
	Small   int `json:"small,omitempty"`
}

// Ingestion says what is to be read into a store.
type Ingestion struct {
	Store      string                  // empty is DefaultStore; created if it is missing
	Paths      []string                // files and folders
	Texts      iter.Seq2[Named, error] // documents that were read elsewhere, after those of Paths; nil is none. An error ends the ingestion.
	Attributes Attributes              // of each document
}

// Named is a text with the name that its document is to have.
type Named struct {
	File string
	Text Text
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

// Progress is reported while an ingestion runs; one call at a time.
type Progress struct {
	File      string // that something is known of, one of several being worked on
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
