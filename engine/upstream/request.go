package upstream

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/quipu-ai/quipu/engine"
)

// body is a request in the making.
type body map[string]any

// body puts a request into the server's words. chat tells by which of the two routes it goes.
func (u *Upstream) body(r *engine.Request) (b body, chat bool, err error) {
	if err := u.expressible(r); err != nil {
		return nil, false, err
	}
	b = body{"model": u.info.Name, "stream": true, "stream_options": map[string]any{"include_usage": true}}
	switch {
	case r.Chat != nil:
		b.conversation(r.Chat)
	case r.Tokens != nil:
		b["prompt"] = r.Tokens
	default:
		b["prompt"] = r.Text
	}
	chat = r.Chat != nil
	if r.MaxTokens > 0 {
		b["max_tokens"] = r.MaxTokens
	}
	if len(r.Stop) > 0 {
		b["stop"] = r.Stop
	}
	if r.IgnoreEOS {
		b["ignore_eos"] = true
	}
	switch {
	case r.Logprobs < 0:
	case chat:
		b["logprobs"], b["top_logprobs"] = true, r.Logprobs
	default:
		b["logprobs"] = r.Logprobs
	}
	if r.Logprobs >= 0 && u.words == vLLM {
		b["return_token_ids"] = true
	}
	if r.Grammar != "" {
		b["grammar"] = r.Grammar
	}
	if r.JSONSchema != nil {
		b["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "strict": true, "schema": r.JSONSchema}}
		if !chat && u.words == llamaServer {
			delete(b, "response_format")
			b["json_schema"] = r.JSONSchema
		}
	}
	b.sampling(&r.Sampling, u.words)
	return b, chat, nil
}

// own are the settings of sampling that llama-server alone has.
var own = map[string]string{
	"PenaltyLastN": "repeat_last_n", "DRYMultiplier": "dry_multiplier", "DRYBase": "dry_base", "DRYAllowedLength": "dry_allowed_length",
	"DRYLastN": "dry_penalty_last_n", "DRYBreakers": "dry_sequence_breakers", "TopNSigma": "top_n_sigma", "XTCProbability": "xtc_probability",
	"XTCThreshold": "xtc_threshold", "MinKeep": "min_keep", "DynatempRange": "dynatemp_range", "DynatempExponent": "dynatemp_exponent",
	"Mirostat": "mirostat", "MirostatTau": "mirostat_tau", "MirostatEta": "mirostat_eta", "AdaptiveTarget": "adaptive_target",
	"AdaptiveDecay": "adaptive_decay",
}

func (b body) sampling(s *engine.Sampling, w words) {
	b["temperature"] = s.Temperature
	if s.Seeded {
		b["seed"] = s.Seed
	}
	if s.PresencePenalty != 0 {
		b["presence_penalty"] = s.PresencePenalty
	}
	if s.FrequencyPenalty != 0 {
		b["frequency_penalty"] = s.FrequencyPenalty
	}
	if len(s.LogitBias) > 0 {
		bias := make(map[string]float32, len(s.LogitBias))
		for t, by := range s.LogitBias {
			bias[strconv.Itoa(int(t))] = by
		}
		b["logit_bias"] = bias
	}
	repeat := "repeat_penalty"
	if w == vLLM {
		repeat = "repetition_penalty"
	}
	if w != openAI && s.RepeatPenalty != 0 {
		b[repeat] = s.RepeatPenalty
	}
	if w == llamaServer {
		v := reflect.ValueOf(*s)
		for field, name := range own {
			if value := v.FieldByName(field); !value.IsZero() {
				b[name] = value.Interface()
			}
		}
	}
	if s.Temperature == 0 {
		return // nothing else changes the likeliest token
	}
	if s.TopP != 0 {
		b["top_p"] = s.TopP
	}
	if w == openAI {
		return
	}
	b["top_k"], b["min_p"] = s.TopK, s.MinP // a server's own defaults are others
	if w == llamaServer && s.TypicalP != 0 {
		b["typical_p"] = s.TypicalP
	}
}

type toolCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// conversation adds what a chat template is given; the tokenizer's routes take it too.
func (b body) conversation(c *engine.Chat) {
	messages := make([]map[string]any, len(c.Messages))
	for i, m := range c.Messages {
		messages[i] = map[string]any{"role": m.Role, "content": m.Content}
		for name, value := range map[string]string{"reasoning_content": m.Reasoning, "tool_call_id": m.ToolCallID, "name": m.Name} {
			if value != "" {
				messages[i][name] = value
			}
		}
		if len(m.ToolCalls) > 0 {
			calls := make([]toolCall, len(m.ToolCalls))
			for k, call := range m.ToolCalls {
				calls[k].ID, calls[k].Type = call.ID, "function"
				calls[k].Function.Name, calls[k].Function.Arguments = call.Name, call.Arguments
			}
			messages[i]["tool_calls"] = calls
		}
	}
	b["messages"] = documented(messages, c.Documents)
	if len(c.Tools) > 0 {
		tools := make([]any, len(c.Tools))
		for i, t := range c.Tools {
			function := map[string]any{"name": t.Name}
			if t.Description != "" {
				function["description"] = t.Description
			}
			if t.Parameters != nil {
				function["parameters"] = t.Parameters
			}
			tools[i] = map[string]any{"type": "function", "function": function}
		}
		b["tools"], b["parallel_tool_calls"] = tools, c.ParallelToolCalls
	}
	if c.ToolChoice != "" {
		b["tool_choice"] = c.ToolChoice
	}
	args := make(map[string]any)
	for name, value := range c.TemplateArgs {
		args[name] = value
	}
	if c.Thinking != nil {
		args["enable_thinking"] = *c.Thinking
	}
	if len(args) > 0 {
		b["chat_template_kwargs"] = args
	}
}

// documented puts documents where the engine does: at the end of the system message, or in one of their own.
func documented(messages []map[string]any, documents []engine.Document) []map[string]any {
	if len(documents) == 0 {
		return messages
	}
	if len(messages) == 0 || messages[0]["role"] != "system" {
		messages = slices.Insert(messages, 0, map[string]any{"role": "system", "content": engine.DocumentsIntroduction})
	}
	var text strings.Builder
	fmt.Fprint(&text, messages[0]["content"], "\n\n")
	for _, d := range documents {
		text.WriteString(d.String())
	}
	messages[0]["content"] = text.String()
	return messages
}

// handled are the fields that body and its parts look at. What is not here is not known to any server: it must be as it is
// in a request that doesn't mention it.
var handled = map[reflect.Type][]string{
	reflect.TypeFor[engine.Request](): {"ID", "Key", "Chat", "Text", "Tokens", "MaxTokens", "Stop", "IgnoreEOS", "Sampling", "Grammar", "JSONSchema",
		"Logprobs", "Deadline"},
	reflect.TypeFor[engine.Sampling](): {"Temperature", "TopK", "TopP", "MinP", "TypicalP", "RepeatPenalty", "PresencePenalty", "FrequencyPenalty",
		"LogitBias", "Seed", "Seeded"},
	reflect.TypeFor[engine.Chat](): {"Messages", "Documents", "Tools", "ToolChoice", "ParallelToolCalls", "Thinking", "TemplateArgs"},
}

// expressible refuses what this server has no word for.
func (u *Upstream) expressible(r *engine.Request) error {
	bad := func(field, problem string) error { return &engine.FieldError{Field: field, Problem: problem} }
	if r.Chat != nil && (r.Text != "" || r.Tokens != nil) || r.Text != "" && r.Tokens != nil {
		return bad("Chat", "set one of Chat, Text and Tokens")
	}
	if r.Grammar != "" && r.JSONSchema != nil {
		return bad("Grammar", "set one of Grammar and JSONSchema")
	}
	known := engine.DefaultSampling()
	unknown := u.unhandled("", *r, engine.Request{})
	if unknown == "" {
		unknown = u.unhandled("Sampling.", r.Sampling, known)
	}
	if unknown == "" && r.Chat != nil {
		unknown = u.unhandled("Chat.", *r.Chat, engine.Chat{})
	}
	if unknown != "" {
		return bad(unknown, "the upstream server has no such setting")
	}
	s, samples := r.Sampling, r.Sampling.Temperature > 0
	for _, test := range []struct {
		asked bool
		by    []words // who can
		field string
	}{
		{r.IgnoreEOS, []words{llamaServer, vLLM}, "IgnoreEOS"},
		{r.Grammar != "", []words{llamaServer}, "Grammar"},
		{r.JSONSchema != nil && r.Chat == nil, []words{llamaServer, vLLM}, "JSONSchema"},
		// Clients that name none get these two from the engine's defaults: they are no wish of anybody's.
		{samples && s.TopK != 0 && s.TopK != known.TopK, []words{llamaServer, vLLM}, "Sampling.TopK"},
		{samples && s.MinP != 0 && s.MinP != known.MinP, []words{llamaServer, vLLM}, "Sampling.MinP"},
		{samples && s.TypicalP != 0 && s.TypicalP != 1, []words{llamaServer}, "Sampling.TypicalP"},
		{s.RepeatPenalty != 0 && s.RepeatPenalty != 1, []words{llamaServer, vLLM}, "Sampling.RepeatPenalty"},
		{r.Chat != nil && r.Chat.Thinking != nil, []words{llamaServer, vLLM}, "Chat.Thinking"},
		{r.Chat != nil && len(r.Chat.TemplateArgs) > 0, []words{llamaServer, vLLM}, "Chat.TemplateArgs"},
	} {
		if test.asked && !slices.Contains(test.by, u.words) {
			return bad(test.field, "the upstream server has no such setting")
		}
	}
	for i, tool := range toolsOf(r) {
		if tool.Parameters != nil && !json.Valid(tool.Parameters) {
			return bad(fmt.Sprintf("Chat.Tools[%d].Parameters", i), "is not JSON")
		}
	}
	if r.JSONSchema != nil && !json.Valid(r.JSONSchema) {
		return bad("JSONSchema", "is not JSON")
	}
	return nil
}

func toolsOf(r *engine.Request) []engine.Tool {
	if r.Chat == nil {
		return nil
	}
	return r.Chat.Tools
}

// unhandled names a field that is set and that nobody looks at; as it is in usual does not count as set.
func (u *Upstream) unhandled(prefix string, v, usual any) string {
	value, other := reflect.ValueOf(v), reflect.ValueOf(usual)
	for i := range value.NumField() {
		name := value.Type().Field(i).Name
		if slices.Contains(handled[value.Type()], name) || u.words == llamaServer && own[name] != "" {
			continue
		}
		if field := value.Field(i); !field.IsZero() && !reflect.DeepEqual(field.Interface(), other.Field(i).Interface()) {
			return prefix + name
		}
	}
	return ""
}
