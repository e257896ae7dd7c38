package llama

// #include "common_shim.h"
import "C"

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

const (
	maxAnswer = 16 << 20 // bytes that one parser takes
	// maxAnswerDepth bounds open brackets in what is generated: llama.cpp's parser recurses for each.
	maxAnswerDepth = 256
)

// ChatParser turns the growing text of one answer into content, reasoning and tool calls. One goroutine at a time uses
// it; its owner closes it.
//
// It is strict by default: text that does not fit the template's form fails with ErrChatOutput, and then only Recover
// and Close are of use. The form is what the grammar of the prompt enforces, so that happens where no grammar was
// applied, or generation went wrong.
type ChatParser struct {
	ptr     *C.chat_parser
	pending string // the start of a character whose rest has not come yet
	raw     strings.Builder
	depth   int
	got     ChatMessage // the sum of all deltas
	calls   []callState
	ids     string
	words   []string // that begin a call
	err     error
	done    bool
}

// callState is what is known of a call that may not have been delivered yet.
type callState struct {
	id, name, args string
	sent           bool
}

// ChatDelta is a piece of an answer: either of the texts, or a piece of a call.
type ChatDelta struct {
	Content   string
	Reasoning string
	ToolCall  *ChatToolCallDelta
}

// ChatToolCallDelta is a piece of a call. ID and Name come whole, in the first piece for an Index; Arguments grows.
type ChatToolCallDelta struct {
	Index     int
	ID        string
	Name      string
	Arguments string
}

// NewParser returns a parser for an answer to the prompt. Text fed to it is what was generated after the prompt.
func (p *ChatPrompt) NewParser() (*ChatParser, error) {
	const op = "chat parser"
	if len(p.parser) == 0 {
		return nil, fail(op, ErrInvalid, "the prompt was not made by ChatTemplate.Apply")
	}
	c := &ChatParser{got: ChatMessage{Role: "assistant"}, ids: callIDs()}
	for _, t := range p.Triggers {
		if t.Kind == TriggerWord {
			c.words = append(c.words, t.Value)
		}
	}
	var answer C.chat_text
	code := C.chat_parser_new(bytesPtr(p.parser), C.size_t(len(p.parser)), &c.ptr, &answer)
	if _, err := chatAnswer(op, ErrChatOutput, code, answer); err != nil {
		return nil, err
	}
	chatOwners.parser.Add(1)
	return c, nil
}

// callIDs draws what the ids of one answer's calls have in common. With two digits for the index they have the nine
// characters that some templates insist on.
func callIDs() string { return rand.Text()[:7] }

// Add takes what was generated since the last call and returns what became certain. Text may end inside a character.
func (c *ChatParser) Add(text string) ([]ChatDelta, error) { return c.add(text, false) }

// Finish ends the answer and returns what remained.
func (c *ChatParser) Finish() ([]ChatDelta, error) { return c.add("", true) }

// Message is the answer so far: the sum of all deltas.
func (c *ChatParser) Message() ChatMessage {
	m := c.got
	m.ToolCalls = append([]ChatToolCall(nil), m.ToolCalls...)
	return m
}

// Raw is everything that was added, unparsed.
func (c *ChatParser) Raw() string { return c.raw.String() + c.pending }

// Recover gives up parsing, after a failure or at any time: what was generated and has not been delivered becomes
// content, calls that have begun stay as they are. Afterwards all text added is content.
func (c *ChatParser) Recover() []ChatDelta {
	raw := c.Raw()
	rest := raw
	if i := strings.LastIndex(raw, c.got.Content); c.got.Content != "" && i >= 0 {
		rest = raw[i+len(c.got.Content):]
	}
	c.close()
	c.pending, c.err = "", nil
	return c.plain(strings.ToValidUTF8(rest, "\uFFFD"))
}

// Close frees the parser and may be called again.
func (c *ChatParser) Close() error {
	c.close()
	c.err = fail("chat parser", ErrClosed, "it was closed")
	return nil
}

func (c *ChatParser) close() {
	if c.ptr != nil {
		C.chat_parser_free(c.ptr)
		c.ptr = nil
		chatOwners.parser.Add(-1)
	}
}

func (c *ChatParser) plain(text string) []ChatDelta {
	if text == "" {
		return nil
	}
	c.got.Content += text
	return []ChatDelta{{Content: text}}
}

func (c *ChatParser) add(text string, last bool) ([]ChatDelta, error) {
	const op = "parse answer"
	if c.err != nil {
		return nil, c.err
	}
	if c.done {
		return nil, fail(op, ErrInvalid, "the answer has ended")
	}
	whole, err := c.whole(text, last)
	if err == nil {
		err = c.measure(whole)
	}
	if err != nil {
		c.err = err
		return nil, err
	}
	c.raw.WriteString(whole)
	c.done = last
	if c.ptr == nil { // after Recover
		return c.plain(whole), nil
	}
	if whole == "" && !last {
		return nil, nil
	}
	var answer C.chat_text
	b := []byte(whole)
	code := C.chat_parser_add(c.ptr, bytesPtr(b), C.size_t(len(b)), C.bool(last), &answer)
	out, err := chatAnswer(op, ErrChatOutput, code, answer)
	if err != nil {
		c.err = err
		return nil, err
	}
	var result struct{ Diffs []parserDiff }
	if err := json.Unmarshal(out, &result); err != nil {
		c.err = fail(op, ErrChatOutput, "%v", err)
		return nil, c.err
	}
	return c.deliver(result.Diffs, last), nil
}

// whole returns the text that ends on a character's border, and keeps the rest.
func (c *ChatParser) whole(text string, last bool) (string, error) {
	text = c.pending + text
	end := len(text)
	if !last {
		for i := 1; i <= min(utf8.UTFMax-1, len(text)); i++ {
			if b := text[len(text)-i]; utf8.RuneStart(b) {
				if !utf8.FullRuneInString(text[len(text)-i:]) {
					end = len(text) - i
				}
				break
			}
		}
	}
	c.pending = text[end:]
	if !utf8.ValidString(text[:end]) {
		c.pending = text
		return "", fail("parse answer", ErrChatOutput, "it is not valid UTF-8")
	}
	return text[:end], nil
}

// measure refuses answers whose parsing would cost too much.
func (c *ChatParser) measure(text string) error {
	if c.raw.Len()+len(text) > maxAnswer {
		return fail("parse answer", ErrChatOutput, "it has more than %d bytes", maxAnswer)
	}
	for i := range len(text) {
		switch text[i] {
		case '{', '[':
			c.depth++
		case '}', ']':
			c.depth = max(0, c.depth-1)
		}
		if c.ptr != nil && c.depth > maxAnswerDepth {
			c.pending = text
			return fail("parse answer", ErrChatOutput, "more than %d brackets are open", maxAnswerDepth)
		}
	}
	return nil
}

// parserDiff is what the shim says has changed.
type parserDiff struct {
	Content   string
	Reasoning string
	Call      *struct {
		Index               int
		ID, Name, Arguments string
	}
}

// deliver turns changes into deltas. A call's name may still grow until its arguments begin, another call begins or the
// answer ends: it is held back until then.
func (c *ChatParser) deliver(diffs []parserDiff, last bool) []ChatDelta {
	var out []ChatDelta
	for _, d := range diffs {
		if d.Reasoning != "" {
			c.got.Reasoning += d.Reasoning
			out = append(out, ChatDelta{Reasoning: d.Reasoning})
		}
		if d.Content != "" {
			c.got.Content += d.Content
			out = append(out, ChatDelta{Content: d.Content})
		}
		if d.Call == nil {
			continue
		}
		for len(c.calls) <= d.Call.Index {
			out = c.flush(out) // an earlier call is complete
			c.calls = append(c.calls, callState{})
		}
		call := &c.calls[d.Call.Index]
		if d.Call.ID != "" {
			call.id = d.Call.ID
		}
		if d.Call.Name != "" {
			call.name = d.Call.Name
		}
		call.args += d.Call.Arguments
		if call.args != "" && call.name != "" {
			out = c.flush(out)
		}
	}
	if last {
		out = append(c.flush(out), c.plain(c.heldBack())...)
	}
	return out
}

// heldBack returns what llama.cpp's parser keeps to itself at the end: text that could have become the beginning of a
// call, such as the end of a fenced block where calls are fenced blocks.
func (c *ChatParser) heldBack() string {
	raw, held := c.raw.String(), ""
	for _, word := range c.words {
		for n := min(len(word)-1, len(raw)); n > len(held); n-- {
			if strings.HasSuffix(raw, word[:n]) {
				held = word[:n]
			}
		}
	}
	seen := c.got.Content
	if seen == "" {
		seen = c.got.Reasoning
	}
	if len(c.calls) > 0 || seen != "" && strings.HasSuffix(raw, seen) || !strings.HasSuffix(raw, c.got.Content+held) {
		return ""
	}
	return held
}

// flush delivers what is known of the latest call.
func (c *ChatParser) flush(out []ChatDelta) []ChatDelta {
	i := len(c.calls) - 1
	if i < 0 || c.calls[i].name == "" {
		return out
	}
	call := &c.calls[i]
	delta := &ChatToolCallDelta{Index: i, Arguments: call.args}
	if !call.sent {
		if call.id == "" {
			call.id = c.ids + string([]byte{'0' + byte(i/10%10), '0' + byte(i%10)})
		}
		delta.ID, delta.Name = call.id, call.name
		for len(c.got.ToolCalls) <= i {
			c.got.ToolCalls = append(c.got.ToolCalls, ChatToolCall{})
		}
		c.got.ToolCalls[i] = ChatToolCall{ID: call.id, Name: call.name}
	} else if call.args == "" {
		return out
	}
	c.got.ToolCalls[i].Arguments += call.args
	call.sent, call.args = true, ""
	return append(out, ChatDelta{ToolCall: delta})
}
