package llama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// chatRequest is what the shim reads.
type chatRequest struct {
	Messages            []ChatMessage     `json:"messages"`
	Tools               []chatRequestTool `json:"tools"`
	ToolChoice          string            `json:"tool_choice"`
	Parallel            bool              `json:"parallel"`
	Thinking            bool              `json:"thinking"`
	Kwargs              map[string]string `json:"kwargs"`
	Grammar             string            `json:"grammar,omitempty"`
	JSONSchema          string            `json:"json_schema,omitempty"`
	AddGenerationPrompt bool              `json:"add_generation_prompt"`
	Continue            bool              `json:"continue"`
	Now                 int64             `json:"now"`
}

type chatRequestTool struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Parameters  string `json:"parameters"`
}

// encode checks the conversation and writes it for the shim.
func (in *ChatInput) encode() ([]byte, error) {
	r := chatRequest{
		Messages: in.Messages, Tools: []chatRequestTool{}, ToolChoice: in.ToolChoice, Parallel: in.ParallelToolCalls,
		Thinking: in.Thinking == nil || *in.Thinking, Kwargs: map[string]string{}, Grammar: in.Grammar,
		AddGenerationPrompt: !in.NoGenerationPrompt && !in.ContinueFinal, Continue: in.ContinueFinal,
	}
	if err := in.checkMessages(); err != nil {
		return nil, err
	}
	switch in.ToolChoice {
	case "":
		r.ToolChoice = "auto"
	case "required":
		if len(in.Tools) == 0 {
			return nil, badChat("ToolChoice", "a call is required, but there are no tools")
		}
	case "auto", "none":
	default:
		return nil, badChat("ToolChoice", "must be auto, none or required, not %q", in.ToolChoice)
	}
	for i, tool := range in.Tools {
		field := fmt.Sprintf("Tools[%d]", i)
		if tool.Name == "" {
			return nil, badChat(field, "has no name")
		}
		params := tool.Parameters
		if len(bytes.TrimSpace(params)) == 0 {
			params = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		text, err := guidingSchema(params)
		if err != nil {
			return nil, fmt.Errorf("%s.Parameters: %w", field, err)
		}
		r.Tools = append(r.Tools, chatRequestTool{tool.Name, tool.Description, string(text)})
	}
	if err := in.encodeConstraint(&r); err != nil {
		return nil, err
	}
	now := in.Now
	if now.IsZero() {
		now = time.Now()
	}
	r.Now = now.Unix()
	// What common would set from its own clock.
	r.Kwargs["datetime"] = now.Local().Format(`"Jan 02 2006"`)
	r.Kwargs["date_string"] = now.Local().Format(`"02 Jan 2006"`)
	for name, value := range in.TemplateArgs {
		if err := checkJSON(value); err != nil {
			return nil, badChat("TemplateArgs."+name, "%v", err)
		}
		r.Kwargs[name] = string(value)
	}
	if err := in.checkTexts(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, badChat("conversation", "%v", err)
	}
	if len(text) > maxChat {
		return nil, badChat("conversation", "it has %d bytes; at most %d", len(text), maxChat)
	}
	return text, nil
}

func (in *ChatInput) encodeConstraint(r *chatRequest) error {
	hasSchema := len(bytes.TrimSpace(in.JSONSchema)) > 0
	switch {
	case in.Grammar != "" && hasSchema:
		return badChat("Grammar", "a grammar and a JSON schema exclude each other")
	case in.Grammar != "" && len(in.Tools) > 0 && in.ToolChoice != "none":
		return badChat("Grammar", "a grammar and tools exclude each other")
	case in.Grammar != "":
		return ValidateGrammar(in.Grammar)
	case hasSchema:
		schema, err := enforcedSchema(in.JSONSchema)
		if err != nil {
			return err
		}
		r.JSONSchema = string(schema)
	}
	return nil
}

func (in *ChatInput) checkMessages() error {
	if len(in.Messages) == 0 {
		return badChat("Messages", "there are none")
	}
	for i, m := range in.Messages {
		field := fmt.Sprintf("Messages[%d]", i)
		switch m.Role {
		case "system", "developer", "user", "assistant", "tool":
		default:
			return badChat(field+".Role", "must be system, developer, user, assistant or tool, not %q", m.Role)
		}
		if len(m.ToolCalls) > 0 && m.Role != "assistant" {
			return badChat(field+".ToolCalls", "only the assistant calls tools")
		}
		for j, call := range m.ToolCalls {
			at := fmt.Sprintf("%s.ToolCalls[%d]", field, j)
			if call.Name == "" {
				return badChat(at+".Name", "is empty")
			}
			if err := checkJSON([]byte(call.Arguments)); err != nil {
				return badChat(at+".Arguments", "%v", err)
			}
		}
	}
	if last := in.Messages[len(in.Messages)-1]; in.ContinueFinal && (last.Role != "assistant" || len(last.ToolCalls) > 0) {
		return badChat("ContinueFinal", "the last message must be the assistant's, without tool calls")
	}
	return nil
}

// checkTexts refuses what encoding/json would quietly repair.
func (in *ChatInput) checkTexts() error {
	check := func(field string, texts ...string) error {
		for _, s := range texts {
			if !utf8.ValidString(s) {
				return badChat(field, "it is not valid UTF-8")
			}
		}
		return nil
	}
	for i, m := range in.Messages {
		field := fmt.Sprintf("Messages[%d]", i)
		if err := check(field, m.Content, m.Reasoning, m.ToolCallID, m.Name); err != nil {
			return err
		}
		for _, c := range m.ToolCalls {
			if err := check(field+".ToolCalls", c.ID, c.Name, c.Arguments); err != nil {
				return err
			}
		}
	}
	for i, t := range in.Tools {
		if err := check(fmt.Sprintf("Tools[%d]", i), t.Name, t.Description); err != nil {
			return err
		}
	}
	for name := range in.TemplateArgs {
		if err := check("TemplateArgs", name); err != nil {
			return err
		}
	}
	return check("Grammar", in.Grammar)
}

func badChat(field, format string, args ...any) error {
	return fail("chat", ErrChat, "%s: %s", field, fmt.Sprintf(format, args...))
}

// checkJSON refuses text that is no JSON value, or one nested so deep that the C++ behind would overflow its stack.
func checkJSON(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("it is not valid UTF-8")
	}
	if !json.Valid(text) {
		return fmt.Errorf("it is not valid JSON")
	}
	if depth := nesting(text); depth > maxJSONDepth {
		return fmt.Errorf("it is nested %d deep; at most %d", depth, maxJSONDepth)
	}
	return nil
}

// nesting returns how deep valid JSON is nested.
func nesting(text []byte) int {
	depth, most := 0, 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			most = max(most, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return most
}
