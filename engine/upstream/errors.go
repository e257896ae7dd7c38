package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/quipu-ai/quipu/engine"
)

// problem is an error as OpenAI's API, vLLM and llama-server write it.
type problem struct {
	Message string `json:"message"`
	Param   string `json:"param"`
	Type    string `json:"type"`
	Code    any    `json:"code"` // a word or a number
	// llama-server's, where the prompt is too long.
	Prompt  int `json:"n_prompt_tokens"`
	Context int `json:"n_ctx"`
}

// failure is an error on the way to the server.
func (u *Upstream) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return broken(err)
}

func broken(err error) error { return fmt.Errorf("%w: upstream: %w", engine.ErrBackend, err) }

// refusal is a server's answer that is none.
func (u *Upstream) refusal(ctx context.Context, res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return u.failure(ctx, err)
	}
	// vLLM has had the error both in an envelope and bare.
	var said struct {
		problem
		Error *problem `json:"error"`
	}
	if json.Unmarshal(text, &said) != nil {
		said.Message = string(text[:min(len(text), 200)])
	}
	p := &said.problem
	if said.Error != nil {
		p = said.Error
	}
	return p.as(res.StatusCode)
}

// as is the problem in the engine's words.
func (p *problem) as(status int) error {
	if p.Message == "" {
		p.Message = http.StatusText(status)
	}
	switch {
	case p.Type == "exceed_context_size_error" || p.Code == "context_length_exceeded":
		return &engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: p.Prompt, Limit: p.Context}
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity || status == http.StatusRequestEntityTooLarge:
		field := p.Param
		if field == "" {
			field = "Request"
		}
		return &engine.FieldError{Field: field, Problem: "the upstream server refuses it: " + p.Message}
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: upstream: %s", engine.ErrQueueFull, p.Message)
	default:
		return fmt.Errorf("%w: upstream: status %d: %s", engine.ErrBackend, status, p.Message)
	}
}
