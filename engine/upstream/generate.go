package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/quipu-ai/quipu/engine"
)

// Generate asks for a generation; see engine.Generator. It returns when the server has taken or refused it.
func (u *Upstream) Generate(ctx context.Context, r *engine.Request) (*engine.Stream, error) {
	body, chat, err := u.body(r)
	if err != nil {
		return nil, err
	}
	route := "/completions"
	switch {
	case chat:
		route = "/chat/completions"
	case r.MaxTokens == 0 && u.words != llamaServer: // what that route takes for little
		if body["max_tokens"], err = u.most(ctx, r); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	if r.ID != "" {
		header.Set("X-Request-Id", r.ID)
	}
	outer := ctx
	ctx, leave, err := u.enter(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, r.Deadline)
	g := &generation{asked: time.Now(), logprobs: r.Logprobs, seed: r.Sampling.Seed, deadline: r.Deadline}
	answer, err := u.send(ctx, http.MethodPost, u.base+route, body, header)
	if err != nil && !g.late(outer) {
		cancel()
		leave()
		return nil, u.ended(outer, err)
	}
	stream, sink := engine.NewStream(cancel)
	g.sink = sink
	go func() {
		defer leave()
		defer cancel()
		if err == nil {
			err = g.read(answer)
			answer.Close()
		}
		switch {
		case err == nil:
		case g.late(outer):
			g.finish(engine.FinishDeadline)
		default:
			sink.Fail(u.ended(outer, err))
		}
	}()
	return stream, nil
}

// most is how many tokens may follow a prompt.
func (u *Upstream) most(ctx context.Context, r *engine.Request) (int, error) {
	prompt, err := u.render(ctx, r)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return 0, &engine.FieldError{Field: "MaxTokens", Problem: "the upstream server needs a limit"}
	case err == nil && len(prompt) >= u.info.Context:
		err = &engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: len(prompt), Limit: u.info.Context - 1}
	}
	return u.info.Context - len(prompt), err
}

func within(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline)
}

// chunk is a piece of a streamed completion of either route.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content          string `json:"content"`
			ReasoningContent string `json:"reasoning_content"`
			Reasoning        string `json:"reasoning"` // vLLM's newer name for it
			ToolCalls        []struct {
				Index    int    `json:"index"`
				ID       string `json:"id"`
				Function struct {
					Name      string `json:"name"`
					Arguments string `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"delta"`
		Text         string    `json:"text"`
		Logprobs     *logprobs `json:"logprobs"`
		TokenIDs     []int32   `json:"token_ids"`
		FinishReason string    `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		Details          *struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error *problem `json:"error"`
}

// logprobs come as a chat's content, or as a completion's columns.
type logprobs struct {
	Content []struct {
		logprob
		Top []logprob `json:"top_logprobs"`
	} `json:"content"`
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []float32            `json:"token_logprobs"`
	TopLogprobs   []map[string]float32 `json:"top_logprobs"`
}

type logprob struct {
	ID      *int32  `json:"id"` // llama-server
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// unknownID is the id of a token that the server tells by its text alone.
const unknownID engine.Token = -1

func (l logprob) info() engine.TokenInfo {
	t := engine.TokenInfo{ID: unknownID, Text: []byte(l.Token), Logprob: l.Logprob}
	if l.ID != nil {
		t.ID = *l.ID
	}
	if l.Bytes != nil {
		t.Text = make([]byte, len(l.Bytes))
		for i, b := range l.Bytes {
			t.Text[i] = byte(b)
		}
	}
	return t
}

// generation is a stream that comes from the server. One goroutine reads it.
type generation struct {
	sink     *engine.Sink
	logprobs int
	seed     uint32
	deadline time.Time

	asked, first, last time.Time
	usage              engine.Usage
	reason             engine.FinishReason
}

// late tells whether it was the request's own deadline that ended it.
func (g *generation) late(outer context.Context) bool {
	return !g.deadline.IsZero() && !time.Now().Before(g.deadline) && outer.Err() == nil
}

// read passes the server's events on until the last.
func (g *generation) read(answer io.Reader) error {
	lines := bufio.NewReaderSize(answer, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = bytes.TrimSpace(data)
			if string(data) == "[DONE]" {
				break
			}
			var c chunk
			if err := json.Unmarshal(data, &c); err != nil {
				return broken(err)
			}
			if c.Error != nil {
				return c.Error.as(http.StatusInternalServerError)
			}
			if err := g.take(&c); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
	}
	if g.reason == "" {
		return broken(io.ErrUnexpectedEOF)
	}
	g.finish(g.reason)
	return nil
}

// take passes one event on. The last waits for the usage, which comes behind it.
func (g *generation) take(c *chunk) error {
	if c.Usage != nil {
		g.usage = engine.Usage{PromptTokens: c.Usage.PromptTokens, GeneratedTokens: c.Usage.CompletionTokens}
		if c.Usage.Details != nil {
			g.usage.CachedTokens = c.Usage.Details.CachedTokens
		}
	}
	if len(c.Choices) == 0 {
		return nil
	}
	choice := &c.Choices[0]
	switch choice.FinishReason {
	case "":
	case "length":
		g.reason = engine.FinishLength
	case "tool_calls", "function_call":
		g.reason = engine.FinishToolCalls
	case "stop":
		g.reason = engine.FinishStop
	default:
		return fmt.Errorf("%w: upstream: it ends with %q", engine.ErrBackend, choice.FinishReason)
	}
	event := engine.Event{Text: choice.Delta.Content + choice.Text, Reasoning: choice.Delta.ReasoningContent + choice.Delta.Reasoning}
	for _, call := range choice.Delta.ToolCalls {
		event.ToolCalls = append(event.ToolCalls, engine.ToolCall{Index: call.Index, ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments})
	}
	if g.logprobs >= 0 {
		event.Tokens = choice.Logprobs.tokens(choice.TokenIDs)
	}
	if event.Text == "" && event.Reasoning == "" && event.ToolCalls == nil && event.Tokens == nil {
		return nil
	}
	if g.last = time.Now(); g.first.IsZero() {
		g.first = g.last
	}
	event.Usage, event.Timings = g.usage, g.timings()
	g.sink.Send(event)
	return nil
}

// tokens are those that the logprobs tell of.
func (l *logprobs) tokens(ids []int32) []engine.TokenInfo {
	if l == nil {
		return nil
	}
	var tokens []engine.TokenInfo
	for _, one := range l.Content {
		t := one.info()
		for _, other := range one.Top {
			t.Top = append(t.Top, other.info())
		}
		tokens = append(tokens, t)
	}
	for i, text := range l.Tokens {
		t := engine.TokenInfo{ID: unknownID, Text: []byte(text)}
		if i < len(l.TokenLogprobs) {
			t.Logprob = l.TokenLogprobs[i]
		}
		if i < len(l.TopLogprobs) {
			for other, p := range l.TopLogprobs[i] {
				t.Top = append(t.Top, engine.TokenInfo{ID: unknownID, Text: []byte(other), Logprob: p})
			}
			sortByLogprob(t.Top)
		}
		tokens = append(tokens, t)
	}
	if len(ids) == len(tokens) {
		for i, id := range ids {
			tokens[i].ID = id
		}
	}
	return tokens
}

func (g *generation) finish(reason engine.FinishReason) {
	g.sink.Send(engine.Event{Finish: reason, Usage: g.usage, Timings: g.timings(), Seed: g.seed})
}

// timings can't tell the server's queue from its prefill: both are in the time to the first token.
func (g *generation) timings() engine.Timings {
	if g.first.IsZero() {
		return engine.Timings{}
	}
	first := g.first.Sub(g.asked)
	return engine.Timings{Prefill: first, FirstToken: first, Decode: g.last.Sub(g.first)}
}
