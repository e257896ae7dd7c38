package engine

import (
	"strings"
	"unicode/utf8"
)

// output turns sampled tokens into text: it never cuts inside a UTF-8 character, holds back what could still become a
// stop string, and lets the template's parser take reasoning and tool calls out.
type output struct {
	stop   []string
	parser Parser

	text  []byte // everything generated
	sent  int    // of it, what is certain and was handed on
	calls bool   // tool calls were seen
}

// push adds a token's bytes and reports whether a stop string ended the output.
func (o *output) push(piece []byte) (stopped bool) {
	from := len(o.text)
	o.text = append(o.text, piece...)
	for _, stop := range o.stop {
		// A stop string may have begun in earlier tokens, but not before what was handed on.
		start := max(o.sent, from-len(stop)+1)
		if i := strings.Index(string(o.text[start:]), stop); i >= 0 {
			o.text = o.text[:start+i]
			stopped = true
		}
	}
	return stopped
}

// take returns what has become certain since the last call; final hands out everything.
func (o *output) take(final bool) Event {
	certain := len(o.text)
	if !final {
		certain = o.certain()
	}
	var e Event
	if o.parser == nil {
		e.Text = strings.ToValidUTF8(string(o.text[o.sent:certain]), "\uFFFD")
		o.sent = certain
		return e
	}
	if certain == o.sent && !final {
		return e
	}
	fresh := strings.ToValidUTF8(string(o.text[o.sent:certain]), "\uFFFD")
	o.sent = certain
	for _, d := range o.parse(fresh, final) {
		e.Text += d.Text
		e.Reasoning += d.Reasoning
		if d.ToolCall != nil {
			o.calls = true
			e.ToolCalls = append(e.ToolCalls, *d.ToolCall)
		}
	}
	return e
}

// parse feeds the parser. An answer that does not have the template's form is still an answer: it goes on as content.
func (o *output) parse(text string, final bool) []Delta {
	deltas, err := o.parser.Add(text)
	if err == nil && final {
		var rest []Delta
		rest, err = o.parser.Finish()
		deltas = append(deltas, rest...)
	}
	if err != nil {
		deltas = append(deltas, o.parser.Recover()...)
	}
	return deltas
}

// certain is the length of the output that no later token can change the meaning of.
func (o *output) certain() int {
	n := len(o.text)
	for back := 1; back <= utf8.UTFMax-1 && back <= n-o.sent; back++ {
		if b := o.text[n-back]; utf8.RuneStart(b) {
			if !utf8.FullRune(o.text[n-back:]) {
				n -= back
			}
			break
		}
	}
	hold := 0
	for _, stop := range o.stop {
		for k := min(len(stop)-1, n-o.sent); k > hold; k-- {
			if string(o.text[n-k:n]) == stop[:k] {
				hold = k
				break
			}
		}
	}
	n -= hold
	for n > o.sent && n < len(o.text) && !utf8.RuneStart(o.text[n]) {
		n--
	}
	return n
}

func (o *output) close() {
	if o.parser != nil {
		o.parser.Close()
		o.parser = nil
	}
}
