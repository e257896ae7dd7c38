package openai

import (
	stdjson "encoding/json"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// tool is a function that the model may call.
type tool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string         `json:"name"`
		Description string         `json:"description"`
		Parameters  jsontext.Value `json:"parameters"`
		Strict      bool           `json:"strict"` // arguments always obey the schema
	} `json:"function"`
}

// toolCall is a call of the assistant's, in requests and in whole responses.
type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"` // JSON text
}

// toolChoice is a word, or names one function.
type toolChoice struct {
	word string
	name string
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *toolChoice) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case jsontext.KindString:
		return json.UnmarshalDecode(d, &t.word)
	case jsontext.KindNull:
		return d.SkipValue()
	case jsontext.KindBeginObject:
		var named struct {
			Type     string `json:"type"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		err := json.UnmarshalDecode(d, &named)
		t.word, t.name = named.Type, named.Function.Name
		if err == nil && t.word != "function" {
			return &json.SemanticError{Err: fault.Bad(fault.Unsupported, "tool_choice.type", "only function is supported")}
		}
		return err
	default:
		return strict.Reject(d, fault.InvalidType, "expected a string or an object")
	}
}

// tools maps the tools and the choice among them. A named function is the only tool left, and required.
func (r *chatRequest) tools(c *checker, chat *engine.Chat) {
	seen := make(map[string]bool, len(r.Tools))
	for i, t := range r.Tools {
		field := index("tools", i)
		switch {
		case t.Type == "":
			c.fail(fault.Missing, field+".type", "required")
		case t.Type != "function":
			c.fail(fault.Unsupported, field+".type", "only tools of type function are supported")
		case t.Function.Name == "" || len(t.Function.Name) > 64:
			c.fail(fault.InvalidValue, field+".function.name", "1 to 64 bytes")
		case seen[t.Function.Name]:
			c.fail(fault.InvalidValue, field+".function.name", "another tool has this name")
		case given(t.Function.Parameters) && t.Function.Parameters.Kind() != jsontext.KindBeginObject:
			c.fail(fault.InvalidType, field+".function.parameters", "expected a JSON schema, an object")
		}
		seen[t.Function.Name] = true
		if r.ToolChoice.name != "" && r.ToolChoice.name != t.Function.Name {
			continue
		}
		out := engine.Tool{Name: t.Function.Name, Description: t.Function.Description}
		if given(t.Function.Parameters) {
			out.Parameters = stdjson.RawMessage(t.Function.Parameters)
		}
		chat.Tools = append(chat.Tools, out)
	}
	switch choice := r.ToolChoice; choice.word {
	case "", "auto", "none":
		chat.ToolChoice = choice.word
	case "required":
		chat.ToolChoice = choice.word
		if len(r.Tools) == 0 {
			c.fail(fault.InvalidValue, "tool_choice", "there are no tools to choose from")
		}
	case "function":
		chat.ToolChoice = "required"
		if choice.name == "" || !seen[choice.name] {
			c.fail(fault.InvalidValue, "tool_choice.function.name", "there is no tool of this name")
		}
	default:
		c.fail(fault.InvalidValue, "tool_choice", "use none, auto, required, or name a function")
	}
	chat.ParallelToolCalls = len(r.Tools) > 0 && (r.ParallelToolCalls == nil || *r.ParallelToolCalls)
}

func calls(c *checker, field string, wire []toolCall) []engine.ToolCall {
	var out []engine.ToolCall
	for i, t := range wire {
		at := index(field+".tool_calls", i)
		if t.Type != "function" && t.Type != "" {
			c.fail(fault.Unsupported, at+".type", "only calls of type function are supported")
		}
		if t.Function.Name == "" {
			c.fail(fault.Missing, at+".function.name", "required")
		}
		out = append(out, engine.ToolCall{Index: i, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments})
	}
	return out
}

// responseFormat asks for a form of the answer; JSON schemas are always enforced by grammar.
type responseFormat struct {
	Type       string      `json:"type"`
	JSONSchema *jsonSchema `json:"json_schema"`
}

type jsonSchema struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Schema      jsontext.Value `json:"schema"`
	Strict      bool           `json:"strict"`
}

func (f *responseFormat) schema(c *checker) stdjson.RawMessage {
	if f == nil {
		return nil
	}
	switch f.Type {
	case "text":
	case "json_object":
		return stdjson.RawMessage(`{"type":"object"}`)
	case "json_schema":
		if f.JSONSchema != nil && f.JSONSchema.Schema.Kind() == jsontext.KindBeginObject {
			return stdjson.RawMessage(f.JSONSchema.Schema)
		}
		c.fail(fault.Missing, "response_format.json_schema.schema", "required, an object")
	case "":
		c.fail(fault.Missing, "response_format.type", "required")
	default:
		c.fail(fault.Unsupported, "response_format.type", "use text, json_object or json_schema")
	}
	return nil
}
