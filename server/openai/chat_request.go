package openai

import (
	"encoding/json"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
)

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	Model         string         `json:"model"`
	Messages      []message      `json:"messages"`
	Documents     []document     `json:"documents"` // as vLLM's: passages to answer from
	Stream        bool           `json:"stream"`
	StreamOptions *streamOptions `json:"stream_options"`

	MaxTokens           *int    `json:"max_tokens"` // the older name of the next
	MaxCompletionTokens *int    `json:"max_completion_tokens"`
	N                   *int    `json:"n"`
	Stop                oneMany `json:"stop"`
	IgnoreEOS           bool    `json:"ignore_eos"`    // as llama-server's
	ContextShift        bool    `json:"context_shift"` // llama-server has it as an option of the server
	NKeep               *int    `json:"n_keep"`        // as llama-server's

	sampling
	Logprobs    bool `json:"logprobs"`
	TopLogprobs *int `json:"top_logprobs"`

	ResponseFormat     *responseFormat           `json:"response_format"`
	Tools              []tool                    `json:"tools"`
	ToolChoice         toolChoice                `json:"tool_choice"`
	ParallelToolCalls  *bool                     `json:"parallel_tool_calls"`
	ReasoningEffort    string                    `json:"reasoning_effort"`
	ChatTemplateKwargs map[string]jsontext.Value `json:"chat_template_kwargs"` // as llama-server's
	Modalities         []string                  `json:"modalities"`

	Quipu *quipuOptions `json:"quipu"`

	// Without effect here: see the package's comment.
	User                 jsontext.Value `json:"user"`
	SafetyIdentifier     jsontext.Value `json:"safety_identifier"`
	Metadata             jsontext.Value `json:"metadata"`
	Store                jsontext.Value `json:"store"`
	ServiceTier          jsontext.Value `json:"service_tier"`
	PromptCacheKey       jsontext.Value `json:"prompt_cache_key"`
	PromptCacheRetention jsontext.Value `json:"prompt_cache_retention"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
	// IncludeObfuscation pads chunks against listeners; false asks for what happens anyway.
	IncludeObfuscation bool `json:"include_obfuscation"`
}

// document is a passage that the client brings itself.
type document struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// quipuOptions selects the documents, or switches them off.
type quipuOptions struct {
	Store    string `json:"store"`
	Grounded *bool  `json:"grounded"`
	TopK     *int   `json:"top_k"` // passages
}

// Bounds of what one request may ask for.
const (
	maxAnswers     = 16
	maxStops       = 16
	maxTopLogprobs = 20
	maxPassages    = 200
)

// ask maps the request to what is dispatched. Its errors are faults that name the field.
func (r *chatRequest) ask() (*dispatch.Ask, error) {
	c := &checker{}
	a := &dispatch.Ask{Model: r.Model, AnyTemperature: r.Temperature == nil}
	a.Request = engine.Request{
		Chat:      &engine.Chat{Messages: messages(c, r.Messages)},
		MaxTokens: r.maxTokens(c),
		Stop:      r.stops(c),
		IgnoreEOS: r.IgnoreEOS,
		Shift:     r.ContextShift,
		Keep:      r.keep(c),
		Sampling:  r.settings(c),
		Logprobs:  r.logprobs(c),
	}
	r.documents(c, a.Request.Chat)
	r.tools(c, a.Request.Chat)
	r.thinking(c, a.Request.Chat)
	a.Request.JSONSchema = r.ResponseFormat.schema(c)
	if q := r.Quipu; q != nil {
		a.Store, a.Grounded = q.Store, q.Grounded
		a.TopK = between(c, "quipu.top_k", q.TopK, 1, maxPassages, 0)
	}
	a.Plain = r.plain()
	between(c, "n", r.N, 1, maxAnswers, 1)
	for i, m := range r.Modalities {
		if m != "text" {
			c.fail(fault.Unsupported, index("modalities", i), "only text is supported")
		}
	}
	switch o := r.StreamOptions; {
	case o == nil:
	case !r.Stream:
		c.fail(fault.InvalidValue, "stream_options", "only allowed when stream is true")
	case o.IncludeObfuscation:
		c.fail(fault.Unsupported, "stream_options.include_obfuscation", "not supported: leave it out")
	}
	return a, c.err
}

func (r *chatRequest) documents(c *checker, chat *engine.Chat) {
	if len(r.Documents) > maxPassages {
		c.fail(fault.InvalidValue, "documents", "at most %d", maxPassages)
		return
	}
	for i, d := range r.Documents {
		if d.Text == "" {
			c.fail(fault.InvalidValue, index("documents", i)+".text", "is empty")
		}
		chat.Documents = append(chat.Documents, engine.Document(d))
	}
}

// plain names the first field that an answer from the documents can't honour.
func (r *chatRequest) plain() string {
	switch {
	case len(r.Documents) > 0:
		return "documents"
	case len(r.Tools) > 0:
		return "tools"
	case r.ResponseFormat != nil && r.ResponseFormat.Type != "text":
		return "response_format"
	case r.Logprobs:
		return "logprobs"
	case r.answers() > 1:
		return "n"
	case len(r.Messages) > 0 && r.Messages[len(r.Messages)-1].Role != "user":
		return index("messages", len(r.Messages)-1)
	default:
		return ""
	}
}

// answers is how many are asked for.
func (r *chatRequest) answers() int {
	if r.N == nil {
		return 1
	}
	return *r.N
}

func (r *chatRequest) maxTokens(c *checker) int {
	older := between(c, "max_tokens", r.MaxTokens, 1, 1<<30, 0)
	newer := between(c, "max_completion_tokens", r.MaxCompletionTokens, 1, 1<<30, 0)
	if older != 0 && newer != 0 && older != newer {
		c.fail(fault.InvalidValue, "max_tokens", "differs from max_completion_tokens, which replaces it")
	}
	return max(older, newer)
}

func (r *chatRequest) keep(c *checker) int {
	keep := between(c, "n_keep", r.NKeep, engine.KeepPrompt, 1<<30, engine.KeepSystem)
	if keep != engine.KeepSystem && !r.ContextShift {
		c.fail(fault.InvalidValue, "n_keep", "only allowed when context_shift is true")
	}
	return keep
}

func (r *chatRequest) stops(c *checker) []string {
	if len(r.Stop) > maxStops {
		c.fail(fault.InvalidValue, "stop", "at most %d strings", maxStops)
	}
	for i, s := range r.Stop {
		if s == "" {
			c.fail(fault.InvalidValue, index("stop", i), "an empty string would stop everything")
		}
	}
	return r.Stop
}

func (r *chatRequest) logprobs(c *checker) int {
	n := between(c, "top_logprobs", r.TopLogprobs, 0, maxTopLogprobs, 0)
	if r.Logprobs {
		return n
	}
	if n > 0 {
		c.fail(fault.InvalidValue, "top_logprobs", "only allowed when logprobs is true")
	}
	return -1
}

func clipped(s string) string { return s[:min(len(s), 32)] }

// thinking maps what concerns a reasoning model's template.
func (r *chatRequest) thinking(c *checker, chat *engine.Chat) {
	args := make(map[string]json.RawMessage, len(r.ChatTemplateKwargs)+1)
	switch r.ReasoningEffort {
	case "":
	case "none":
		off := false
		chat.Thinking = &off
	case "minimal", "low", "medium", "high", "xhigh":
		args["reasoning_effort"] = json.RawMessage(strconv.Quote(r.ReasoningEffort))
	default:
		c.fail(fault.InvalidValue, "reasoning_effort", "use none, minimal, low, medium, high or xhigh")
	}
	for name, value := range r.ChatTemplateKwargs {
		if name != "enable_thinking" {
			args[name] = json.RawMessage(value)
			continue
		}
		on := value.Kind() == jsontext.KindTrue
		if !on && value.Kind() != jsontext.KindFalse {
			c.fail(fault.InvalidType, "chat_template_kwargs.enable_thinking", "expected true or false")
		}
		chat.Thinking = &on
	}
	if len(args) > 0 {
		chat.TemplateArgs = args
	}
}
