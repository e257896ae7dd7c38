package answer

import (
	"context"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// Retriever finds passages. retrieval.Base implements it.
type Retriever interface {
	Search(ctx context.Context, q retrieval.Query) ([]retrieval.Hit, error)
}

// Generator is what an answer needs of a chat model. engine.Generator has it.
type Generator interface {
	Info() engine.Info
	Generate(ctx context.Context, r *engine.Request) (*engine.Stream, error)
	Score(ctx context.Context, asks []engine.ScoreAsk) ([]engine.Score, error)
	Render(ctx context.Context, r *engine.Request) (engine.Prompt, error)
	Tokenize(ctx context.Context, text string) ([]engine.Token, error)
}

// Embedder is what an answer needs of the embedding model. engine.Embedder has it.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Question asks for a grounded answer.
type Question struct {
	ID    string // of the request, for logs
	Key   string // who asks
	Store string // empty is retrieval.DefaultStore
	// Messages is the conversation; the last one is the user's question. System messages are kept in the prompt.
	Messages []engine.Message
	// TopK passages are packed at most; 0 is the default.
	TopK int
	// MaxTokens bounds the generated answer; 0 is the default.
	MaxTokens int
	Stop      []string
	Sampling  engine.Sampling
}

// Answer is a grounded answer. Its JSON form is a contract: `quipu ask --json` prints it, chat completions carry it.
type Answer struct {
	// Answer is the text, without citation marks.
	Answer string `json:"answer"`
	// Abstained says that the documents don't hold the answer, and that Answer says so.
	Abstained bool `json:"abstained"`
	// Citations are in the order of the sentences they stand behind.
	Citations []Citation `json:"citations"`
	// Unsupported are the sentences of Answer that no passage supports.
	Unsupported []Span  `json:"unsupported"`
	Timings     Timings `json:"timings"`

	// Model, Usage and Finish are for the servers' own wire forms.
	Model  string              `json:"-"`
	Usage  engine.Usage        `json:"-"`
	Finish engine.FinishReason `json:"-"`
	// Hits are the passages that were packed.
	Hits []retrieval.Hit `json:"-"`
}

// Citation ties a span of the answer to a place in a document. All offsets count Unicode code points.
type Citation struct {
	File    string   `json:"file"`
	Title   string   `json:"title,omitempty"`
	Passage string   `json:"passage"` // the passage's id
	Heading []string `json:"heading,omitempty"`
	// Quote is the sentence of the document that supports the answer, letter by letter; Start and End are where it stands
	// in the document's text.
	Quote string `json:"quote"`
	Start int    `json:"start"`
	End   int    `json:"end"`
	// AnswerStart and AnswerEnd are the supported span of Answer.
	AnswerStart int `json:"answer_start"`
	AnswerEnd   int `json:"answer_end"`
	// Support is how sure the check is, 0 to 1.
	Support float64 `json:"support"`
}

// Span is a part of the answer, in code points.
type Span struct {
	Text  string `json:"text"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}

// Timings says where the time went, in milliseconds.
type Timings struct {
	QueueMS      float64 `json:"queue_ms"`
	RetrieveMS   float64 `json:"retrieve_ms"`
	PrefillMS    float64 `json:"prefill_ms"`
	FirstTokenMS float64 `json:"first_token_ms"`
	DecodeMS     float64 `json:"decode_ms"`
	CheckMS      float64 `json:"check_ms"`
	TotalMS      float64 `json:"total_ms"`
}

// Event is one step of a streamed answer. Deltas are only sent once checked: nothing is taken back. The last event has
// Answer set.
type Event struct {
	Delta  string
	Answer *Answer
}
