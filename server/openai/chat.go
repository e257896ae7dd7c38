package openai

import (
	"crypto/rand"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/sse"
	"github.com/quipu-ai/quipu/server/strict"
)

func (a *API) chatCompletions(c *gin.Context) {
	ctx := c.Request.Context()
	var r chatRequest
	if err := strict.Body(c.Writer, c.Request, a.limits, &r); err != nil {
		Fail(c, err)
		return
	}
	line := access.From(ctx)
	line.Stream = r.Stream
	ask, err := r.ask()
	if err != nil {
		Fail(c, err)
		return
	}
	ask.Request.ID = line.ID
	answers, err := a.open(ctx, ask, r.answers())
	if err != nil {
		Fail(c, err)
		return
	}
	defer answers.close()
	if r.Stream {
		a.stream(c, &r, answers)
	} else {
		whole(c, &r, answers)
	}
}

// whole answers in one piece.
func whole(c *gin.Context, r *chatRequest, from *choices) {
	parts := make([]gathered, len(from.replies))
	for next := range from.events() {
		if next.err != nil {
			Fail(c, next.err)
			return
		}
		parts[next.index].add(next.event)
	}
	out := completion{ID: completionID(), Object: "chat.completion", Created: time.Now().Unix(), Model: from.replies[0].Model}
	usages := make([]engine.Usage, len(parts))
	for i, g := range parts {
		one := choice{Index: i, Message: g.reply(), FinishReason: finishOf(g.end.Finish), DroppedTokens: g.end.Usage.DroppedTokens}
		if r.Logprobs {
			one.Logprobs = logprobsOf(g.tokens)
		}
		out.Choices, usages[i] = append(out.Choices, one), g.end.Usage
	}
	out.Usage = together(usages)
	ok(c, out)
}

func completionID() string { return "chatcmpl-" + rand.Text() }

// stream answers piece by piece. What goes wrong before the first event is an ordinary error, and later an event.
func (a *API) stream(c *gin.Context, r *chatRequest, from *choices) {
	s := &chatStream{
		out:      sse.New(c.Writer, a.heartbeat),
		head:     chunk{ID: completionID(), Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: from.replies[0].Model},
		logprobs: r.Logprobs,
		usage:    r.StreamOptions != nil && r.StreamOptions.IncludeUsage,
		choices:  make([]streamed, len(from.replies)),
	}
	defer s.out.Stop()
	for next := range from.events() {
		err := next.err
		if err == nil {
			err = s.send(next.index, next.event)
		}
		if err == nil {
			continue
		}
		if begun := s.out.Stop(); !begun {
			Fail(c, err)
		} else if f := note(c, err); f.Status != fault.StatusClientGone {
			s.fail(bodyOf(c, f))
		}
		return
	}
}

// chatStream writes streamed answers.
type chatStream struct {
	out             *sse.Writer
	head            chunk
	logprobs, usage bool
	choices         []streamed
	ended           []engine.Usage // of the answers that came to their end
}

// streamed is how far an answer was sent.
type streamed struct {
	greeted bool         // its role
	called  map[int]bool // tool calls' first pieces
}

func (s *chatStream) send(index int, e dispatch.Event) error {
	if choice := &s.choices[index]; !choice.greeted {
		choice.greeted = true
		if err := s.delta(deltaChoice{Index: index, Delta: delta{Role: "assistant", Content: new("")}}); err != nil {
			return err
		}
	}
	d := delta{ReasoningContent: e.Reasoning, ToolCalls: s.choices[index].calls(e.ToolCalls)}
	if e.Text != "" {
		d.Content = &e.Text
	}
	var probabilities *logprobs
	if s.logprobs && len(e.Tokens) > 0 {
		probabilities = logprobsOf(e.Tokens)
	}
	if d.Content != nil || d.ReasoningContent != "" || d.ToolCalls != nil || probabilities != nil {
		if err := s.delta(deltaChoice{Index: index, Delta: d, Logprobs: probabilities}); err != nil {
			return err
		}
	}
	if e.End == nil {
		return nil
	}
	return s.end(index, e.End)
}

// end sends the finish reason with what a grounded answer rests on, and behind the last answer usage, if asked for, and the
// mark that ends every stream.
func (s *chatStream) end(index int, end *dispatch.End) error {
	last := deltaChoice{Index: index, Delta: delta{Quipu: end.Answer}, FinishReason: new(finishOf(end.Finish)), DroppedTokens: end.Usage.DroppedTokens}
	if err := s.delta(last); err != nil {
		return err
	}
	if s.ended = append(s.ended, end.Usage); len(s.ended) < len(s.choices) {
		return nil
	}
	if s.usage {
		u := together(s.ended)
		last := s.head
		last.Choices, last.Usage = []deltaChoice{}, &u
		if err := s.event(last); err != nil {
			return err
		}
	}
	return s.out.Data([]byte("[DONE]"))
}

func (s *streamed) calls(pieces []engine.ToolCall) []toolCallDelta {
	var out []toolCallDelta
	for _, t := range pieces {
		d := toolCallDelta{Index: t.Index, ID: t.ID, Function: functionDelta{Name: t.Name, Arguments: t.Arguments}}
		if !s.called[t.Index] {
			if s.called == nil {
				s.called = make(map[int]bool)
			}
			s.called[t.Index] = true
			d.Type = "function"
		}
		out = append(out, d)
	}
	return out
}

func (s *chatStream) delta(c deltaChoice) error {
	next := s.head
	next.Choices = []deltaChoice{c}
	return s.event(next)
}

func (s *chatStream) event(v any) error {
	data, err := encode(v)
	if err != nil {
		return err
	}
	return s.out.Data(data)
}

// fail tells the client in the stream. When even that can't be sent, it has left, and the access line knows.
func (s *chatStream) fail(body errorBody) {
	_ = s.event(body)
}
