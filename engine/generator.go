package engine

import (
	"context"
	"time"
)

// Generator is a loaded model that generates. Safe for concurrent use.
type Generator interface {
	// Info describes the model; it never changes while the Generator lives.
	Info() Info
	// Generate queues a request. It returns at once: a refusal (ErrQueueFull, ErrContextOverflow, a bad grammar, a
	// template error) as error, everything later as events of the stream. The caller must read the stream to its end
	// or Close it. When ctx ends, the request is cancelled.
	Generate(ctx context.Context, r *Request) (*Stream, error)
	// Score gives the log-likelihood of each continuation after its prompt, computed in shared batches.
	Score(ctx context.Context, asks []ScoreAsk) ([]Score, error)
	// Render returns the prompt's tokens as Generate would feed them, so that a packer can measure before it asks.
	// Only Chat, Text and Tokens of the request are looked at.
	Render(ctx context.Context, r *Request) (Prompt, error)
	// Tokenize splits plain text (special tokens in it are text, nothing is added).
	Tokenize(ctx context.Context, text string) ([]Token, error)
}

// Embedder turns texts into unit-length vectors of Dimensions floats, one row per text. Safe for concurrent use.
type Embedder interface {
	// Info describes the model.
	Info() Info
	// Embed returns one unit-length row per text. A text of more than Info().MaxInput tokens is ErrInputTooLong: nothing
	// is cut silently.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// EmbedCounted is Embed that also gives how many tokens it read. With truncate a text that is too long is no error: what
	// is beyond Info().MaxInput is left out.
	EmbedCounted(ctx context.Context, texts []string, truncate bool) (rows [][]float32, read int, err error)
	// CountTokens gives the number of tokens of each text as Embed would feed it, special tokens included.
	CountTokens(texts []string) ([]int, error)
}

// Reranker reads a query and a text together and says how well the text answers. Safe for concurrent use.
type Reranker interface {
	// Info describes the model. Its MaxInput counts the tokens of query and text together.
	Info() Info
	// Rerank returns one score per text, in log-odds: higher is better, and models differ in what they call 0. It also gives
	// how many tokens it read. A pair of more than Info().MaxInput tokens is ErrInputTooLong; with truncate the end of the
	// text is left out instead. The query is never cut.
	Rerank(ctx context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error)
}

// Info describes a loaded model.
type Info struct {
	Name         string // the name it is served under
	File         string // the base name of its file
	Architecture string // llama, qwen2, bert …
	Quantization string // Q4_1, F16 …
	Parameters   uint64
	SizeBytes    uint64
	ContextTrain int    // tokens the model was trained for
	Context      int    // tokens one request may use, prompt and answer together
	MaxInput     int    // tokens that a text to embed, or a pair to score, may have; 0 for a chat model
	Dimensions   int    // of its embeddings
	SHA256       string // of the file, when known
	Fingerprint  string // tells apart whose computed KV differs; "" where that isn't known
}

// Prompt is a request's prompt in tokens, and where its documents are.
type Prompt struct {
	Tokens   []Token
	Passages []Range
}

// ScoreAsk asks how likely Continuation is after Prompt. Both are tokens.
type ScoreAsk struct {
	Key          string // as in Request
	Adapter      string // as in Request
	Prompt       []Token
	Passages     []Range // of the prompt, as Render found them
	Continuation []Token
}

// Score is the answer to a ScoreAsk: natural-log probabilities, one per continuation token.
type Score struct {
	Logprobs []float32
}

// Sum is the log-likelihood of the whole continuation in nats.
func (s Score) Sum() float64 {
	var sum float64
	for _, l := range s.Logprobs {
		sum += float64(l)
	}
	return sum
}

// Mean is the log-likelihood per token in nats; 0 for an empty continuation.
func (s Score) Mean() float64 {
	if len(s.Logprobs) == 0 {
		return 0
	}
	return s.Sum() / float64(len(s.Logprobs))
}

// Event is one step of a stream. Text never ends inside a UTF-8 character. Usage and Timings tell how things stand. The last
// event has Finish set; after it the stream is at its end.
type Event struct {
	// Text is the piece of content that became certain (what could still turn into a stop string is held back). For a
	// chat it is the answer's content after the template's parser took reasoning and tool calls out.
	Text      string
	Reasoning string
	ToolCalls []ToolCall
	// Tokens are the tokens sampled since the last event; with Logprobs their probabilities too.
	Tokens  []TokenInfo
	Finish  FinishReason
	Usage   Usage
	Timings Timings
	Seed    uint32
}

// TokenInfo is one sampled token.
type TokenInfo struct {
	ID      Token
	Text    []byte // the token's bytes; may be part of a character
	Logprob float32
	Top     []TokenInfo // most likely first
}

// FinishReason says why a stream ended well. Empty while it goes on.
type FinishReason string

// The finish reasons, in OpenAI's words.
const (
	FinishStop      FinishReason = "stop"       // the model's end, or a stop string
	FinishLength    FinishReason = "length"     // MaxTokens is used up, or, without Shift, the context
	FinishToolCalls FinishReason = "tool_calls" // the model called tools
	FinishDeadline  FinishReason = "deadline"
)

// Usage counts tokens.
type Usage struct {
	PromptTokens    int
	CachedTokens    int // of PromptTokens, those whose computation was reused
	GeneratedTokens int
	DroppedTokens   int // of both, those that the answer went on without: see Request.Shift
}

// Timings says where a request's time went.
type Timings struct {
	Queue      time.Duration // from Generate to the first prompt token computed
	Prefill    time.Duration // from there to the first token
	FirstToken time.Duration // from Generate to the first token
	Decode     time.Duration // from the first token to the last
}
