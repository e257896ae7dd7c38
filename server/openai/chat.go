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
	reply, err := a.dispatcher.Open(ctx, ask)
	if err != nil {
		Fail(c, err)
		return
	}
	if r.Stream {
		a.stream(c, &r, reply)
	} else {
		whole(c, &r, reply)
	}
}

// whole answers in one piece.
func whole(c *gin.Context, r *chatRequest, from *dispatch.Reply) {
	var g gathered
	for e, err := range from.Events {
		if err != nil {
			Fail(c, err)
			return
		}
		g.add(e)
	}
	out := choice{Message: g.reply(), FinishReason: finishOf(g.end.Finish)}
	if r.Logprobs {
		out.Logprobs = logprobsOf(g.tokens)
	}
	ok(c, completion{ID: completionID(), Object: "chat.completion", Created: time.Now().Unix(), Model: from.Model,
		Choices: []choice{out}, Usage: usageOf(g.end.Usage)})
}

func completionID() string { return "chatcmpl-" + rand.Text() }

// stream answers piece by piece. What goes wrong before the first event is an ordinary error, and later an event.
func (a *API) stream(c *gin.Context, r *chatRequest, from *dispatch.Reply) {
	s := &chatStream{
		out:      sse.New(c.Writer, a.heartbeat),
		head:     chunk{ID: completionID(), Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: from.Model},
		logprobs: r.Logprobs,
		usage:    r.StreamOptions != nil && r.StreamOptions.IncludeUsage,
		called:   make(map[int]bool),
	}
	defer s.out.Stop()
	for e, err := range from.Events {
		if err == nil {
			err = s.send(e)
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

// chatStream writes one streamed answer.
type chatStream struct {
	out             *sse.Writer
	head            chunk
	logprobs, usage bool
	greeted         bool         // the role was sent
	called          map[int]bool // tool calls whose first piece was sent
}

func (s *chatStream) send(e dispatch.Event) error {
	if !s.greeted {
		s.greeted = true
		if err := s.delta(delta{Role: "assistant", Content: new("")}, nil, nil); err != nil {
			return err
		}
	}
	d := delta{ReasoningContent: e.Reasoning, ToolCalls: s.calls(e.ToolCalls)}
	if e.Text != "" {
		d.Content = &e.Text
	}
	var probabilities *logprobs
	if s.logprobs && len(e.Tokens) > 0 {
		probabilities = logprobsOf(e.Tokens)
	}
	if e.End == nil {
		if d.Content == nil && d.ReasoningContent == "" && d.ToolCalls == nil && probabilities == nil {
			return nil
		}
		return s.delta(d, probabilities, nil)
	}
	return s.end(d, probabilities, e.End)
}

// end sends the last pieces: content, if there still is some; the finish reason with what a grounded answer rests on;
// usage, if asked for; and the mark that ends every stream.
func (s *chatStream) end(d delta, p *logprobs, end *dispatch.End) error {
	if d.Content != nil || d.ReasoningContent != "" || d.ToolCalls != nil || p != nil {
		if err := s.delta(d, p, nil); err != nil {
			return err
		}
	}
	if err := s.delta(delta{Quipu: end.Answer}, nil, new(finishOf(end.Finish))); err != nil {
		return err
	}
	if s.usage {
		u := usageOf(end.Usage)
		last := s.head
		last.Choices, last.Usage = []deltaChoice{}, &u
		if err := s.event(last); err != nil {
			return err
		}
	}
	return s.out.Data([]byte("[DONE]"))
}

func (s *chatStream) calls(pieces []engine.ToolCall) []toolCallDelta {
	var out []toolCallDelta
	for _, t := range pieces {
		d := toolCallDelta{Index: t.Index, ID: t.ID, Function: functionDelta{Name: t.Name, Arguments: t.Arguments}}
		if !s.called[t.Index] {
			s.called[t.Index] = true
			d.Type = "function"
		}
		out = append(out, d)
	}
	return out
}

func (s *chatStream) delta(d delta, p *logprobs, finish *string) error {
	next := s.head
	next.Choices = []deltaChoice{{Delta: d, Logprobs: p, FinishReason: finish}}
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
