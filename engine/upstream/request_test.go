package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
)

// wire is a body as a server reads it.
func wire(t *testing.T, b body) map[string]any {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBody(t *testing.T) {
	off := false
	full := engine.Sampling{Temperature: 0.5, TopK: 7, TopP: 0.25, MinP: 0.125, TypicalP: 0.75, DRYMultiplier: 0.5, DRYBreakers: []string{"x"}, RepeatPenalty: 1.5, PresencePenalty: 0.25,
		FrequencyPenalty: -0.5, PenaltyLastN: 32, LogitBias: map[engine.Token]float32{9: -100}, Seed: 4, Seeded: true}
	chat := &engine.Chat{
		Messages: []engine.Message{{Role: "user", Content: "hi", Name: "u"}, {Role: "assistant", Reasoning: "hm", ToolCalls: []engine.ToolCall{{ID: "c", Name: "f", Arguments: "{}"}}},
			{Role: "tool", Content: "1", ToolCallID: "c"}},
		Tools:      []engine.Tool{{Name: "f", Description: "does", Parameters: json.RawMessage(`{"type":"object"}`)}},
		ToolChoice: "required", ParallelToolCalls: true,
	}
	const always = `"model": "m", "stream": true, "stream_options": {"include_usage": true}`
	const talk = `"messages": [{"role": "user", "content": "hi", "name": "u"}, {"role": "assistant", "content": "", "reasoning_content": "hm",
		"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "content": "1", "tool_call_id": "c"}],
		"tools": [{"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}], "tool_choice": "required", "parallel_tool_calls": true`
	for name, test := range map[string]struct {
		words words
		r     engine.Request
		want  string
	}{
		"a chat": {openAI, engine.Request{Chat: chat, MaxTokens: 5, Stop: []string{"x"}, Logprobs: 3, Sampling: engine.Sampling{Temperature: 0.5, TopP: 0.25, Seed: 4, Seeded: true}},
			talk + `, "max_tokens": 5, "stop": ["x"], "logprobs": true, "top_logprobs": 3, "temperature": 0.5, "top_p": 0.25, "seed": 4`},
		"documents": {openAI, engine.Request{Chat: &engine.Chat{Messages: []engine.Message{{Role: "system", Content: "s"}}, Documents: []engine.Document{{Title: "t", Text: "a"}, {Text: "b"}}}, Logprobs: -1},
			`"messages": [{"role": "system", "content": "s\n\n# t\na\n\nb\n\n"}], "temperature": 0`},
		"documents alone": {openAI, engine.Request{Chat: &engine.Chat{Documents: []engine.Document{{Text: "b"}}}, Logprobs: -1},
			`"messages": [{"role": "system", "content": "Answer from these documents.\n\nb\n\n"}], "temperature": 0`},
		"the defaults of our clients": {openAI, engine.Request{Chat: &engine.Chat{}, Logprobs: -1, Sampling: engine.DefaultSampling()}, `"messages": [], "temperature": 0.8, "top_p": 0.95`},
		"a text":                      {openAI, engine.Request{Text: "x", MaxTokens: 5, Logprobs: 2}, `"prompt": "x", "max_tokens": 5, "logprobs": 2, "temperature": 0`},
		"tokens":                      {openAI, engine.Request{Tokens: []engine.Token{1, 2}, Logprobs: -1}, `"prompt": [1, 2], "temperature": 0`},
		"llama-server's": {llamaServer, engine.Request{Text: "x", IgnoreEOS: true, Logprobs: -1, Grammar: `root ::= "a"`, Sampling: full},
			`"prompt": "x", "ignore_eos": true, "grammar": "root ::= \"a\"", "temperature": 0.5, "top_k": 7, "top_p": 0.25, "min_p": 0.125, "typical_p": 0.75, "repeat_penalty": 1.5,
			"presence_penalty": 0.25, "frequency_penalty": -0.5, "repeat_last_n": 32, "dry_multiplier": 0.5, "dry_sequence_breakers": ["x"], "logit_bias": {"9": -100}, "seed": 4`},
		"llama-server's schema": {llamaServer, engine.Request{Text: "x", Logprobs: -1, JSONSchema: json.RawMessage(`{"a": 1}`)}, `"prompt": "x", "temperature": 0, "json_schema": {"a": 1}`},
		"vLLM's": {vLLM, engine.Request{Chat: &engine.Chat{Thinking: &off, TemplateArgs: map[string]json.RawMessage{"k": json.RawMessage(`[1]`)}}, Logprobs: 0,
			JSONSchema: json.RawMessage(`{}`), Sampling: engine.Sampling{Temperature: 1, RepeatPenalty: 1.5, TopK: 7}},
			`"messages": [], "chat_template_kwargs": {"enable_thinking": false, "k": [1]}, "logprobs": true, "top_logprobs": 0, "return_token_ids": true, "temperature": 1,
			"repetition_penalty": 1.5, "top_k": 7, "min_p": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": {}}}`},
	} {
		u := &Upstream{words: test.words, info: engine.Info{Name: "m"}}
		b, _, err := u.body(&test.r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want map[string]any
		if err := json.Unmarshal([]byte("{"+always+", "+test.want+"}"), &want); err != nil {
			t.Fatal(err)
		}
		got := wire(t, b)
		for key := range want {
			round(want, key)
			round(got, key)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", name, got, want)
		}
	}
}

// round takes a float32's tail off.
func round(m map[string]any, key string) {
	if f, ok := m[key].(float64); ok {
		m[key] = float64(float32(f))
	}
}

func TestInexpressible(t *testing.T) {
	on := true
	chat := &engine.Chat{}
	warm := engine.Sampling{Temperature: 1}
	with := func(change func(*engine.Sampling)) engine.Sampling { s := warm; change(&s); return s }
	for field, test := range map[string]struct {
		r    engine.Request
		able []words
	}{
		"IgnoreEOS":                {engine.Request{Text: "x", IgnoreEOS: true}, []words{llamaServer, vLLM}},
		"Grammar":                  {engine.Request{Text: "x", Grammar: "g"}, []words{llamaServer}},
		"JSONSchema":               {engine.Request{Text: "x", JSONSchema: json.RawMessage("{}")}, []words{llamaServer, vLLM}},
		"Sampling.TopK":            {engine.Request{Text: "x", Sampling: with(func(s *engine.Sampling) { s.TopK = 3 })}, []words{llamaServer, vLLM}},
		"Sampling.MinP":            {engine.Request{Text: "x", Sampling: with(func(s *engine.Sampling) { s.MinP = .3 })}, []words{llamaServer, vLLM}},
		"Sampling.TypicalP":        {engine.Request{Text: "x", Sampling: with(func(s *engine.Sampling) { s.TypicalP = .3 })}, []words{llamaServer}},
		"Sampling.RepeatPenalty":   {engine.Request{Text: "x", Sampling: engine.Sampling{RepeatPenalty: 2}}, []words{llamaServer, vLLM}},
		"Sampling.PenaltyLastN":    {engine.Request{Text: "x", Sampling: engine.Sampling{PenaltyLastN: 2}}, []words{llamaServer}},
		"Chat.Thinking":            {engine.Request{Chat: &engine.Chat{Thinking: &on}}, []words{llamaServer, vLLM}},
		"Chat.TemplateArgs":        {engine.Request{Chat: &engine.Chat{TemplateArgs: map[string]json.RawMessage{"a": nil}}}, []words{llamaServer, vLLM}},
		"Generated":                {engine.Request{Text: "x", Generated: []engine.Token{1}}, nil},
		"Chat":                     {engine.Request{Text: "x", Chat: chat}, nil},
		"Chat.Tools[0].Parameters": {engine.Request{Chat: &engine.Chat{Tools: []engine.Tool{{Name: "f", Parameters: json.RawMessage("{")}}}}, nil},
	} {
		for w := openAI; w <= vLLM; w++ {
			_, _, err := (&Upstream{words: w}).body(&test.r)
			f, refused := errors.AsType[*engine.FieldError](err)
			able := false
			for _, a := range test.able {
				able = able || a == w
			}
			if able == refused || refused && f.Field != field {
				t.Errorf("%s in the words of %d: %v", field, w, err)
			}
		}
	}
}

// Nothing that is set is dropped: each field changes what is sent, or is refused. A field that the engine gets later is
// one that this test knows of at once.
func TestNothingIsDropped(t *testing.T) {
	elsewhere := map[string]bool{"ID": true, "Key": true, "Deadline": true} // a header, nobody else's business, a timer
	for w := openAI; w <= vLLM; w++ {
		u := &Upstream{words: w, info: engine.Info{Name: "m"}}
		chat := func() *engine.Request {
			return &engine.Request{Logprobs: -1, Sampling: engine.Sampling{Temperature: 1}, Chat: &engine.Chat{Tools: []engine.Tool{{Name: "g"}},
				Messages: []engine.Message{{Role: "assistant", Content: "c", ToolCalls: []engine.ToolCall{{Name: "f"}}}}}}
		}
		base, _, err := u.body(chat())
		if err != nil {
			t.Fatal(err)
		}
		for name, part := range map[string]func(*engine.Request) any{
			"Request":  func(r *engine.Request) any { return r },
			"Sampling": func(r *engine.Request) any { return &r.Sampling },
			"Chat":     func(r *engine.Request) any { return r.Chat },
			"Message":  func(r *engine.Request) any { return &r.Chat.Messages[0] },
			"Tool":     func(r *engine.Request) any { return &r.Chat.Tools[0] },
			"ToolCall": func(r *engine.Request) any { return &r.Chat.Messages[0].ToolCalls[0] },
		} {
			for i := range reflect.TypeOf(part(chat())).Elem().NumField() {
				r := chat()
				v := reflect.ValueOf(part(r)).Elem()
				field := v.Type().Field(i).Name
				if name == "Request" && elsewhere[field] || name == "ToolCall" && field == "Index" { // its place in the list says it
					continue
				}
				r.Sampling.Seeded = field == "Seed"
				fill(v.Field(i))
				b, _, err := u.body(r)
				if err == nil && reflect.DeepEqual(wire(t, b), wire(t, base)) {
					t.Errorf("in the words of %d, %s.%s is dropped", w, name, field)
				}
			}
		}
	}
}

// fill sets a value to something that is not its zero, nor usual.
func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{"title": "x"}`))
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Now()))
	case v.CanInt():
		v.SetInt(3)
	case v.CanUint():
		v.SetUint(3)
	case v.CanFloat():
		v.SetFloat(0.3)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString("filled")
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case v.Kind() == reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	default:
		panic(fmt.Sprintf("a %s", v.Type()))
	}
}
