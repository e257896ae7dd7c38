package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/quipu-ai/quipu/engine"
)

// Tokenizes tells whether the server renders and tokenizes prompts.
func (u *Upstream) Tokenizes() bool { return u.words != openAI }

// Tokenize splits plain text, where the server does that.
func (u *Upstream) Tokenize(ctx context.Context, text string) ([]engine.Token, error) {
	return u.split(ctx, text, false, false)
}

// Render returns the prompt's tokens, where the server renders and tokenizes. Where its documents stand it does not say.
func (u *Upstream) Render(ctx context.Context, r *engine.Request) (engine.Prompt, error) {
	if err := u.expressible(r); err != nil {
		return engine.Prompt{}, err
	}
	tokens, err := u.render(ctx, r)
	return engine.Prompt{Tokens: tokens}, err
}

func (u *Upstream) render(ctx context.Context, r *engine.Request) ([]engine.Token, error) {
	switch {
	case r.Tokens != nil:
		return slices.Clone(r.Tokens), nil
	case r.Chat == nil:
		return u.split(ctx, r.Text, true, false)
	}
	b := body{"model": u.info.Name}
	b.conversation(r.Chat)
	switch u.words {
	case vLLM:
		return u.tokens(ctx, b)
	case llamaServer:
		var rendered struct {
			Prompt string `json:"prompt"`
		}
		if err := u.call(ctx, http.MethodPost, u.root()+"/apply-template", b, &rendered); err != nil {
			return nil, err
		}
		return u.split(ctx, rendered.Prompt, true, true)
	default:
		return nil, fmt.Errorf("upstream: rendering: %w", errors.ErrUnsupported)
	}
}

// split tokenizes a text; start adds what a prompt begins with, and special reads control tokens in it, which vLLM always does.
func (u *Upstream) split(ctx context.Context, text string, start, special bool) ([]engine.Token, error) {
	switch u.words {
	case vLLM:
		return u.tokens(ctx, body{"model": u.info.Name, "prompt": text, "add_special_tokens": start})
	case llamaServer:
		return u.tokens(ctx, body{"content": text, "add_special": start, "parse_special": special})
	default:
		return nil, fmt.Errorf("upstream: tokenizing: %w", errors.ErrUnsupported)
	}
}

func (u *Upstream) tokens(ctx context.Context, b body) ([]engine.Token, error) {
	var got struct {
		Tokens []engine.Token `json:"tokens"`
	}
	err := u.call(ctx, http.MethodPost, u.root()+"/tokenize", b, &got)
	return got.Tokens, err
}

func sortByLogprob(top []engine.TokenInfo) {
	slices.SortFunc(top, func(a, b engine.TokenInfo) int { return cmp.Compare(b.Logprob, a.Logprob) })
}
