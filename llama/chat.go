package llama

// #cgo CXXFLAGS: -DNDEBUG
//
// // NDEBUG as in the libraries: headers of common assert what templates may do.
// #include "common_shim.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Errors of chat templates and of what is generated with them.
var (
	// ErrTemplate: the chat template cannot be parsed, refused the conversation, or ran away.
	ErrTemplate = errors.New("chat template failed")
	// ErrChat: the conversation handed to a template is malformed.
	ErrChat = errors.New("invalid conversation")
	// ErrChatOutput: what was generated does not have the form that the template's parser expects.
	ErrChatOutput = errors.New("unexpected form of the answer")
)

const (
	maxTemplate  = 1 << 20  // bytes of a template's source
	maxChat      = 16 << 20 // bytes of a conversation as JSON
	maxJSONDepth = 64       // of tool parameters, arguments and template variables
)

// chatOwners counts the templates and parsers that were opened and not yet closed, as owners does for the rest.
var chatOwners struct{ template, parser atomic.Int64 }

// ChatTokens are what a template needs to know of the vocabulary.
type ChatTokens struct {
	BOS, EOS string // texts of the special tokens; empty where there are none
	// AddBOS and AddEOS say that tokenizing adds them: then a prompt that starts or ends with one loses it, so that it is
	// not there twice.
	AddBOS, AddEOS bool
}

// ChatTemplate is a parsed Jinja chat template. It is safe for concurrent use; its owner closes it. Closing does not
// wait for the prompts and parsers made with it, they need it no more.
type ChatTemplate struct {
	mu       sync.RWMutex // held for reading while ptr is used
	ptr      *C.chat_template
	source   string
	explicit bool
	caps     ChatCaps
}

// ChatCaps says what a template renders.
type ChatCaps struct {
	SystemRole        bool
	Tools             bool // it lists tools
	ToolCalls         bool // it renders earlier calls
	ParallelToolCalls bool // … several in one message
	Thinking          bool // it has a reasoning section
	KeepsReasoning    bool // it renders the reasoning of earlier messages
	ReasoningEffort   bool // it reads the template argument reasoning_effort
	ObjectArguments   bool // it wants arguments of calls as objects: they must be valid JSON
}

// NewChatTemplate parses a template, for instance a model's tokenizer.chat_template. An empty source stands for ChatML,
// which suits most models that come without one; Explicit tells.
//
// Templates are programs. Loops, recursion and growth are bounded, but a hostile template can still exhaust memory:
// those from untrusted files belong in a process of their own.
func NewChatTemplate(source string, tokens ChatTokens) (*ChatTemplate, error) {
	const op = "chat template"
	if len(source) > maxTemplate {
		return nil, fail(op, ErrTemplate, "it has %d bytes; at most %d", len(source), maxTemplate)
	}
	for _, s := range []string{source, tokens.BOS, tokens.EOS} {
		if !utf8.ValidString(s) {
			return nil, fail(op, ErrTemplate, "it is not valid UTF-8")
		}
	}
	if err := ready(); err != nil { // also for its assertions
		return nil, err
	}
	request, err := json.Marshal(map[string]any{
		"source": source, "bos": tokens.BOS, "eos": tokens.EOS, "add_bos": tokens.AddBOS, "add_eos": tokens.AddEOS,
	})
	if err != nil {
		return nil, fail(op, ErrTemplate, "%v", err)
	}
	t := &ChatTemplate{explicit: source != "" && source != "chatml"}
	var answer C.chat_text
	code := C.chat_template_new(bytesPtr(request), C.size_t(len(request)), &t.ptr, &answer)
	text, err := chatAnswer(op, ErrTemplate, code, answer)
	if err != nil {
		return nil, err
	}
	chatOwners.template.Add(1)
	var result struct {
		Source   string
		Caps     map[string]bool
		Thinking bool
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, errors.Join(fail(op, ErrTemplate, "%v", err), t.Close())
	}
	t.source = result.Source
	t.caps = ChatCaps{
		SystemRole:        result.Caps["supports_system_role"],
		Tools:             result.Caps["supports_tools"],
		ToolCalls:         result.Caps["supports_tool_calls"],
		ParallelToolCalls: result.Caps["supports_parallel_tool_calls"],
		Thinking:          result.Thinking,
		KeepsReasoning:    result.Caps["supports_preserve_reasoning"],
		ReasoningEffort:   result.Caps["supports_reasoning_effort"],
		ObjectArguments:   result.Caps["supports_object_arguments"],
	}
	return t, nil
}

// Source is the template as it is used; llama.cpp repairs a few known ones.
func (t *ChatTemplate) Source() string { return t.source }

// Explicit tells whether a template was given; otherwise this is ChatML by default.
func (t *ChatTemplate) Explicit() bool { return t.explicit }

// Caps says what the template renders.
func (t *ChatTemplate) Caps() ChatCaps { return t.caps }

// Close frees the template. It waits for calls of Apply under way, and may be called again.
func (t *ChatTemplate) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ptr != nil {
		C.chat_template_free(t.ptr)
		t.ptr = nil
		chatOwners.template.Add(-1)
	}
	return nil
}

// ChatInput is a conversation to be rendered. Texts must be valid UTF-8.
type ChatInput struct {
	Messages []ChatMessage
	Tools    []ChatTool
	// ToolChoice is "auto" (or empty), "none" or "required".
	ToolChoice string
	// ParallelToolCalls lets one answer hold several calls.
	ParallelToolCalls bool
	// Thinking switches reasoning on or off in templates that can; nil is on.
	Thinking *bool
	// TemplateArgs are variables for the template, as JSON values.
	TemplateArgs map[string]json.RawMessage
	// Grammar (GBNF) or JSONSchema constrains the answer; at most one, and no grammar beside tools. What cannot be
	// enforced fully is refused, with ErrGrammar or ErrSchema.
	Grammar    string
	JSONSchema json.RawMessage
	// NoGenerationPrompt leaves out the opening of the assistant's turn.
	NoGenerationPrompt bool
	// ContinueFinal lets the model go on with the last message, which must be the assistant's and have no tool calls.
	ContinueFinal bool
	// Now is what the template may print as today; zero is the current time. The local time zone counts.
	Now time.Time
}

// ChatMessage is one turn. Role is system, developer, user, assistant or tool.
type ChatMessage struct {
	Role       string         `json:"role"`
	Content    string         `json:"content"`
	Reasoning  string         `json:"reasoning,omitempty"`
	ToolCalls  []ChatToolCall `json:"tool_calls,omitempty"`
	ToolCallID string         `json:"tool_call_id,omitempty"`
	Name       string         `json:"name,omitempty"`
}

// ChatToolCall is a call; Arguments is JSON text.
type ChatToolCall struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// ChatTool is a function that may be called. Parameters is a JSON schema; empty stands for an object without any.
// It guides generation as far as llama.cpp can and is not held to be enforced.
type ChatTool struct {
	Name        string
	Description string
	Parameters  json.RawMessage
}

// ChatPrompt is a rendered conversation with what generation needs to know.
type ChatPrompt struct {
	// Text is the prompt, the special tokens in it as text.
	Text string
	// Grammar is GBNF that the answer must obey, or empty. GrammarPrefill is what it expects before the answer: the end
	// of Text, whose tokens it must accept first. A lazy grammar only counts once one of Triggers was generated.
	Grammar        string
	GrammarPrefill string
	GrammarLazy    bool
	Triggers       []GrammarTrigger
	// PreservedTokens are texts of special tokens that the parser must see in the output.
	PreservedTokens []string
	// Stops are further strings that end the answer.
	Stops []string
	// GenerationPrompt is the end of Text that already belongs to the assistant's turn.
	GenerationPrompt string
	// Format is llama.cpp's name for the form of the answer.
	Format string
	// Thinking tells whether the template has a reasoning section; it stands between ThinkingStart and one of
	// ThinkingEnds, which may be empty.
	Thinking      bool
	ThinkingStart string
	ThinkingEnds  []string

	parser json.RawMessage
}

// TriggerKind says how a GrammarTrigger matches.
type TriggerKind string

// The kinds of triggers.
const (
	TriggerToken       TriggerKind = "token"        // the token was generated
	TriggerWord        TriggerKind = "word"         // the text was generated
	TriggerPattern     TriggerKind = "pattern"      // the regular expression matches somewhere in what was generated
	TriggerPatternFull TriggerKind = "pattern_full" // … matches all of it
)

// GrammarTrigger starts a lazy grammar.
type GrammarTrigger struct {
	Kind  TriggerKind
	Value string // the text or the regular expression
	Token int32  // for TriggerToken
}

// Pattern is the trigger as a regular expression; none for TriggerToken.
func (t GrammarTrigger) Pattern() string {
	switch t.Kind {
	case TriggerWord:
		return regexp.QuoteMeta(t.Value)
	case TriggerPatternFull:
		return "^" + strings.TrimSuffix(strings.TrimPrefix(t.Value, "^"), "$") + "$"
	case TriggerPattern:
		return t.Value
	}
	return ""
}

// Apply renders a conversation. It fails with ErrChat when the conversation is malformed, ErrSchema or ErrGrammar when
// its constraints are, and ErrTemplate when the template refuses it.
func (t *ChatTemplate) Apply(in ChatInput) (*ChatPrompt, error) {
	const op = "apply chat template"
	request, err := in.encode()
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.ptr == nil {
		return nil, fail(op, ErrClosed, "the template")
	}
	var answer C.chat_text
	code := C.chat_template_apply(t.ptr, bytesPtr(request), C.size_t(len(request)), &answer)
	text, err := chatAnswer(op, ErrTemplate, code, answer)
	if err != nil {
		return nil, err
	}
	var result struct {
		Prompt           string
		Grammar          string
		GrammarLazy      bool `json:"grammar_lazy"`
		Triggers         []GrammarTrigger
		PreservedTokens  []string `json:"preserved_tokens"`
		Stops            []string
		GenerationPrompt string `json:"generation_prompt"`
		Format           string
		SupportsThinking bool     `json:"supports_thinking"`
		ThinkingStart    string   `json:"thinking_start"`
		ThinkingEnds     []string `json:"thinking_ends"`
		Parser           json.RawMessage
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, fail(op, ErrTemplate, "%v", err)
	}
	p := &ChatPrompt{
		Text: result.Prompt, Grammar: result.Grammar, GrammarLazy: result.GrammarLazy, Triggers: result.Triggers,
		PreservedTokens: result.PreservedTokens, Stops: result.Stops, GenerationPrompt: result.GenerationPrompt,
		Format: result.Format, Thinking: result.SupportsThinking, ThinkingStart: result.ThinkingStart,
		ThinkingEnds: result.ThinkingEnds, parser: result.Parser,
	}
	switch {
	case p.Grammar != "":
		if err := ValidateGrammar(p.Grammar); err != nil {
			return nil, fail(op, ErrSchema, "the grammar for the tools or the schema: %v", err)
		}
		if !p.GrammarLazy {
			p.GrammarPrefill = p.GenerationPrompt
		}
	case in.Grammar != "":
		p.Grammar = in.Grammar
	}
	return p, nil
}

// chatAnswer takes over what the shim answered.
func chatAnswer(op string, kind error, code C.int, answer C.chat_text) ([]byte, error) {
	defer C.chat_text_free(answer)
	text := C.GoBytes(unsafe.Pointer(answer.data), C.int(answer.len))
	switch code {
	case C.CHAT_OK:
		return text, nil
	case C.CHAT_NO_MEMORY:
		return nil, fail(op, ErrNoMemory, "in the chat library")
	}
	return nil, &Error{Op: op, Kind: kind, Msg: fmt.Sprintf("%.2000s", text)}
}

func bytesPtr(b []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(b))) }
