package native

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Schema turns a JSON schema into a grammar.
func (b *Backend) Schema(schema []byte) (string, error) {
	grammar, err := llama.SchemaToGrammar(schema)
	if err != nil {
		return "", &engine.FieldError{Field: "JSONSchema", Problem: err.Error()}
	}
	return grammar, nil
}

// Render applies the model's chat template.
func (b *Backend) Render(chat *engine.Chat, schema []byte) (*engine.Rendered, error) {
	in := chatInput(chat, schema)
	p, err := b.template.Apply(in)
	if err != nil {
		return nil, refusal("Chat", err)
	}
	r := &engine.Rendered{Stop: p.Stops}
	if r.Prompt, r.Passages, err = b.prompt(in, p.Text, chat.Documents); err != nil {
		return nil, err
	}
	if p.Grammar != "" {
		if r.Constraint, err = b.constraint(p); err != nil {
			return nil, err
		}
	}
	for _, text := range p.PreservedTokens {
		tokens, err := b.vocab.Tokenize(text, false, true)
		if err != nil {
			return nil, closed(err)
		}
		if len(tokens) == 1 {
			r.Special = append(r.Special, tokens[0])
		}
	}
	parser, err := p.NewParser()
	if err != nil {
		return nil, err
	}
	r.Parser = chatParser{parser}
	return r, nil
}

// prompt is the rendered conversation in tokens. Where contents hold control tokens' texts, or there are documents, it is
// rendered once more with marks in their places; only the prompt comes from there, for grammar and parser know no marks.
func (b *Backend) prompt(in llama.ChatInput, text string, documents []engine.Document) ([]engine.Token, []engine.Range, error) {
	q := newQuotation(b.controls)
	rewritten(in, q.look)
	if !q.found() && len(documents) == 0 {
		tokens, err := b.vocab.AppendTokens(slices.Clone(b.start), text, false, true)
		return tokens, nil, closed(err)
	}
	q.avoid(b.template.Source())
	if err := q.choose(b.vocab); err != nil {
		return nil, nil, closed(err)
	}
	in = rewritten(in, q.mark)
	if err := b.document(&in, q, documents); err != nil {
		return nil, nil, err
	}
	marked, err := b.template.Apply(in)
	if err != nil {
		return nil, nil, refusal("Chat", err)
	}
	tokens, err := q.appendMarked(slices.Clone(b.start), b.vocab, marked.Text, true, b.info.Context)
	if err == nil && len(tokens) < b.info.Context && len(q.ranges) != len(documents) {
		return nil, nil, &engine.FieldError{Field: "Chat.Documents", Problem: "the model's chat template does not show the system message that they stand in"}
	}
	return tokens, q.ranges, closed(err)
}

// document puts marks for documents at the end of the system message. Each is tokenized by itself, so that its tokens are the
// same wherever it stands.
func (b *Backend) document(in *llama.ChatInput, q *quotation, documents []engine.Document) error {
	if len(documents) == 0 {
		return nil
	}
	if len(in.Messages) == 0 || in.Messages[0].Role != "system" {
		in.Messages = slices.Insert(slices.Clone(in.Messages), 0, llama.ChatMessage{Role: "system", Content: engine.DocumentsIntroduction})
	}
	var marks strings.Builder
	for _, d := range documents {
		tokens, err := b.Tokenize(d.String(), false)
		if err != nil {
			return err
		}
		marks.WriteRune(q.document(tokens))
	}
	in.Messages[0].Content += "\n\n" + marks.String()
	return nil
}

// constraint is the grammar that a template comes with, for tools or a schema.
func (b *Backend) constraint(p *llama.ChatPrompt) (engine.Constraint, error) {
	c := engine.Constraint{Grammar: p.Grammar, Lazy: p.GrammarLazy}
	if !c.Lazy {
		var err error
		if c.Begun, err = b.vocab.Tokenize(p.GenerationPrompt, false, true); err != nil {
			return c, closed(err)
		}
	}
	for _, t := range p.Triggers {
		if t.Kind == llama.TriggerToken {
			c.Tokens = append(c.Tokens, t.Token)
			continue
		}
		c.Patterns = append(c.Patterns, pattern(t))
	}
	return c, nil
}

// pattern is a trigger as an expression over the output.
func pattern(t llama.GrammarTrigger) string {
	switch t.Kind {
	case llama.TriggerWord:
		return regexp.QuoteMeta(t.Value)
	case llama.TriggerPatternFull:
		return "^" + strings.TrimSuffix(strings.TrimPrefix(t.Value, "^"), "$") + "$"
	default:
		return t.Value
	}
}

func chatInput(chat *engine.Chat, schema []byte) llama.ChatInput {
	in := llama.ChatInput{
		ToolChoice: chat.ToolChoice, ParallelToolCalls: chat.ParallelToolCalls, Thinking: chat.Thinking,
		TemplateArgs: chat.TemplateArgs, JSONSchema: json.RawMessage(schema),
	}
	for _, m := range chat.Messages {
		message := llama.ChatMessage{Role: m.Role, Content: m.Content, Reasoning: m.Reasoning, ToolCallID: m.ToolCallID, Name: m.Name}
		for _, c := range m.ToolCalls {
			message.ToolCalls = append(message.ToolCalls, llama.ChatToolCall{ID: c.ID, Name: c.Name, Arguments: c.Arguments})
		}
		in.Messages = append(in.Messages, message)
	}
	for _, t := range chat.Tools {
		in.Tools = append(in.Tools, llama.ChatTool(t))
	}
	return in
}

// chatParser is a llama.ChatParser in the engine's words.
type chatParser struct{ *llama.ChatParser }

func (c chatParser) Add(text string) ([]engine.Delta, error) {
	deltas, err := c.ChatParser.Add(text)
	return toDeltas(deltas), err
}

func (c chatParser) Finish() ([]engine.Delta, error) {
	deltas, err := c.ChatParser.Finish()
	return toDeltas(deltas), err
}

func (c chatParser) Recover() []engine.Delta { return toDeltas(c.ChatParser.Recover()) }

func toDeltas(parsed []llama.ChatDelta) []engine.Delta {
	deltas := make([]engine.Delta, 0, len(parsed))
	for _, d := range parsed {
		delta := engine.Delta{Text: d.Content, Reasoning: d.Reasoning}
		if d.ToolCall != nil {
			call := engine.ToolCall(*d.ToolCall)
			delta.ToolCall = &call
		}
		deltas = append(deltas, delta)
	}
	return deltas
}
