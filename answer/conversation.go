package answer

import (
	"strings"

	"github.com/quipu-ai/quipu/engine"
)

// conversation is what the messages come to.
type conversation struct {
	system   []string
	turns    []engine.Message // before the question
	question string
	// standalone is the question as it is searched for: a follow-up carries the content of the question before it.
	standalone string
	// core is the part of it that evidence is judged by.
	core string
}

func newConversation(messages []engine.Message) (*conversation, error) {
	n := len(messages)
	if n == 0 || messages[n-1].Role != "user" || strings.TrimSpace(messages[n-1].Content) == "" {
		return nil, ErrNoQuestion
	}
	c := &conversation{question: strings.TrimSpace(messages[n-1].Content)}
	previous := ""
	for _, m := range messages[:n-1] {
		if m.Role == "system" {
			c.system = append(c.system, m.Content)
			continue
		}
		c.turns = append(c.turns, m)
		if m.Role == "user" {
			previous = m.Content
		}
	}
	c.standalone = c.question
	if previous != "" && followsUp(c.question) {
		c.standalone = join(words(core(previous)), c.question)
	}
	c.core = core(c.standalone)
	return c, nil
}

// coreRunes bounds what evidence is judged by: a question, not the letter that it stands in.
const coreRunes = 400

// core is the end of a long message, from the beginning of a sentence on where one begins there: a letter asks at its end. A
// message of usual length is its own core.
func core(text string) string {
	text = strings.TrimSpace(text)
	runes := []rune(text)
	if len(runes) <= coreRunes {
		return text
	}
	tail := string(runes[len(runes)-coreRunes:])
	if first := sentences(tail)[0]; first[1] < len(tail) {
		tail = tail[first[1]:]
	}
	return strings.TrimSpace(tail)
}

// followsUp reports a question that can't be understood alone: it points back, or is very short.
func followsUp(question string) bool {
	ws := words(question)
	for _, w := range ws {
		if pronouns[w.text] {
			return true
		}
	}
	return len(content(ws)) <= 2
}

// pronouns point back to what was said before.
var pronouns = set("it its they them their this that these those he him his she her one ones there same else")

// join puts the content words of the question before in front of the question, where they aren't in it already.
func join(previous []word, question string) string {
	has := make(map[string]bool)
	for _, w := range words(question) {
		has[w.stem] = true
	}
	var b strings.Builder
	for _, w := range content(previous) {
		if !has[w.stem] {
			b.WriteString(w.text + " ")
		}
	}
	return b.String() + question
}
