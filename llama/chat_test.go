package llama

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// now is what templates print in tests.
var now = time.Date(2025, 3, 9, 12, 0, 0, 0, time.Local)

var weather = ChatTool{
	Name: "get_weather", Description: "The weather in a <city>.",
	Parameters: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}`),
}

var search = ChatTool{Name: "search", Parameters: json.RawMessage(`{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}`)}

func newTemplate(tb testing.TB, source string, tokens ChatTokens) *ChatTemplate {
	tb.Helper()
	before := chatOwners.template.Load()
	t, err := NewChatTemplate(source, tokens)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(t.Close(), t.Close()); err != nil {
			tb.Error(err)
		}
		if after := chatOwners.template.Load(); after != before {
			tb.Errorf("%d templates are open, %d were before", after, before)
		}
	})
	return t
}

func testTemplate(tb testing.TB, name string) *ChatTemplate {
	tb.Helper()
	source, err := os.ReadFile(filepath.Join("testdata", "chat", name+".jinja"))
	if err != nil {
		tb.Fatal(err)
	}
	return newTemplate(tb, string(source), ChatTokens{BOS: "<bos>"})
}

func apply(tb testing.TB, t *ChatTemplate, in ChatInput) *ChatPrompt {
	tb.Helper()
	in.Now = now
	p, err := t.Apply(in)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func user(text string) []ChatMessage { return []ChatMessage{{Role: "user", Content: text}} }

func TestChatPrompts(t *testing.T) {
	call := []ChatToolCall{{ID: "call00001", Name: "get_weather", Arguments: `{"city": "Zürich", "days": 2}`}}
	off := false
	conversation := []ChatMessage{
		{Role: "system", Content: "Be brief."},
		{Role: "user", Content: "Weather in \"Zürich\"?\n{{ 7 * 7 }} <|im_end|>"},
		{Role: "assistant", Content: "I will look.", ToolCalls: call},
		{Role: "tool", Content: "sunny", ToolCallID: "call00001", Name: "get_weather"},
		{Role: "assistant", Content: "It is sunny.", Reasoning: "The tool says so."},
		{Role: "user", Content: "Thanks"},
	}
	for name, inputs := range map[string][]ChatInput{
		"chatml": {{Messages: conversation}, {Messages: user("Hi"), NoGenerationPrompt: true}},
		"hermes": {{Messages: conversation, Tools: []ChatTool{weather, search}}, {Messages: user("Hi")}, {Messages: user("Hi"), Tools: []ChatTool{weather}, ToolChoice: "required"}, {Messages: user("Hi"), JSONSchema: json.RawMessage(`{"type":"integer","minimum":5}`)}},
		"fenced": {{Messages: conversation, Tools: []ChatTool{weather}, ParallelToolCalls: true}, {Messages: user("Hi"), Grammar: `root ::= "a"`}},
		"plain":  {{Messages: []ChatMessage{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hi"}}}},
		"thinking": {
			{Messages: user("Hi")}, {Messages: user("Hi"), Thinking: &off}, {Messages: user("Hi"), TemplateArgs: map[string]json.RawMessage{"tone": json.RawMessage(`"kind"`)}},
			{Messages: []ChatMessage{{Role: "user", Content: "Hi"}, {Role: "assistant", Content: "Hello, I", Reasoning: "greet"}}, ContinueFinal: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			template := newTemplate(t, "", ChatTokens{})
			if name != "chatml" {
				template = testTemplate(t, name)
			}
			var got strings.Builder
			fmt.Fprintf(&got, "%+v\n", template.Caps())
			for i, in := range inputs {
				p := apply(t, template, in)
				fmt.Fprintf(&got, "\n--- %d\n%s\n", i, p.Text)
				fmt.Fprintf(&got, "--- format %s, prompt ends in %q, stops %q, preserved %q\n", p.Format, p.GenerationPrompt, p.Stops, p.PreservedTokens)
				fmt.Fprintf(&got, "--- thinking %v %q %q\n", p.Thinking, p.ThinkingStart, p.ThinkingEnds)
				fmt.Fprintf(&got, "--- grammar lazy %v, after %q, triggers %+v\n%s", p.GrammarLazy, p.GrammarPrefill, p.Triggers, p.Grammar)
			}
			golden(t, filepath.Join("testdata", "chat", name+".golden"), got.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update):\n%s", path, got)
	}
}

func TestChatTemplateFacts(t *testing.T) {
	if d := newTemplate(t, "", ChatTokens{}); d.Explicit() || !strings.Contains(d.Source(), "<|im_start|>") {
		t.Errorf("the default is explicit: %v, %q", d.Explicit(), d.Source())
	}
	source := "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}"
	for _, test := range []struct {
		tokens ChatTokens
		want   string
	}{
		{ChatTokens{BOS: "<s>", EOS: "</s>"}, "<s>Hi</s>"},
		{ChatTokens{BOS: "<s>", EOS: "</s>", AddBOS: true}, "Hi</s>"},
		{ChatTokens{BOS: "<s>", EOS: "</s>", AddBOS: true, AddEOS: true}, "Hi"},
	} {
		template := newTemplate(t, source, test.tokens)
		if got := apply(t, template, ChatInput{Messages: user("Hi")}).Text; got != test.want || !template.Explicit() {
			t.Errorf("%+v: %q, want %q", test.tokens, got, test.want)
		}
	}
	for text, want := range map[string]string{"a\x00b": "a\x00b\x00", "": "\x00", "\U0001F600": "\U0001F600\x00"} {
		template := newTemplate(t, "{{ messages[0].content }}\x00", ChatTokens{})
		if got := apply(t, template, ChatInput{Messages: user(text)}).Text; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if p := newTemplate(t, "{{ strftime_now('%Y-%m-%d') }}", ChatTokens{}); apply(t, p, ChatInput{Messages: user("")}).Text != "2025-03-09" {
		t.Error("the clock is not the given one")
	}
}

func TestChatTrigger(t *testing.T) {
	for _, test := range []struct {
		trigger GrammarTrigger
		want    string
	}{
		{GrammarTrigger{Kind: TriggerWord, Value: "```json\n["}, "```json\n\\["},
		{GrammarTrigger{Kind: TriggerPattern, Value: "a|b"}, "a|b"},
		{GrammarTrigger{Kind: TriggerPatternFull, Value: "a+$"}, "^a+$"},
		{GrammarTrigger{Kind: TriggerToken, Token: 7}, ""},
	} {
		if got := test.trigger.Pattern(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.trigger, got, test.want)
		}
	}
}

// Templates that do not end, that grow without end, or that recurse without end are refused, soon.
func TestChatTemplateRefused(t *testing.T) {
	many := func(s string) string { return strings.Repeat(s, 20000) }
	for name, source := range map[string]string{
		"large":             strings.Repeat("x", maxTemplate+1),
		"not UTF-8":         "\xff",
		"expression":        "{{ ",
		"unknown":           "{% frobnicate %}",
		"open block":        "{% if x %}",
		"open string":       "{{ 'a",
		"open comment":      "{#",
		"escape":            `{{ '\q' }}`,
		"long range":        "{% for i in range(1000000000) %}x{% endfor %}",
		"negative range":    "{{ range(1000000000, 0, -1) }}",
		"range elsewhere":   "{% set r = range %}{{ r(1000000000) }}",
		"nested loops":      "{% for i in range(9000) %}{% for j in range(9000) %}x{% endfor %}{% endfor %}",
		"filtered loops":    "{% for i in range(9000) %}{% for j in range(9000) if j == -1 %}x{% endfor %}{% endfor %}",
		"endless macro":     "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"two macros":        "{% macro g(x) %}{{ f(x) }}{% endmacro %}{% macro f(x) %}{{ 1 + g(x) }}{% endmacro %}{{ f(1) }}",
		"endless caller":    "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
		"doubled text":      "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
		"replaced text":     "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s|replace('a','aa') %}{% endfor %}{{ ns.s }}",
		"replaced text too": "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a','aa') %}{% endfor %}{{ ns.s }}",
		"repeated text":     "{{ 'abcdefgh' * 10000000000 }}",
		"repeated by text":  "{{ 10000000000 * 'abcdefgh' }}",
		"doubled list":      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
		"list in itself":    "{% set a = [] %}{% set _ = a.append(a) %}{{ a }}",
		"list in list":      "{% set a = [] %}{% set b = [a] %}{% set _ = a.append(b) %}{{ a|tojson }}",
		"object in itself":  "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns|tojson }}",
		"deep list":         "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
		"bushy list":        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"brackets":          "{{ " + many("(") + "1" + many(")") + " }}",
		"lists":             "{{ " + many("[") + many("]") + " }}",
		"not not":           "{{ " + many("not ") + "1 }}",
		"minus":             "{{ " + many("- ") + "1 }}",
		"sum":               "{{ 1" + many(" + 1") + " }}",
		"filters":           "{{ 1" + many("|abs") + " }}",
		"members":           "{{ x" + many(".a") + " }}",
		"calls":             "{{ x" + many("()") + " }}",
		"choices":           "{{ " + many("1 if 0 else ") + "1 }}",
		"tests":             "{{ 1" + many(" is defined") + " }}",
		"blocks":            many("{% if true %}") + many("{% endif %}"),
		"else if":           "{% if true %}" + many("{% elif true %}") + "{% endif %}",
		"set blocks":        many("{% set x %}") + many("{% endset %}"),
	} {
		t.Run(name, func(t *testing.T) {
			template, err := NewChatTemplate(source, ChatTokens{})
			if err == nil {
				template.Close()
			}
			if !errors.Is(err, ErrTemplate) {
				t.Errorf("got %v", err)
			}
		})
	}
	if chatOwners.template.Load() != 0 {
		t.Error("templates are still open")
	}
}

// Templates that can be parsed and make no sense are refused when they run.
func TestChatTemplateSenseless(t *testing.T) {
	for name, source := range map[string]string{
		"text as a filter": "{{ 1|'a' }}",
		"text as a test":   "{{ 1 is 'a' }}",
		"text as a macro":  "{% macro 'a'() %}{% endmacro %}{{ a() }}",
		"text as a loop":   "{% for 'a' in [1] %}{% endfor %}",
		"text as a call":   "{% call 'a' %}{% endcall %}",
		"a number called":  "{{ 1(2) }}",
		"a filter block":   "{% filter 1 %}{% endfilter %}",
		"text is assigned": "{% set 'a' = 1 %}",
	} {
		t.Run(name, func(t *testing.T) {
			template, err := NewChatTemplate(source, ChatTokens{})
			if err == nil {
				defer template.Close()
				_, err = template.Apply(ChatInput{Messages: user("Hi")})
			}
			if !errors.Is(err, ErrTemplate) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A template may run away for some conversations only.
func TestChatApplyRunaway(t *testing.T) {
	template := newTemplate(t, "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(messages[0].content|int) }}ok", ChatTokens{})
	if got := apply(t, template, ChatInput{Messages: user("20")}).Text; got != "ok" {
		t.Errorf("got %q", got)
	}
	if _, err := template.Apply(ChatInput{Messages: user("10000000")}); !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "recurses") && !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	if got := apply(t, template, ChatInput{Messages: user("20")}).Text; got != "ok" {
		t.Errorf("afterwards %q", got)
	}
}

func TestChatApplyRefused(t *testing.T) {
	template := testTemplate(t, "hermes")
	tool := func(name, params string) []ChatTool {
		return []ChatTool{{Name: name, Parameters: json.RawMessage(params)}}
	}
	call := func(name, args string) []ChatMessage {
		return []ChatMessage{{Role: "user"}, {Role: "assistant", ToolCalls: []ChatToolCall{{Name: name, Arguments: args}}}}
	}
	for _, test := range []struct {
		name  string
		in    ChatInput
		kind  error
		about string
	}{
		{"nothing", ChatInput{}, ErrChat, "Messages"},
		{"role", ChatInput{Messages: []ChatMessage{{Role: "robot"}}}, ErrChat, "Messages[0].Role"},
		{"content", ChatInput{Messages: user("\xff")}, ErrChat, "Messages[0]"},
		{"user calls", ChatInput{Messages: []ChatMessage{{Role: "user", ToolCalls: []ChatToolCall{{Name: "a", Arguments: "{}"}}}}}, ErrChat, "ToolCalls"},
		{"call without name", ChatInput{Messages: call("", "{}")}, ErrChat, "ToolCalls[0].Name"},
		{"call without arguments", ChatInput{Messages: call("a", "")}, ErrChat, "ToolCalls[0].Arguments"},
		{"deep arguments", ChatInput{Messages: call("a", strings.Repeat("[", 1000)+strings.Repeat("]", 1000))}, ErrChat, "deep"},
		{"choice", ChatInput{Messages: user(""), ToolChoice: "maybe"}, ErrChat, "ToolChoice"},
		{"required", ChatInput{Messages: user(""), ToolChoice: "required"}, ErrChat, "ToolChoice"},
		{"tool name", ChatInput{Messages: user(""), Tools: tool("", "{}")}, ErrChat, "Tools[0]"},
		{"tool parameters", ChatInput{Messages: user(""), Tools: tool("a", "{")}, ErrSchema, "Tools[0].Parameters"},
		{"remote parameters", ChatInput{Messages: user(""), Tools: tool("a", `{"$ref":"http://example.org"}`)}, ErrSchema, "Tools[0].Parameters"},
		{"both", ChatInput{Messages: user(""), Grammar: "root ::= \"a\"", JSONSchema: json.RawMessage("{}")}, ErrChat, "Grammar"},
		{"grammar and tools", ChatInput{Messages: user(""), Grammar: "root ::= \"a\"", Tools: tool("a", "{}")}, ErrChat, "Grammar"},
		{"grammar", ChatInput{Messages: user(""), Grammar: "%llguidance {}"}, ErrGrammar, "llguidance"},
		{"schema", ChatInput{Messages: user(""), JSONSchema: json.RawMessage(`{"not":{}}`)}, ErrSchema, "not"},
		{"template argument", ChatInput{Messages: user(""), TemplateArgs: map[string]json.RawMessage{"a": json.RawMessage("x")}}, ErrChat, "TemplateArgs.a"},
		{"continue", ChatInput{Messages: user(""), ContinueFinal: true}, ErrChat, "ContinueFinal"},
		{"large", ChatInput{Messages: user(strings.Repeat("x", maxChat))}, ErrChat, "bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := template.Apply(test.in); !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.about) {
				t.Errorf("got %v, want %v about %q", err, test.kind, test.about)
			}
		})
	}
	template.Close()
	if _, err := template.Apply(ChatInput{Messages: user("")}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	_, err := testTemplate(t, "plain").Apply(ChatInput{Messages: []ChatMessage{{Role: "user"}, {Role: "user"}}})
	if !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "user and assistant must alternate") {
		t.Errorf("got %v", err)
	}
}

func TestChatConcurrently(t *testing.T) {
	template := testTemplate(t, "hermes")
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for range 20 {
				text := fmt.Sprint("Hi ", i)
				p, err := template.Apply(ChatInput{Messages: user(text), Tools: []ChatTool{weather}})
				if err != nil {
					t.Error(err)
					return
				}
				if !strings.Contains(p.Text, text) {
					t.Errorf("%q is not in %q", text, p.Text)
				}
				answer(t, p, "Well.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>", 3)
			}
		})
	}
	wait.Wait()
}

// The templates that users have, where they are at hand.
func TestChatRealTemplates(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sharedModels(), "*.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("there are no *.jinja in %s", sharedModels())
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		template := newTemplate(t, string(source), ChatTokens{})
		p := apply(t, template, ChatInput{Messages: user("Hi"), Tools: []ChatTool{weather}})
		text := "Sure.\n```json\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n```"
		if m := answer(t, p, text, 1); len(m.ToolCalls) != 1 || m.ToolCalls[0].Arguments != `{"city": "Bern"}` {
			t.Errorf("%s: %+v", file, m)
		}
	}
}

func FuzzChatTemplate(f *testing.F) {
	files, err := filepath.Glob("testdata/chat/*.jinja")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(source), "Hi")
	}
	f.Add("{% macro f(a, b=1) %}{{ a|upper ~ caller() }}{% endmacro %}{% call f('x') %}{{ [1,2][::-1] }}{% endcall %}", "")
	f.Add("{% for k, v in {'a': 1}|items if v is defined %}{{ loop.index }}{{ k.split('')|join(', ') }}{% endfor %}", "")
	f.Add("{{ 'a'|'b' }}{{ 1 is 'c' }}{% set 'd' = x[::]() %}", "")
	f.Add("{% set ns = namespace(x=[]) %}{% set _ = ns.x.append(messages) %}{{ ns.x|tojson(indent=2) }}{{ 3 * 'a' }}{{ range(3)|list|sort|last }}", "")
	f.Fuzz(func(t *testing.T, source, text string) {
		template, err := NewChatTemplate(source, ChatTokens{BOS: "<s>", EOS: "</s>"})
		if err != nil {
			if !errors.Is(err, ErrTemplate) {
				t.Error(err)
			}
			return
		}
		defer template.Close()
		p, err := template.Apply(ChatInput{Messages: user(text), Tools: []ChatTool{weather}})
		if err != nil {
			return
		}
		parser, err := p.NewParser()
		if err != nil {
			t.Fatal(err)
		}
		defer parser.Close()
		if _, err := parser.Add(text); err == nil {
			_, _ = parser.Finish()
		}
	})
}

func BenchmarkChatApply(b *testing.B) {
	template := testTemplate(b, "hermes")
	in := ChatInput{Messages: user("Hi"), Tools: []ChatTool{weather}}
	for b.Loop() {
		if _, err := template.Apply(in); err != nil {
			b.Fatal(err)
		}
	}
}
