package openai

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// message is one turn of the conversation, as clients send it. A message of an earlier response may be sent back as it came.
type message struct {
	Role             string     `json:"role"`
	Content          content    `json:"content"`
	Name             string     `json:"name"`
	Refusal          string     `json:"refusal"`
	ReasoningContent string     `json:"reasoning_content"`
	ToolCalls        []toolCall `json:"tool_calls"`
	ToolCallID       string     `json:"tool_call_id"`

	// Refused unless null.
	Audio        jsontext.Value `json:"audio"`
	FunctionCall jsontext.Value `json:"function_call"`
	// Without effect: what an earlier response carried.
	Annotations jsontext.Value `json:"annotations"`
	Quipu       jsontext.Value `json:"quipu"`
}

// content is a string, an array of parts, or null.
type content struct {
	given bool
	text  string
	parts []part
}

// part is a piece of content. Only text can be read.
type part struct {
	Type       string         `json:"type"`
	Text       string         `json:"text"`
	Refusal    string         `json:"refusal"`
	ImageURL   jsontext.Value `json:"image_url"`
	InputAudio jsontext.Value `json:"input_audio"`
	File       jsontext.Value `json:"file"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *content) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case jsontext.KindString:
		t.given = true
		return json.UnmarshalDecode(d, &t.text)
	case jsontext.KindBeginArray:
		t.given = true
		return json.UnmarshalDecode(d, &t.parts)
	case jsontext.KindNull:
		return d.SkipValue()
	default:
		return strict.Reject(d, fault.InvalidType, "expected a string or an array of parts")
	}
}

// messages maps the conversation; the developer's role is the system's.
func messages(c *checker, wire []message) []engine.Message {
	if len(wire) == 0 {
		c.fail(fault.Missing, "messages", "at least one message is needed")
	}
	out := make([]engine.Message, len(wire))
	asked := false
	for i := range wire {
		out[i] = wire[i].turn(c, index("messages", i))
		asked = asked || out[i].Role == "user"
	}
	if !asked {
		c.fail(fault.Missing, "messages", "at least one of them must have the role user")
	}
	return out
}

func (m *message) turn(c *checker, field string) engine.Message {
	out := engine.Message{Role: m.Role, Content: m.Content.join(c, field+".content"), Name: m.Name,
		Reasoning: m.ReasoningContent, ToolCallID: m.ToolCallID}
	if out.Content == "" {
		out.Content = m.Refusal
	}
	needsContent := !m.Content.given
	switch m.Role {
	case "system", "user":
	case "developer":
		out.Role = "system"
	case "assistant":
		needsContent = needsContent && len(m.ToolCalls) == 0 && m.Refusal == ""
		out.ToolCalls = calls(c, field, m.ToolCalls)
	case "tool":
		if m.ToolCallID == "" {
			c.fail(fault.Missing, field+".tool_call_id", "a tool's message names the call that it answers")
		}
	case "":
		c.fail(fault.Missing, field+".role", "required")
	default:
		c.fail(fault.InvalidValue, field+".role", "unknown role: use system, developer, user, assistant or tool")
	}
	if needsContent {
		c.fail(fault.Missing, field+".content", "required")
	}
	if m.Role != "assistant" && len(m.ToolCalls) > 0 {
		c.fail(fault.InvalidValue, field+".tool_calls", "only the assistant calls tools")
	}
	if m.Role != "tool" && m.ToolCallID != "" {
		c.fail(fault.InvalidValue, field+".tool_call_id", "only for messages of the role tool")
	}
	if given(m.Audio) {
		c.fail(fault.Unsupported, field+".audio", "only text is supported")
	}
	if given(m.FunctionCall) {
		c.fail(fault.Unsupported, field+".function_call", "deprecated: use tool_calls")
	}
	return out
}

func (t *content) join(c *checker, field string) string {
	if t.parts == nil {
		return t.text
	}
	if len(t.parts) == 0 {
		c.fail(fault.Missing, field, "an array of parts needs at least one")
	}
	texts := make([]string, len(t.parts))
	for i, p := range t.parts {
		switch p.Type {
		case "text":
			texts[i] = p.Text
		case "refusal":
			texts[i] = p.Refusal
		case "":
			c.fail(fault.Missing, index(field, i)+".type", "required")
		case "image_url", "input_audio", "file":
			c.fail(fault.Unsupported, index(field, i)+".type", "parts of type %s are not supported: the model reads text only", p.Type)
		default:
			c.fail(fault.Unsupported, index(field, i)+".type", "only parts of type text are supported")
		}
	}
	return strings.Join(texts, "\n")
}
