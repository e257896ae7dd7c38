package answer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// fits refuses a conversation that leaves no room for passages and answer, before anything is searched for.
func (a *Answerer) fits(ctx context.Context, q Question, c *conversation) error {
	if q.TopK < 0 {
		return fmt.Errorf("%w: TopK %d is negative", retrieval.ErrQuery, q.TopK)
	}
	prompt, err := a.generator.Render(ctx, &engine.Request{Chat: a.prompt(c, nil)})
	if err != nil {
		return err
	}
	if n, limit := len(prompt.Tokens), a.room(q); n > limit {
		return &engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: n, Limit: limit}
	}
	return nil
}

// room is the tokens that a prompt may have, so that the answer fits behind it.
func (a *Answerer) room(q Question) int { return a.generator.Info().Context - q.MaxTokens }

// packed is a request with the hits that are in it.
type packed struct {
	request *engine.Request
	hits    []retrieval.Hit
	tokens  int // of the prompt
}

// pack fills the context with whole passages, best first. What doesn't fit is left out, never cut; when not even the best
// passage fits it is an engine.OverflowError.
func (a *Answerer) pack(ctx context.Context, q Question, c *conversation, hits []retrieval.Hit) (*packed, error) {
	p := &packed{request: &engine.Request{ID: q.ID, Key: q.Key, MaxTokens: q.MaxTokens, Stop: q.Stop, Sampling: q.Sampling, Logprobs: -1}}
	limit := a.room(q)
	var overflow error
	for _, h := range hits[:min(len(hits), q.TopK)] {
		more := append(slices.Clip(p.hits), h)
		chat := a.prompt(c, more)
		prompt, err := a.generator.Render(ctx, &engine.Request{Chat: chat})
		if err != nil {
			return nil, err
		}
		n := len(prompt.Tokens)
		if n > limit {
			overflow = &engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: n, Limit: limit}
			continue
		}
		p.hits, p.request.Chat, p.tokens = more, chat, n
	}
	if len(p.hits) == 0 {
		return nil, overflow
	}
	return p, nil
}

// prompt anchors the conversation in the passages, which the engine computes once for all questions where it can. They stand in
// the order of their documents, whatever their scores, so that questions on the same passages share the prompt's beginning.
func (a *Answerer) prompt(c *conversation, hits []retrieval.Hit) *engine.Chat {
	system := append([]string{a.config.Instruction}, c.system...)
	chat := &engine.Chat{Messages: append([]engine.Message{{Role: "system", Content: strings.Join(system, "\n\n")}}, c.turns...)}
	hits = slices.Clone(hits)
	slices.SortStableFunc(hits, func(x, y retrieval.Hit) int {
		return cmp.Or(cmp.Compare(x.Passage.File, y.Passage.File), cmp.Compare(x.Passage.Ordinal, y.Passage.Ordinal))
	})
	for _, h := range hits {
		chat.Documents = append(chat.Documents, engine.Document{Title: standing(h.Passage), Text: strings.TrimSpace(h.Passage.Text)})
	}
	chat.Messages = append(chat.Messages, engine.Message{Role: "user", Content: "Question: " + c.question})
	return chat
}

// standing is the path of headings that a passage stands under.
func standing(p retrieval.Passage) string {
	path := p.Headings
	if p.Title != "" && (len(path) == 0 || path[0] != p.Title) {
		path = append([]string{p.Title}, path...)
	}
	return strings.Join(path, " > ")
}
