package native_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

// A call's arguments come in pieces while they are generated, and make a whole that the tool's schema allows.
func TestToolCallsStream(t *testing.T) {
	b, err := native.Load(t.Context(), modelFile(t, coderModel), native.Options{Context: 1024, Cells: 1024, Running: 1})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(b, engine.Config{Queue: 1, Budget: 512}, engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// One call before shows so small a model what a call looks like.
	r := &engine.Request{MaxTokens: 120, Logprobs: -1, Chat: &engine.Chat{ToolChoice: "required", Messages: []engine.Message{
		{Role: "user", Content: "How is the weather in Rome?"},
		{Role: "assistant", ToolCalls: []engine.ToolCall{{ID: "1", Name: "weather", Arguments: `{"place":"Rome, Lazio, Italy","unit":"celsius"}`}}},
		{Role: "tool", ToolCallID: "1", Content: "sunny, 25"},
		{Role: "assistant", Content: "Sunny, 25 degrees."},
		{Role: "user", Content: "And in Oslo, Norway?"},
	}}}
	r.Chat.Tools = []engine.Tool{{Name: "weather", Description: "Tells the weather of a place.",
		Parameters: json.RawMessage(`{"type":"object","properties":{"place":{"type":"string"},"unit":{"enum":["celsius","fahrenheit"]}},"required":["place","unit"],"additionalProperties":false}`)}}
	begin, err := e.Tokenize(t.Context(), "<tool_call>")
	if err != nil || len(begin) != 1 {
		t.Fatalf("a call begins with the tokens %d, %v", begin, err)
	}
	r.Sampling.LogitBias = map[engine.Token]float32{begin[0]: 18} // it may talk before
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var call engine.ToolCall
	var content strings.Builder
	pieces := 0
	for !json.Valid([]byte(call.Arguments)) {
		event, err := s.Recv(t.Context())
		if err != nil {
			t.Fatalf("%v after %q, %+v", err, &content, call)
		}
		content.WriteString(event.Text)
		for _, c := range event.ToolCalls {
			call.ID += c.ID
			call.Name += c.Name
			call.Arguments += c.Arguments
			if c.Arguments != "" {
				pieces++
			}
		}
	}
	var arguments struct{ Place, Unit string }
	if err := json.Unmarshal([]byte(call.Arguments), &arguments); err != nil {
		t.Fatalf("%q: %v", call.Arguments, err)
	}
	if call.Name != "weather" || call.ID == "" || arguments.Place == "" || arguments.Unit != "celsius" && arguments.Unit != "fahrenheit" {
		t.Errorf("called %+v", call)
	}
	if t.Logf("%s in %d pieces", call.Arguments, pieces); pieces < 3 || strings.ContainsAny(content.String(), "<{") {
		t.Errorf("behind the content %q", &content)
	}
}
