package openai

import (
	"strings"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/dispatch"
)

// completion is a whole answer.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"` // chat.completion
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
}

type choice struct {
	Index        int       `json:"index"`
	Message      reply     `json:"message"`
	Logprobs     *logprobs `json:"logprobs"`
	FinishReason string    `json:"finish_reason"`
	// DroppedTokens counts those of prompt and answer that the answer went on without.
	DroppedTokens int `json:"dropped_tokens,omitzero"`
}

// reply is the assistant's message. Content is null when there are only tool calls.
type reply struct {
	Role             string         `json:"role"`
	Content          *string        `json:"content"`
	Refusal          *string        `json:"refusal"`
	ReasoningContent string         `json:"reasoning_content,omitempty"`
	ToolCalls        []toolCall     `json:"tool_calls,omitempty"`
	Quipu            *answer.Answer `json:"quipu,omitzero"`
}

// chunk is one event of a streamed answer.
type chunk struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"` // chat.completion.chunk
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []deltaChoice `json:"choices"`
	Usage   *usage        `json:"usage,omitzero"` // only in the last chunk, when asked for
}

type deltaChoice struct {
	Index        int       `json:"index"`
	Delta        delta     `json:"delta"`
	Logprobs     *logprobs `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
	// DroppedTokens is in the chunk that has the reason, as in choice.
	DroppedTokens int `json:"dropped_tokens,omitzero"`
}

type delta struct {
	Role             string          `json:"role,omitempty"`
	Content          *string         `json:"content,omitzero"`
	ReasoningContent string          `json:"reasoning_content,omitempty"`
	ToolCalls        []toolCallDelta `json:"tool_calls,omitempty"`
	Quipu            *answer.Answer  `json:"quipu,omitzero"`
}

// toolCallDelta is a piece of a call: the first of an index has id, type and name, the others arguments.
type toolCallDelta struct {
	Index    int           `json:"index"`
	ID       string        `json:"id,omitempty"`
	Type     string        `json:"type,omitempty"`
	Function functionDelta `json:"function"`
}

type functionDelta struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type usage struct {
	PromptTokens        int           `json:"prompt_tokens"`
	CompletionTokens    int           `json:"completion_tokens"`
	TotalTokens         int           `json:"total_tokens"`
	PromptTokensDetails promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

type logprobs struct {
	Content []tokenLogprob `json:"content"`
	Refusal *string        `json:"refusal"`
}

type tokenLogprob struct {
	topLogprob
	TopLogprobs []topLogprob `json:"top_logprobs"`
}

type topLogprob struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

func usageOf(u engine.Usage) usage {
	return usage{PromptTokens: u.PromptTokens, CompletionTokens: u.GeneratedTokens, TotalTokens: u.PromptTokens + u.GeneratedTokens,
		PromptTokensDetails: promptDetails{CachedTokens: u.CachedTokens}}
}

// finishOf gives OpenAI's word; an answer that ran out of time was cut like one that ran out of tokens.
func finishOf(f engine.FinishReason) string {
	if f == engine.FinishDeadline {
		f = engine.FinishLength
	}
	return string(f)
}

func logprobsOf(tokens []engine.TokenInfo) *logprobs {
	l := &logprobs{Content: make([]tokenLogprob, len(tokens))}
	for i, t := range tokens {
		l.Content[i] = tokenLogprob{topLogprob: topLogprobOf(t), TopLogprobs: make([]topLogprob, len(t.Top))}
		for j, alternative := range t.Top {
			l.Content[i].TopLogprobs[j] = topLogprobOf(alternative)
		}
	}
	return l
}

// topLogprobOf spells a token; Bytes is exact where Token, part of a character, can't be.
func topLogprobOf(t engine.TokenInfo) topLogprob {
	out := topLogprob{Token: strings.ToValidUTF8(string(t.Text), string(utf8.RuneError)), Logprob: t.Logprob, Bytes: make([]int, len(t.Text))}
	for i, b := range t.Text {
		out.Bytes[i] = int(b)
	}
	return out
}

// gathered is a reply put together from its events.
type gathered struct {
	text, reasoning strings.Builder
	calls           []toolCall
	tokens          []engine.TokenInfo
	end             dispatch.End
}

func (g *gathered) add(e dispatch.Event) {
	g.text.WriteString(e.Text)
	g.reasoning.WriteString(e.Reasoning)
	g.tokens = append(g.tokens, e.Tokens...)
	for _, t := range e.ToolCalls {
		for t.Index >= len(g.calls) {
			g.calls = append(g.calls, toolCall{Type: "function"})
		}
		call := &g.calls[t.Index]
		call.ID += t.ID
		call.Function.Name += t.Name
		call.Function.Arguments += t.Arguments
	}
	if e.End != nil {
		g.end = *e.End
	}
}

func (g *gathered) reply() reply {
	r := reply{Role: "assistant", ReasoningContent: g.reasoning.String(), ToolCalls: g.calls, Quipu: g.end.Answer}
	if text := g.text.String(); text != "" || len(g.calls) == 0 {
		r.Content = &text
	}
	return r
}
