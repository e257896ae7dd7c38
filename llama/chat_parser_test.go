package llama

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func newParser(tb testing.TB, p *ChatPrompt) *ChatParser {
	tb.Helper()
	c, err := p.NewParser()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// answer parses a text in pieces of n bytes, and checks that the deltas add up to the message.
func answer(tb testing.TB, p *ChatPrompt, text string, n int) ChatMessage {
	tb.Helper()
	c, err := p.NewParser()
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	var pieces []string
	for len(text) > 0 {
		k := min(n, len(text))
		pieces, text = append(pieces, text[:k]), text[k:]
	}
	return feed(tb, c, pieces)
}

func feed(tb testing.TB, c *ChatParser, pieces []string) ChatMessage {
	tb.Helper()
	sum := ChatMessage{Role: "assistant"}
	take := func(deltas []ChatDelta, err error) {
		tb.Helper()
		if err != nil {
			tb.Fatalf("%v after %q", err, c.Raw())
		}
		for _, d := range deltas {
			sum.Content += d.Content
			sum.Reasoning += d.Reasoning
			if call := d.ToolCall; call != nil {
				if call.Name != "" {
					if call.Index != len(sum.ToolCalls) || call.ID == "" {
						tb.Fatalf("a call begins with %+v after %+v", call, sum.ToolCalls)
					}
					sum.ToolCalls = append(sum.ToolCalls, ChatToolCall{ID: call.ID, Name: call.Name})
				}
				sum.ToolCalls[call.Index].Arguments += call.Arguments
			}
		}
	}
	for _, piece := range pieces {
		take(c.Add(piece))
	}
	take(c.Finish())
	if m := c.Message(); !reflect.DeepEqual(m, sum) {
		tb.Fatalf("the deltas add up to %+v, the message is %+v", sum, m)
	}
	return sum
}

// withoutIDs forgets ids that were drawn.
func withoutIDs(m ChatMessage) ChatMessage {
	for i := range m.ToolCalls {
		m.ToolCalls[i].ID = ""
	}
	return m
}

// However an answer arrives, it comes to the same.
func TestChatParser(t *testing.T) {
	two := []ChatTool{weather, search}
	zurich := ChatToolCall{Name: "get_weather", Arguments: `{"city": "Zürich \"\ud83d\ude00\"", "days": 2}`}
	cats := ChatToolCall{Name: "search", Arguments: `{"query": "cats"}`}
	off := false
	for _, test := range []struct {
		name, template string
		in             ChatInput
		text           string
		want           ChatMessage
	}{
		{"plain", "hermes", ChatInput{}, "Grüezi \U0001F600 <tool", ChatMessage{Content: "Grüezi \U0001F600 <tool"}},
		{"empty", "hermes", ChatInput{}, "", ChatMessage{}},
		{"tools unused", "hermes", ChatInput{Tools: two}, "I know: <b>42</b> é", ChatMessage{Content: "I know: <b>42</b> é"}},
		{"call", "hermes", ChatInput{Tools: two}, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " + zurich.Arguments + "}\n</tool_call>", ChatMessage{ToolCalls: []ChatToolCall{zurich}}},
		{"words and a call", "hermes", ChatInput{Tools: two}, "Let me see.\n<tool_call>\n{\"name\": \"search\", \"arguments\": " + cats.Arguments + "}\n</tool_call>", ChatMessage{Content: "Let me see.\n", ToolCalls: []ChatToolCall{cats}}},
		{"two calls", "hermes", ChatInput{Tools: two, ParallelToolCalls: true}, "<tool_call>\n{\"name\": \"search\", \"arguments\": " + cats.Arguments + "}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " + zurich.Arguments + "}\n</tool_call>",
			ChatMessage{ToolCalls: []ChatToolCall{cats, zurich}}},
		{"call forbidden", "hermes", ChatInput{Tools: two, ToolChoice: "none"}, "<tool_call>{}</tool_call>", ChatMessage{Content: "<tool_call>{}</tool_call>"}},
		{"fenced", "fenced", ChatInput{Tools: two}, "Sure.\n```json\n{\"name\": \"get_weather\", \"arguments\": " + zurich.Arguments + "}\n```", ChatMessage{Content: "Sure.\n", ToolCalls: []ChatToolCall{zurich}}},
		{"other fence", "fenced", ChatInput{Tools: two}, "```go\nfmt.Println()\n```", ChatMessage{Content: "```go\nfmt.Println()\n```"}},
		{"begun call", "hermes", ChatInput{Tools: two}, "<tool_ca", ChatMessage{Content: "<tool_ca"}},
		{"word and begun call", "hermes", ChatInput{Tools: two}, "x <tool_ca", ChatMessage{Content: "x <tool_ca"}},
		{"ticks", "fenced", ChatInput{Tools: two}, "a``````", ChatMessage{Content: "a``````"}},
		{"reasoning", "thinking", ChatInput{}, "<think>\nHm, ü.\n</think>\n\nYes.", ChatMessage{Content: "Yes.", Reasoning: "Hm, ü.\n"}},
		{"reasoning cut off", "thinking", ChatInput{}, "<think>\nHm, I", ChatMessage{Reasoning: "Hm, I"}},
		{"no reasoning", "thinking", ChatInput{Thinking: &off}, "Yes.", ChatMessage{Content: "Yes."}},
		{"schema", "hermes", ChatInput{JSONSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}`)}, `{"a": 1}`, ChatMessage{Content: `{"a": 1}`}},
		{"schema in a fence", "hermes", ChatInput{JSONSchema: json.RawMessage(`{"type":"array"}`)}, "```json\n[1]\n```", ChatMessage{Content: `[1]`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			template := testTemplate(t, test.template)
			test.in.Messages = user("?")
			test.want.Role = "assistant"
			p := apply(t, template, test.in)
			check := func(m ChatMessage) {
				t.Helper()
				if got := withoutIDs(m); !reflect.DeepEqual(got, test.want) {
					t.Fatalf("got  %+v\nwant %+v", got, test.want)
				}
			}
			for n := 1; n <= len(test.text)+1; n++ {
				check(answer(t, p, test.text, n))
			}
			for i := range test.text {
				check(feed(t, newParser(t, p), []string{test.text[:i], test.text[i:]}))
			}
		})
	}
	if n := chatOwners.parser.Load(); n != 0 {
		t.Errorf("%d parsers are still open", n)
	}
}

func TestChatParserContinues(t *testing.T) {
	template := testTemplate(t, "thinking")
	in := ChatInput{Messages: append(user("Hi"), ChatMessage{Role: "assistant", Content: "Hello, I", Reasoning: "greet"}), ContinueFinal: true}
	p := apply(t, template, in)
	if m := answer(t, p, " am here.", 1); m.Content != " am here." || m.Reasoning != "" {
		t.Errorf("got %+v", m)
	}
}

func TestChatParserIDs(t *testing.T) {
	p := apply(t, testTemplate(t, "hermes"), ChatInput{Messages: user("?"), Tools: []ChatTool{search}})
	text := "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"a\"}}\n</tool_call>"
	a, b := answer(t, p, text, 5), answer(t, p, text, 5)
	if a.ToolCalls[0].ID == b.ToolCalls[0].ID || len(a.ToolCalls[0].ID) != 9 {
		t.Errorf("ids are %q and %q", a.ToolCalls[0].ID, b.ToolCalls[0].ID)
	}
}

// What does not have the form is an error, and content for who wants it.
func TestChatParserFails(t *testing.T) {
	p := apply(t, testTemplate(t, "hermes"), ChatInput{Messages: user("?"), Tools: []ChatTool{search}})
	for name, test := range map[string]struct{ text, want string }{
		"unknown tool":    {"See:\n<tool_call>\n{\"name\": \"rm\", \"arguments\": {}}\n</tool_call>", ""},
		"no JSON":         {"<tool_call>\nsearch cats\n</tool_call>", ""},
		"not UTF-8":       {"Hi \xff there", "Hi \uFFFD there"},
		"cut character":   {"Hi \xe2\x82", "Hi \uFFFD"},
		"deep":            {"<tool_call>\n{\"name\": \"search\", \"arguments\": " + strings.Repeat("[", 100000), ""},
		"text after call": {"<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"a\"}}\n</tool_call> and so on", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newParser(t, p)
			var content string
			take := func(deltas []ChatDelta) {
				for _, d := range deltas {
					content += d.Content
				}
			}
			deltas, err := c.Add(test.text)
			take(deltas)
			if err == nil {
				deltas, err = c.Finish()
				take(deltas)
			}
			if !errors.Is(err, ErrChatOutput) {
				t.Fatalf("got %v and %+v", err, c.Message())
			}
			if _, again := c.Add("x"); again == nil {
				t.Error("a parser that failed goes on")
			}
			take(c.Recover())
			want := test.want
			if want == "" {
				want = test.text
			}
			if m := c.Message(); m.Content != content || len(m.ToolCalls) == 0 && content != want {
				t.Errorf("recovered %.200q, the message is %.200q", content, m.Content)
			}
		})
	}
}

func TestChatParserRecovers(t *testing.T) {
	p := apply(t, testTemplate(t, "hermes"), ChatInput{Messages: user("?"), Tools: []ChatTool{search}})
	c := newParser(t, p)
	if _, err := c.Add("I look.\n<tool_call>\nno"); err == nil {
		if _, err = c.Add("nsense</tool_call>"); err == nil {
			_, err = c.Finish()
		}
		if !errors.Is(err, ErrChatOutput) {
			t.Fatalf("got %v", err)
		}
	}
	c.Recover()
	if !c.done {
		deltas, err := c.Add(" more €"[:7])
		if err != nil || len(deltas) != 1 {
			t.Fatalf("got %+v, %v", deltas, err)
		}
	}
	if got := c.Message().Content; !strings.HasPrefix(got, "I look.\n<tool_call>\nno") {
		t.Errorf("got %q", got)
	}
}

func TestChatParserMisuse(t *testing.T) {
	if _, err := (&ChatPrompt{}).NewParser(); !errors.Is(err, ErrInvalid) {
		t.Errorf("no prompt: %v", err)
	}
	c := newParser(t, apply(t, testTemplate(t, "hermes"), ChatInput{Messages: user("?")}))
	if _, err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add("x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("after the end: %v", err)
	}
	c.Close()
	if _, err := c.Add("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// However a parser is fed, it does not crash, and what it says adds up.
func FuzzChatParser(f *testing.F) {
	var prompts []*ChatPrompt
	for _, name := range []string{"hermes", "fenced", "thinking", "plain"} {
		template := testTemplate(f, name)
		prompts = append(prompts, apply(f, template, ChatInput{Messages: user("?")}),
			apply(f, template, ChatInput{Messages: user("?"), Tools: []ChatTool{weather, search}, ParallelToolCalls: true}))
	}
	for i, text := range []string{
		"Hi", "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"a\"}}\n</tool_call>", "x", "```json\n{\"name\": \"search\", \"arguments\": {\"query\": \"\\u00e9\"}}\n```",
		"<think>\nHm\n</think>\n\nYes", "<think>", "\xff", "{[{[",
	} {
		f.Add(uint8(i), uint8(3), []byte(text))
	}
	f.Fuzz(func(t *testing.T, which, size uint8, text []byte) {
		c, err := prompts[int(which)%len(prompts)].NewParser()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		content := ""
		take := func(deltas []ChatDelta) {
			for _, d := range deltas {
				content += d.Content
			}
		}
		for rest := text; len(rest) > 0 && err == nil; {
			n := min(len(rest), int(size)+1)
			var deltas []ChatDelta
			deltas, err = c.Add(string(rest[:n]))
			take(deltas)
			rest = rest[n:]
		}
		if err == nil {
			var deltas []ChatDelta
			deltas, err = c.Finish()
			take(deltas)
		}
		if err != nil {
			if !errors.Is(err, ErrChatOutput) {
				t.Error(err)
			}
			take(c.Recover())
		}
		if m := c.Message(); m.Content != content {
			t.Errorf("the deltas add up to %q, the message is %q", content, m.Content)
		}
	})
}

func BenchmarkChatParser(b *testing.B) {
	p := apply(b, testTemplate(b, "hermes"), ChatInput{Messages: user("?"), Tools: []ChatTool{search}})
	text := strings.Repeat("word ", 200) + "\n<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"cats\"}}\n</tool_call>"
	for b.Loop() {
		answer(b, p, text, 5)
	}
}
