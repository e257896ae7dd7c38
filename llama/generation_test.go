package llama

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a model says under a schema is valid under it.
func TestGenerateBySchema(t *testing.T) {
	m := loadModel(t, chatModel)
	grammar, err := SchemaToGrammar([]byte(`{"type":"object","properties":{
		"city":{"type":"string","minLength":1,"maxLength":8},"people":{"type":"integer","minimum":1000,"maximum":20000000},
		"languages":{"type":"array","items":{"enum":["French","German","Italian"]},"minItems":1,"maxItems":2},"capital":{"type":"boolean"}},
		"required":["city","people","languages","capital"],"additionalProperties":false}`))
	must(t, err)
	c := newTestContext(t, m)
	b := newTestBatch(t, 256, 1)
	s := newTestSampler(t, m, Grammar(grammar, "root"), TopK(40), Temp(1.5), Dist(7))
	prefill(t, c, b, tokenize(t, m, "<|im_start|>user\nDescribe Paris as JSON.<|im_end|>\n<|im_start|>assistant\n"), 0, 0)
	text := generate(t, c, b, s, 0, 100)
	var got struct {
		City      string
		People    int
		Languages []string
		Capital   *bool
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || got.City == "" || got.People < 1000 || got.People > 20000000 || len(got.Languages) < 1 || len(got.Languages) > 2 || got.Capital == nil {
		t.Errorf("%q is %+v, %v", text, got, err)
	}
}

// A conversation with tools: template, grammar, model and parser.
func TestGenerateToolCall(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(sharedModels(), "qwen2.5-coder-tools-fenced.jinja"))
	if err != nil {
		t.Skipf("the template that this model calls tools with is missing: %v", err)
	}
	m := loadModel(t, toolModel)
	v := m.Vocab()
	city := json.RawMessage(`{"type":"object","properties":{"city":{"enum":["Bern","Paris","Rome"]}},"required":["city"]}`)
	p := apply(t, newTemplate(t, string(source), ChatTokens{}), ChatInput{
		Messages: user("What is the weather in Paris?"), ToolChoice: "required",
		Tools: []ChatTool{{Name: "get_weather", Description: "The weather in a city.", Parameters: city}},
	})
	if p.Grammar == "" || p.GrammarLazy {
		t.Fatalf("a required call has the grammar %q, lazy %v", p.Grammar, p.GrammarLazy)
	}
	s := newTestSampler(t, m, Grammar(p.Grammar, "root"), Greedy())
	for _, tok := range tokenize(t, m, p.GrammarPrefill) {
		must(t, s.Accept(tok))
	}
	c := newTestContext(t, m, func(p *ContextParams) { p.ContextSize = 1024 })
	b := newTestBatch(t, 256, 1)
	prefill(t, c, b, tokenize(t, m, p.Text), 0, 0)
	parser := newParser(t, p)
	pieces := 0
	take := func(deltas []ChatDelta, err error) {
		t.Helper()
		must(t, err)
		pieces += len(deltas)
	}
	for n := 0; ; n++ {
		tok, err := s.Sample(c, -1)
		must(t, err)
		if v.IsEOG(tok) {
			break
		}
		if n == 100 {
			t.Fatalf("it does not end: %q", parser.Raw())
		}
		piece, err := v.Piece(tok, true)
		must(t, err)
		take(parser.Add(string(piece)))
		b.Clear()
		must(t, b.Add(tok, c.Memory().PosMax(0)+1, true, 0))
		must(t, c.Decode(t.Context(), b))
	}
	take(parser.Finish())
	got := parser.Message()
	var arguments struct{ City string }
	if len(got.ToolCalls) != 1 || got.ToolCalls[0].Name != "get_weather" || json.Unmarshal([]byte(got.ToolCalls[0].Arguments), &arguments) != nil || arguments.City != "Paris" {
		t.Errorf("%q is %+v", parser.Raw(), got)
	}
	if pieces < 2 {
		t.Errorf("the call came in %d pieces", pieces)
	}
}
