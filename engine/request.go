package engine

import (
	"encoding/json"
	"time"
)

// Token is an index into a model's vocabulary.
type Token = int32

// CommonPrefix counts the leading tokens that two lists share.
func CommonPrefix(a, b []Token) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Request asks for generation. Exactly one of Chat, Text and Tokens is set. The engine copies what it keeps: a caller
// may reuse a Request once Generate has returned.
type Request struct {
	// ID names the request in logs; the engine never interprets it.
	ID string
	// Adapter names the LoRA adapter that computes; "" is none.
	Adapter string
	// Key is who asks: requests of different keys share the engine fairly and never share cached computation's timing.
	Key string

	Chat   *Chat   // a conversation, rendered by the model's chat template
	Text   string  // plain text; special tokens in it are text, BOS is added where the model wants it
	Tokens []Token // tokens, used as they are
	// Generated are tokens that an earlier run of the same request generated: they are fed after the prompt and taken into
	// sampler, stop strings and parser without being delivered again. They count for MaxTokens and Usage.
	Generated []Token

	// MaxTokens bounds the generated tokens; 0 means until the model stops or the context is full.
	MaxTokens int
	// Shift goes on when the context is full, instead of ending with FinishLength. Then, and each time that it is full again, the
	// first Keep tokens of prompt and answer together stay, the older half of the others is dropped, which Usage counts, and the
	// model goes on behind the rest as if it followed. It needs MaxTokens, at most 131072, and a model whose KV can be moved to
	// other positions. The prompt itself must fit the context as always.
	Shift bool
	// Keep is how many tokens stay when Shift drops others: KeepSystem, KeepPrompt or a number, at most 8 less than the
	// context. If a document of a Chat would be cut, only what stands before it stays. The very first token always stays.
	Keep int
	// Stop ends generation before any of these strings; they are not part of the output.
	Stop []string
	// IgnoreEOS goes on past the model's end-of-generation tokens until MaxTokens.
	IgnoreEOS bool
	Sampling  Sampling
	// Grammar is a GBNF grammar that the output obeys; JSONSchema is a schema instead. At most one is set.
	Grammar    string
	JSONSchema json.RawMessage
	// Logprobs asks for the log-probability of each generated token and that many alternatives (0 to 20); -1 is none.
	Logprobs int
	// Deadline ends the request with FinishDeadline; zero means none.
	Deadline time.Time
}

// What Request.Keep says beside numbers.
const (
	KeepSystem = 0  // a chat up to where its first message that is not the system's begins to speak; at least 4 tokens of any prompt
	KeepPrompt = -1 // the whole prompt
)

// Chat is a conversation for the model's chat template, in OpenAI's terms.
type Chat struct {
	Messages []Message
	// Documents are passages to answer from. They stand at the end of the system message, in this order.
	Documents []Document
	Tools     []Tool
	// ToolChoice is "", "auto", "none" or "required".
	ToolChoice string
	// ParallelToolCalls lets one answer hold several tool calls.
	ParallelToolCalls bool
	// Thinking switches a reasoning model's thinking on or off; nil leaves the template's default.
	Thinking *bool
	// TemplateArgs are passed to the template as variables, as in llama-server's chat_template_kwargs.
	TemplateArgs map[string]json.RawMessage
}

// Document is a passage of a Chat.
type Document struct {
	Title string
	Text  string
}

// DocumentsIntroduction is the system message of a chat that has documents and none of its own.
const DocumentsIntroduction = "Answer from these documents."

// String is the document as it stands in a prompt.
func (d Document) String() string {
	if d.Title == "" {
		return d.Text + "\n\n"
	}
	return "# " + d.Title + "\n" + d.Text + "\n\n"
}

// Message is one turn. Role is system, user, assistant or tool.
type Message struct {
	Role       string
	Content    string
	Reasoning  string
	ToolCalls  []ToolCall
	ToolCallID string
	Name       string
}

// Tool is a function that the model may call; Parameters is a JSON schema.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage
}

// ToolCall is a call that the model made. Arguments is JSON text, in a stream a piece of it.
type ToolCall struct {
	Index     int
	ID        string
	Name      string
	Arguments string
}
