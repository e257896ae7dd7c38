package openai_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/quipu-ai/quipu/server/servertest"
)

// recorder is a model that keeps what it was asked and says nothing.
type recorder struct {
	mu    sync.Mutex // of several answers at once
	asked *engine.Request
}

func (*recorder) Info() engine.Info { return engine.Info{Name: "recorder"} }

func (r *recorder) Generate(_ context.Context, q *engine.Request) (*engine.Stream, error) {
	r.mu.Lock()
	r.asked = q
	r.mu.Unlock()
	stream, sink := engine.NewStream(nil)
	sink.Send(engine.Event{Finish: engine.FinishStop})
	return stream, nil
}

// Members of a chat request that are understood, and what they ask of the model; nil stands for nothing. Together with
// refused they cover every field.
var understood = []struct {
	member string
	want   func(*engine.Request)
}{
	{`"model":"default"`, nil},
	{`"model":null`, nil},
	{`"stream":false`, nil},
	{`"stream":true`, nil},
	{`"stream":true,"stream_options":{}`, nil},
	{`"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}`, nil},
	{`"stream_options":null`, nil},
	{`"max_tokens":7`, func(r *engine.Request) { r.MaxTokens = 7 }},
	{`"max_completion_tokens":7`, func(r *engine.Request) { r.MaxTokens = 7 }},
	{`"max_tokens":7,"max_completion_tokens":7`, func(r *engine.Request) { r.MaxTokens = 7 }},
	{`"max_tokens":null,"max_completion_tokens":7`, func(r *engine.Request) { r.MaxTokens = 7 }},
	{`"n":1`, nil},
	{`"n":null`, nil},
	{`"stop":null`, nil},
	{`"stop":[]`, func(r *engine.Request) { r.Stop = []string{} }},
	{`"stop":"\n"`, func(r *engine.Request) { r.Stop = []string{"\n"} }},
	{`"stop":["a","b"]`, func(r *engine.Request) { r.Stop = []string{"a", "b"} }},
	{`"documents":[]`, nil},
	{`"documents":[{"title":"Mill","text":"Built in 1823."},{"text":"Burnt in 1911."}]`, func(r *engine.Request) {
		r.Chat.Documents = []engine.Document{{Title: "Mill", Text: "Built in 1823."}, {Text: "Burnt in 1911."}}
	}},
	{`"ignore_eos":true`, func(r *engine.Request) { r.IgnoreEOS = true }},
	{`"context_shift":true`, func(r *engine.Request) { r.Shift = true }},
	{`"context_shift":true,"n_keep":0`, func(r *engine.Request) { r.Shift = true }},
	{`"context_shift":true,"n_keep":-1`, func(r *engine.Request) { r.Shift, r.Keep = true, engine.KeepPrompt }},
	{`"context_shift":true,"n_keep":20`, func(r *engine.Request) { r.Shift, r.Keep = true, 20 }},
	{`"context_shift":false,"n_keep":null`, nil},
	{`"temperature":0`, func(r *engine.Request) { r.Sampling.Temperature = 0 }},
	{`"temperature":2`, func(r *engine.Request) { r.Sampling.Temperature = 2 }},
	{`"temperature":null`, nil},
	{`"top_p":0.5`, func(r *engine.Request) { r.Sampling.TopP = 0.5 }},
	{`"top_p":0`, func(r *engine.Request) { r.Sampling.TopP, r.Sampling.TopK = 0, 1 }}, // not: all tokens
	{`"top_k":5`, func(r *engine.Request) { r.Sampling.TopK = 5 }},
	{`"top_k":0`, func(r *engine.Request) { r.Sampling.TopK = 0 }},
	{`"top_k":-1`, func(r *engine.Request) { r.Sampling.TopK = 0 }},
	{`"min_p":0.1`, func(r *engine.Request) { r.Sampling.MinP = 0.1 }},
	{`"typical_p":0.9`, func(r *engine.Request) { r.Sampling.TypicalP = 0.9 }},
	{`"typical_p":0`, func(r *engine.Request) { r.Sampling.TypicalP = 1e-9 }}, // not: all tokens
	{`"top_n_sigma":1.5`, func(r *engine.Request) { r.Sampling.TopNSigma = 1.5 }},
	{`"top_n_sigma":-1`, nil},
	{`"xtc_probability":0.5,"xtc_threshold":0.2`, func(r *engine.Request) { r.Sampling.XTCProbability, r.Sampling.XTCThreshold = 0.5, 0.2 }},
	{`"xtc_threshold":0`, func(r *engine.Request) { r.Sampling.XTCThreshold = 1e-9 }}, // not: the default
	{`"min_keep":3`, func(r *engine.Request) { r.Sampling.MinKeep = 3 }},
	{`"dynatemp_range":0.4,"dynatemp_exponent":2`, func(r *engine.Request) { r.Sampling.DynatempRange, r.Sampling.DynatempExponent = 0.4, 2 }},
	{`"repeat_penalty":1.5,"repeat_last_n":-1`, func(r *engine.Request) { r.Sampling.RepeatPenalty, r.Sampling.PenaltyLastN = 1.5, -1 }},
	{`"repeat_penalty":1.5,"presence_penalty":1,"repeat_last_n":0`, nil}, // looking at none is off
	{`"dry_multiplier":0.8,"dry_base":2,"dry_allowed_length":3,"dry_penalty_last_n":-1,"dry_sequence_breakers":["\n"]`, func(r *engine.Request) {
		s := &r.Sampling
		s.DRYMultiplier, s.DRYBase, s.DRYAllowedLength, s.DRYLastN, s.DRYBreakers = 0.8, 2, 3, -1, []string{"\n"}
	}},
	{`"dry_multiplier":0.8,"dry_penalty_last_n":0`, nil},
	{`"dry_sequence_breakers":[]`, func(r *engine.Request) { r.Sampling.DRYBreakers = []string{} }}, // none; not: the default
	{`"dry_sequence_breakers":null`, nil},
	{`"mirostat":2,"mirostat_tau":4,"mirostat_eta":0.2`, func(r *engine.Request) {
		r.Sampling.Mirostat, r.Sampling.MirostatTau, r.Sampling.MirostatEta = 2, 4, 0.2
	}},
	{`"adaptive_target":0.5,"adaptive_decay":0`, func(r *engine.Request) { r.Sampling.AdaptiveTarget, r.Sampling.AdaptiveDecay = 0.5, 1e-9 }},
	{`"adaptive_target":-1`, nil},
	{`"repeat_penalty":1.5`, func(r *engine.Request) { r.Sampling.RepeatPenalty = 1.5 }},
	{`"presence_penalty":-2`, func(r *engine.Request) { r.Sampling.PresencePenalty = -2 }},
	{`"frequency_penalty":2`, func(r *engine.Request) { r.Sampling.FrequencyPenalty = 2 }},
	{`"logit_bias":{"5":-100,"6":1.5}`, func(r *engine.Request) { r.Sampling.LogitBias = map[engine.Token]float32{5: -100, 6: 1.5} }},
	{`"logit_bias":{}`, nil},
	{`"seed":42`, func(r *engine.Request) { r.Sampling.Seed, r.Sampling.Seeded = 42, true }},
	{`"seed":0`, func(r *engine.Request) { r.Sampling.Seeded = true }},
	{`"seed":-1`, nil},
	{`"seed":21474836480`, func(r *engine.Request) { r.Sampling.Seed, r.Sampling.Seeded = 5, true }}, // both halves count
	{`"logprobs":true`, func(r *engine.Request) { r.Logprobs = 0 }},
	{`"logprobs":true,"top_logprobs":20`, func(r *engine.Request) { r.Logprobs = 20 }},
	{`"logprobs":false,"top_logprobs":0`, nil},
	{`"response_format":{"type":"text"}`, nil},
	{`"response_format":null`, nil},
	{`"response_format":{"type":"json_object"}`, func(r *engine.Request) { r.JSONSchema = json.RawMessage(`{"type":"object"}`) }},
	{`"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","strict":true,"schema":{"type":"array"}}}`,
		func(r *engine.Request) { r.JSONSchema = json.RawMessage(`{"type":"array"}`) }},
	{`"tools":[]`, nil},
	{`"tools":[{"type":"function","function":{"name":"f"}}]`, tools(engine.Tool{Name: "f"})},
	{`"tools":[{"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object"}}}],"tool_choice":"auto"`, func(r *engine.Request) {
		tools(engine.Tool{Name: "f", Description: "d", Parameters: json.RawMessage(`{"type":"object"}`)})(r)
		r.Chat.ToolChoice = "auto"
	}},
	{twoTools + `,"tool_choice":"none"`, func(r *engine.Request) {
		tools(engine.Tool{Name: "f"}, engine.Tool{Name: "g"})(r)
		r.Chat.ToolChoice = "none"
	}},
	{twoTools + `,"tool_choice":"required","parallel_tool_calls":false`, func(r *engine.Request) {
		tools(engine.Tool{Name: "f"}, engine.Tool{Name: "g"})(r)
		r.Chat.ToolChoice, r.Chat.ParallelToolCalls = "required", false
	}},
	{twoTools + `,"tool_choice":{"type":"function","function":{"name":"g"}}`, func(r *engine.Request) { // the only tool left
		tools(engine.Tool{Name: "g"})(r)
		r.Chat.ToolChoice = "required"
	}},
	{`"parallel_tool_calls":true`, nil},
	{`"reasoning_effort":"none"`, func(r *engine.Request) { r.Chat.Thinking = new(false) }},
	{`"reasoning_effort":"low"`, func(r *engine.Request) {
		r.Chat.TemplateArgs = map[string]json.RawMessage{"reasoning_effort": json.RawMessage(`"low"`)}
	}},
	{`"chat_template_kwargs":{"enable_thinking":true}`, func(r *engine.Request) { r.Chat.Thinking = new(true) }},
	{`"chat_template_kwargs":{"enable_thinking":false,"date":{"y":1}}`, func(r *engine.Request) {
		r.Chat.Thinking = new(false)
		r.Chat.TemplateArgs = map[string]json.RawMessage{"date": json.RawMessage(`{"y":1}`)}
	}},
	{`"modalities":["text"]`, nil},
	{`"quipu":null`, nil},
	{`"quipu":{}`, nil},
	{`"quipu":{"store":null,"grounded":null,"top_k":null}`, nil},
	{`"quipu":{"grounded":false,"top_k":200}`, nil},
	{`"user":"u"`, nil},
	{`"safety_identifier":"s"`, nil},
	{`"metadata":{"a":"b"}`, nil},
	{`"store":true`, nil},
	{`"service_tier":"auto"`, nil},
	{`"prompt_cache_key":"k"`, nil},
	{`"prompt_cache_retention":"24h"`, nil},
	// Conversations.
	{`"messages":[{"role":"developer","content":"be brief","name":"n"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`,
		talk(engine.Message{Role: "system", Content: "be brief", Name: "n"}, engine.Message{Role: "user", Content: "a\nb"})},
	{`"messages":[{"role":"user","content":""}]`, talk(engine.Message{Role: "user"})},
	{`"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"42"}]`,
		talk(engine.Message{Role: "user", Content: "hi"},
			engine.Message{Role: "assistant", ToolCalls: []engine.ToolCall{{ID: "c1", Name: "f", Arguments: "{}"}}},
			engine.Message{Role: "tool", ToolCallID: "c1", Content: "42"})},
	// An answer of ours, sent back as it came.
	{`"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho","refusal":null,"reasoning_content":"hm","audio":null,"function_call":null,"annotations":[],"quipu":{"citations":[]}},{"role":"user","content":"and?"}]`,
		talk(engine.Message{Role: "user", Content: "hi"}, engine.Message{Role: "assistant", Content: "ho", Reasoning: "hm"}, engine.Message{Role: "user", Content: "and?"})},
	{`"messages":[{"role":"assistant","content":null,"refusal":"no"},{"role":"assistant","content":[{"type":"refusal","refusal":"never"}]},{"role":"user","content":"hi"}]`,
		talk(engine.Message{Role: "assistant", Content: "no"}, engine.Message{Role: "assistant", Content: "never"}, engine.Message{Role: "user", Content: "hi"})},
}

const twoTools = `"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g","parameters":null}}]`

func tools(t ...engine.Tool) func(*engine.Request) {
	return func(r *engine.Request) { r.Chat.Tools, r.Chat.ParallelToolCalls = t, true }
}

func talk(m ...engine.Message) func(*engine.Request) {
	return func(r *engine.Request) { r.Chat.Messages = m }
}

// body makes a whole request of some members.
func body(members string) string {
	if strings.Contains(members, `"messages":`) {
		return "{" + members + "}"
	}
	return hi(members)
}

func TestUnderstood(t *testing.T) {
	for _, c := range understood {
		t.Run(c.member, func(t *testing.T) {
			model := &recorder{}
			w := chat(serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model}}}, servertest.Stores{}, nil), body(c.member))
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			want := engine.Request{ID: "req_test", Sampling: engine.DefaultSampling(), Logprobs: -1,
				Chat: &engine.Chat{Messages: []engine.Message{{Role: "user", Content: "hi"}}}}
			if c.want != nil {
				c.want(&want)
			}
			if !reflect.DeepEqual(*model.asked, want) {
				t.Errorf("asked\n%+v %+v, want\n%+v %+v", *model.asked, *model.asked.Chat, want, *want.Chat)
			}
		})
	}
}

// Members of a chat request that are refused.
var refused = []struct{ member, param, code string }{
	{`"temprature":1`, "temprature", "unknown_parameter"},
	{`"functions":[]`, "functions", "unknown_parameter"},
	{`"prediction":{}`, "prediction", "unknown_parameter"},
	{`"model":7`, "model", "invalid_type"},
	{`"model":"gpt-x"`, "model", "model_not_found"},
	{`"stream":"yes"`, "stream", "invalid_type"},
	{`"stream_options":{}`, "stream_options", "invalid_value"},
	{`"stream":true,"stream_options":{"include_obfuscation":true}`, "stream_options.include_obfuscation", "unsupported_parameter"},
	{`"stream":true,"stream_options":{"usage":true}`, "stream_options.usage", "unknown_parameter"},
	{`"max_tokens":0`, "max_tokens", "invalid_value"},
	{`"max_tokens":-1`, "max_tokens", "invalid_value"},
	{`"max_tokens":1.5`, "max_tokens", "invalid_type"},
	{`"max_completion_tokens":0`, "max_completion_tokens", "invalid_value"},
	{`"max_completion_tokens":2147483648`, "max_completion_tokens", "invalid_value"},
	{`"max_tokens":7,"max_completion_tokens":8`, "max_tokens", "invalid_value"},
	{`"n":17`, "n", "invalid_value"},
	{`"n":0`, "n", "invalid_value"},
	{`"n":"2"`, "n", "invalid_type"},
	{`"stop":7`, "stop", "invalid_type"},
	{`"stop":[7]`, "stop[0]", "invalid_type"},
	{`"stop":""`, "stop[0]", "invalid_value"},
	{`"stop":["a",null]`, "stop[1]", "invalid_value"},
	{`"stop":["a"` + strings.Repeat(`,"a"`, 16) + `]`, "stop", "invalid_value"},
	{`"documents":"all"`, "documents", "invalid_type"},
	{`"documents":[{"title":"Mill"}]`, "documents[0].text", "invalid_value"},
	{`"documents":[{"text":"a","url":"b"}]`, "documents[0].url", "unknown_parameter"},
	{`"ignore_eos":1`, "ignore_eos", "invalid_type"},
	{`"context_shift":"yes"`, "context_shift", "invalid_type"},
	{`"context_shift":true,"n_keep":-2`, "n_keep", "invalid_value"},
	{`"n_keep":5`, "n_keep", "invalid_value"},
	{`"n_discard":5`, "n_discard", "unknown_parameter"},
	{`"temperature":2.1`, "temperature", "invalid_value"},
	{`"temperature":-0.1`, "temperature", "invalid_value"},
	{`"temperature":"hot"`, "temperature", "invalid_type"},
	{`"top_p":1.1`, "top_p", "invalid_value"},
	{`"top_k":-2`, "top_k", "invalid_value"},
	{`"min_p":-1`, "min_p", "invalid_value"},
	{`"typical_p":1.1`, "typical_p", "invalid_value"},
	{`"top_n_sigma":-2`, "top_n_sigma", "invalid_value"},
	{`"xtc_probability":2`, "xtc_probability", "invalid_value"},
	{`"xtc_threshold":-1`, "xtc_threshold", "invalid_value"},
	{`"min_keep":-1`, "min_keep", "invalid_value"},
	{`"dynatemp_range":3`, "dynatemp_range", "invalid_value"},
	{`"dynatemp_exponent":-1`, "dynatemp_exponent", "invalid_value"},
	{`"repeat_last_n":-2`, "repeat_last_n", "invalid_value"},
	{`"dry_multiplier":-1`, "dry_multiplier", "invalid_value"},
	{`"dry_base":0.5`, "dry_base", "invalid_value"},
	{`"dry_allowed_length":0`, "dry_allowed_length", "invalid_value"},
	{`"dry_penalty_last_n":-2`, "dry_penalty_last_n", "invalid_value"},
	{`"dry_sequence_breakers":"x"`, "dry_sequence_breakers", "invalid_type"},
	{`"dry_sequence_breakers":["x",""]`, "dry_sequence_breakers[1]", "invalid_value"},
	{`"dry_sequence_breakers":["x"` + strings.Repeat(`,"x"`, 32) + `]`, "dry_sequence_breakers", "invalid_value"},
	{`"mirostat":3`, "mirostat", "invalid_value"},
	{`"mirostat_tau":-1`, "mirostat_tau", "invalid_value"},
	{`"mirostat_eta":101`, "mirostat_eta", "invalid_value"},
	{`"adaptive_target":2`, "adaptive_target", "invalid_value"},
	{`"adaptive_decay":1`, "adaptive_decay", "invalid_value"},
	{`"repeat_penalty":11`, "repeat_penalty", "invalid_value"},
	{`"presence_penalty":3`, "presence_penalty", "invalid_value"},
	{`"frequency_penalty":-3`, "frequency_penalty", "invalid_value"},
	{`"logit_bias":{"token":1}`, "logit_bias.token", "invalid_value"},
	{`"logit_bias":{"-1":1}`, "logit_bias.-1", "invalid_value"},
	{`"logit_bias":{"5":101}`, "logit_bias.5", "invalid_value"},
	{`"logit_bias":[]`, "logit_bias", "invalid_type"},
	{`"seed":1.5`, "seed", "invalid_type"},
	{`"logprobs":3`, "logprobs", "invalid_type"},
	{`"top_logprobs":3`, "top_logprobs", "invalid_value"},
	{`"logprobs":true,"top_logprobs":21`, "top_logprobs", "invalid_value"},
	{`"response_format":{}`, "response_format.type", "missing_required_parameter"},
	{`"response_format":{"type":"xml"}`, "response_format.type", "unsupported_parameter"},
	{`"response_format":{"type":"json_schema"}`, "response_format.json_schema.schema", "missing_required_parameter"},
	{`"response_format":{"type":"json_schema","json_schema":{"schema":"{}"}}`, "response_format.json_schema.schema", "missing_required_parameter"},
	{`"tools":{}`, "tools", "invalid_type"},
	{`"tools":[{}]`, "tools[0].type", "missing_required_parameter"},
	{`"tools":[{"type":"web_search"}]`, "tools[0].type", "unsupported_parameter"},
	{`"tools":[{"type":"function"}]`, "tools[0].function.name", "invalid_value"},
	{`"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]`, "tools[0].function.parameters", "invalid_type"},
	{`"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}]`, "tools[1].function.name", "invalid_value"},
	{`"tools":[{"type":"function","function":{"name":"f","params":{}}}]`, "tools[0].function.params", "unknown_parameter"},
	{`"tool_choice":"required"`, "tool_choice", "invalid_value"},
	{`"tool_choice":"any"`, "tool_choice", "invalid_value"},
	{`"tool_choice":7`, "tool_choice", "invalid_type"},
	{twoTools + `,"tool_choice":{"type":"function","function":{"name":"h"}}`, "tool_choice.function.name", "invalid_value"},
	{twoTools + `,"tool_choice":{"type":"custom"}`, "tool_choice.type", "unsupported_parameter"},
	{`"parallel_tool_calls":"no"`, "parallel_tool_calls", "invalid_type"},
	{`"reasoning_effort":"huge"`, "reasoning_effort", "invalid_value"},
	{`"chat_template_kwargs":{"enable_thinking":"yes"}`, "chat_template_kwargs.enable_thinking", "invalid_type"},
	{`"modalities":["text","audio"]`, "modalities[1]", "unsupported_parameter"},
	{`"quipu":"docs"`, "quipu", "invalid_type"},
	{`"quipu":{"stores":"docs"}`, "quipu.stores", "unknown_parameter"},
	{`"quipu":{"store":"gone"}`, "quipu.store", "store_not_found"},
	{`"quipu":{"grounded":"yes"}`, "quipu.grounded", "invalid_type"},
	{`"quipu":{"grounded":true}`, "quipu.grounded", "unsupported_parameter"},
	{`"quipu":{"top_k":0}`, "quipu.top_k", "invalid_value"},
	{`"quipu":{"top_k":201}`, "quipu.top_k", "invalid_value"},
	// Conversations.
	{`"messages":null`, "messages", "missing_required_parameter"},
	{`"messages":[]`, "messages", "missing_required_parameter"},
	{`"messages":"hi"`, "messages", "invalid_type"},
	{`"messages":["hi"]`, "messages[0]", "invalid_type"},
	{`"messages":[null]`, "messages[0].role", "missing_required_parameter"},
	{`"messages":[{"role":"system","content":"hi"}]`, "messages", "missing_required_parameter"},
	{`"messages":[{"role":"critic","content":"hi"}]`, "messages[0].role", "invalid_value"},
	{`"messages":[{"role":"User","content":"hi"}]`, "messages[0].role", "invalid_value"},
	{`"messages":[{"role":"user"}]`, "messages[0].content", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":null}]`, "messages[0].content", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":{}}]`, "messages[0].content", "invalid_type"},
	{`"messages":[{"role":"user","content":[]}]`, "messages[0].content", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":["hi"]}]`, "messages[0].content[0]", "invalid_type"},
	{`"messages":[{"role":"user","content":[{"text":"hi"}]}]`, "messages[0].content[0].type", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":[{"type":"text","txt":"hi"}]}]`, "messages[0].content[0].txt", "unknown_parameter"},
	{`"messages":[{"role":"user","content":[{"type":"text","text":7}]}]`, "messages[0].content[0].text", "invalid_type"},
	{`"messages":[{"role":"user","content":[{"type":"text","text":"what?"},{"type":"image_url","image_url":{"url":"data:,"}}]}]`, "messages[0].content[1].type", "unsupported_parameter"},
	{`"messages":[{"role":"user","content":"hi"},{"role":"assistant"}]`, "messages[1].content", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","function":{}}]}]`, "messages[1].tool_calls[0].function.name", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"custom","function":{"name":"f"}}]}]`, "messages[1].tool_calls[0].type", "unsupported_parameter"},
	{`"messages":[{"role":"user","content":"hi","tool_calls":[{"id":"c","function":{"name":"f"}}]}]`, "messages[0].tool_calls", "invalid_value"},
	{`"messages":[{"role":"user","content":"hi"},{"role":"tool","content":"42"}]`, "messages[1].tool_call_id", "missing_required_parameter"},
	{`"messages":[{"role":"user","content":"hi","tool_call_id":"c"}]`, "messages[0].tool_call_id", "invalid_value"},
	{`"messages":[{"role":"user","content":"hi","audio":{"id":"a"}}]`, "messages[0].audio", "unsupported_parameter"},
	{`"messages":[{"role":"user","content":"hi","function_call":{}}]`, "messages[0].function_call", "unsupported_parameter"},
}

// refusal reads an error in OpenAI's shape and checks that it names its field.
func refusal(t *testing.T, status int, body []byte, param, code string) {
	t.Helper()
	var got struct {
		Error struct {
			Message, Type string
			Param, Code   *string
		}
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Error.Param == nil || got.Error.Code == nil {
		t.Fatalf("%d %s %v", status, body, err)
	}
	want := http.StatusBadRequest
	if strings.HasSuffix(code, "_not_found") {
		want = http.StatusNotFound
	}
	e := got.Error
	if status != want || e.Type != "invalid_request_error" || *e.Param != param || *e.Code != code || !strings.HasPrefix(e.Message, param+": ") {
		t.Errorf("got %d %s, want %d %s %s", status, body, want, param, code)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range refused {
		t.Run(c.member, func(t *testing.T) {
			model := &recorder{}
			w := chat(serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model}}}, servertest.Stores{}, nil), body(c.member))
			refusal(t, w.Code, w.Body.Bytes(), c.param, c.code)
			if model.asked != nil {
				t.Error("the model was asked all the same")
			}
		})
	}
}

// Each field of the request is in one of the two tables.
func TestEveryFieldIsTested(t *testing.T) {
	tested := map[string]bool{}
	note := func(member string) {
		var members map[string]any
		if err := json.Unmarshal([]byte("{"+member+"}"), &members); err != nil {
			t.Fatalf("%s: %v", member, err)
		}
		for name := range members {
			tested[name] = true
		}
	}
	for _, c := range understood {
		note(c.member)
	}
	for _, c := range refused {
		note(c.member)
	}
	for _, field := range reflect.VisibleFields(openai.ChatRequest) {
		if name := field.Tag.Get("json"); !field.Anonymous && !tested[name] {
			t.Errorf("%s is in no test", name)
		}
	}
}

// The fields that an answer from the documents can't honour make it plain, or are refused when it must be grounded.
func TestPlainFields(t *testing.T) {
	for member, field := range map[string]string{
		twoTools: "tools",
		`"response_format":{"type":"json_object"}`: "response_format",
		`"logprobs":true`:                          "logprobs",
		`"n":2`:                                    "n",
		`"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]`: "messages[1]",
	} {
		model, answerer := &recorder{}, servertest.Guarantee()
		h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model, Answerer: answerer}}}, servertest.Stores{"default": 1}, nil)
		if w := chat(h, body(member)); w.Code != http.StatusOK || model.asked == nil || len(answerer.Asked()) > 0 {
			t.Errorf("%s: %d %s", member, w.Code, w.Body)
		}
		w := chat(h, body(member+`,"quipu":{"grounded":true}`))
		refusal(t, w.Code, w.Body.Bytes(), field, "unsupported_parameter")
	}
	model, answerer := &recorder{}, servertest.Guarantee()
	h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: model, Answerer: answerer}}}, servertest.Stores{"docs": 1}, nil)
	w := chat(h, hi(`"response_format":{"type":"text"}`, `"tools":[]`, `"logprobs":false`, `"max_tokens":9`, `"stop":"x"`, `"seed":3`, `"quipu":{"store":"docs","top_k":2}`))
	sampling := engine.DefaultSampling()
	sampling.Temperature, sampling.Seed, sampling.Seeded = 0, 3, true
	want := []answer.Question{{ID: "req_test", Store: "docs", TopK: 2, MaxTokens: 9, Stop: []string{"x"}, Sampling: sampling,
		Messages: []engine.Message{{Role: "user", Content: "hi"}}}}
	if got := answerer.Asked(); w.Code != http.StatusOK || !reflect.DeepEqual(got, want) {
		t.Errorf("%d, asked %+v, want %+v", w.Code, got, want)
	}
}

// What the model itself finds wrong bears the name of the wire's field.
func TestFieldsOfTheEngine(t *testing.T) {
	h := serve(fake(t, servertest.NewBackend(64), engine.DefaultConfig()), nil, nil)
	w := chat(h, hi(`"response_format":{"type":"json_object"}`)) // the fake has no grammars
	refusal(t, w.Code, w.Body.Bytes(), "response_format", "invalid_value")
}
