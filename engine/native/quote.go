package native

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// controls are a vocabulary's control tokens by their texts. A template writes them with these texts, so contents that hold
// one would forge turns: there each is quoted.
type controls struct {
	is      []bool // by token
	texts   map[string]bool
	lengths []int     // of texts, the longest first
	begins  [256]bool // bytes that a text begins with
}

func newControls(v *llama.Vocab) (*controls, error) {
	tokens, err := v.Controls()
	if err != nil {
		return nil, err
	}
	c := &controls{is: make([]bool, v.Len()), texts: map[string]bool{}}
	for _, t := range tokens {
		c.is[t] = true
		text, err := v.Text(t)
		if err != nil {
			return nil, err
		}
		if text == "" {
			continue
		}
		c.texts[text] = true
		c.begins[text[0]] = true
		c.lengths = append(c.lengths, len(text))
	}
	slices.Sort(c.lengths)
	c.lengths = slices.Compact(c.lengths)
	slices.Reverse(c.lengths)
	return c, nil
}

// find returns where the first control token's text in s begins and ends; ok is false where there is none.
func (c *controls) find(s string) (from, to int, ok bool) {
	for i := range len(s) {
		if !c.begins[s[i]] {
			continue
		}
		for _, n := range c.lengths {
			if i+n <= len(s) && c.texts[s[i:i+n]] {
				return i, i + n, true
			}
		}
	}
	return 0, 0, false
}

// among tells whether a control token is among tokens.
func (c *controls) among(tokens []llama.Token) bool {
	return slices.ContainsFunc(tokens, func(t llama.Token) bool { return c.is[t] })
}

// Marks stand in private use, where no vocabulary has a token.
const firstMark, lastMark = '\U000F0000', '\U000FFFFD'

// quotation puts a mark in the place of each control token's text. A mark is one character, which neither the texts nor the
// template have, so that a template can trim, compare and escape around it; what it stands for never becomes anything but text.
type quotation struct {
	controls *controls
	taken    map[rune]bool   // marks that texts have for themselves
	marks    map[string]rune // by the text that they stand for
	tokens   map[rune][]llama.Token
	next     rune // to give out
	whole    map[rune]bool
	ranges   []engine.Range // of documents, as appendMarked found them
}

func newQuotation(c *controls) *quotation {
	return &quotation{controls: c, taken: map[rune]bool{}, marks: map[string]rune{}, tokens: map[rune][]llama.Token{}, next: firstMark, whole: map[rune]bool{}}
}

// look notes what a text has of control tokens and marks, and leaves it as it is.
func (q *quotation) look(s string) string {
	for rest := s; ; {
		from, to, ok := q.controls.find(rest)
		if !ok {
			break
		}
		q.marks[rest[from:to]] = 0
		rest = rest[to:]
	}
	q.avoid(s)
	return s
}

// avoid keeps the marks that a text has for itself from being chosen.
func (q *quotation) avoid(s string) {
	for _, r := range s {
		if r >= firstMark && r <= lastMark {
			q.taken[r] = true
		}
	}
}

// found tells whether look found anything to quote.
func (q *quotation) found() bool { return len(q.marks) > 0 }

// choose gives each text that look found its mark.
func (q *quotation) choose(v *llama.Vocab) error {
	for text := range q.marks {
		tokens, err := v.AppendLiteral(nil, text)
		if err != nil {
			return err
		}
		q.marks[text] = q.give(tokens)
	}
	return nil
}

// give gives out a mark that nobody has, for tokens.
func (q *quotation) give(tokens []llama.Token) rune {
	for q.taken[q.next] {
		q.next++
	}
	mark := q.next
	q.tokens[mark] = tokens
	q.next++
	return mark
}

// document gives out a mark for a document; where it stands is in ranges afterwards.
func (q *quotation) document(tokens []llama.Token) rune {
	mark := q.give(tokens)
	q.whole[mark] = true
	return mark
}

// mark puts the marks into a text.
func (q *quotation) mark(s string) string {
	var b strings.Builder
	for {
		from, to, ok := q.controls.find(s)
		if !ok {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:from])
		b.WriteRune(q.marks[s[from:to]])
		s = s[to:]
	}
}

// appendMarked appends the tokens of a text with marks in it. special reads the control tokens that stand there beside them.
// Each piece costs a call, so what is behind the limit, where no prompt fits, is taken in one, with marks: it only counts.
func (q *quotation) appendMarked(dst []llama.Token, v *llama.Vocab, s string, special bool, limit int) ([]llama.Token, error) {
	start := len(dst)
	for s != "" && len(dst) < limit {
		i := strings.IndexFunc(s, func(r rune) bool { return q.tokens[r] != nil })
		if i < 0 {
			i = len(s)
		}
		var err error
		if len(dst) == start {
			dst, err = v.AppendTokens(dst, s[:i], false, special)
		} else {
			dst, err = v.AppendContinued(dst, s[:i], special)
		}
		if err != nil {
			return dst, err
		}
		mark, n := utf8.DecodeRuneInString(s[i:])
		if q.whole[mark] {
			q.ranges = append(q.ranges, engine.Range{From: len(dst), To: len(dst) + len(q.tokens[mark])})
		}
		dst, s = append(dst, q.tokens[mark]...), s[i+n:]
	}
	return v.AppendContinued(dst, s, special)
}

// rewritten is a conversation with each of its texts as f returns it, also those inside JSON.
func rewritten(in llama.ChatInput, f func(string) string) llama.ChatInput {
	in.Messages, in.Tools = slices.Clone(in.Messages), slices.Clone(in.Tools)
	for i := range in.Messages {
		m := &in.Messages[i]
		m.Content, m.Reasoning, m.ToolCallID, m.Name = f(m.Content), f(m.Reasoning), f(m.ToolCallID), f(m.Name)
		m.ToolCalls = slices.Clone(m.ToolCalls)
		for k, c := range m.ToolCalls {
			m.ToolCalls[k] = llama.ChatToolCall{ID: f(c.ID), Name: f(c.Name), Arguments: string(rewrittenJSON([]byte(c.Arguments), f))}
		}
	}
	for i, t := range in.Tools {
		in.Tools[i] = llama.ChatTool{Name: f(t.Name), Description: f(t.Description), Parameters: rewrittenJSON(t.Parameters, f)}
	}
	args := make(map[string]json.RawMessage, len(in.TemplateArgs))
	for name, value := range in.TemplateArgs {
		args[name] = rewrittenJSON(value, f)
	}
	in.TemplateArgs = args
	in.JSONSchema = rewrittenJSON(in.JSONSchema, f)
	return in
}

// rewrittenJSON is JSON with each of its strings as f returns it, and all else as it was. What is not JSON stays as it is: a
// template refuses it.
func rewrittenJSON(text []byte, f func(string) string) []byte {
	if !bytes.ContainsRune(text, '"') || !json.Valid(text) {
		return text
	}
	out := make([]byte, 0, len(text))
	for {
		begin := bytes.IndexByte(text, '"')
		if begin < 0 {
			return append(out, text...)
		}
		end := begin + 1
		for text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		end++
		out = append(out, text[:begin]...)
		literal := text[begin:end]
		plain, _ := jsontext.AppendUnquote(nil, literal) // its error is lone surrogates, which become U+FFFD
		if s := f(string(plain)); s != string(plain) {
			literal, _ = jsontext.AppendQuote(nil, s)
		}
		out = append(out, literal...)
		text = text[end:]
	}
}
