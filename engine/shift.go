package engine

import (
	"fmt"
	"slices"
)

// A shift lets a stream that has filled its context go on (llama.cpp's context shift): the beginning of the sequence stays, the
// older half of what follows it is dropped, and the KV of the rest is moved up behind the beginning. There it still knows of the
// tokens that are gone, which attention in later layers read; so nobody else gets it. Cells may be shared with prefixes and other
// streams, so they are not moved where they are: the rest is lifted, and placed in cells of its own.

const (
	// shiftSinks is how many tokens at the beginning always stay: attention leans on the first few, whatever they say (Xiao et
	// al. 2023, "Efficient Streaming Language Models with Attention Sinks").
	shiftSinks = 4
	// shiftRoom is how many tokens of the context a request must leave to go on with.
	shiftRoom = 8
	// shiftMost bounds MaxTokens of a request that shifts, which the context does not.
	shiftMost = 1 << 17
)

// checkShift refuses what the backend cannot do, and what would never end.
func (e *Engine) checkShift(r *Request) error {
	bad := func(field, problem string) error { return &FieldError{Field: field, Problem: problem} }
	switch {
	case !r.Shift && r.Keep != 0:
		return bad("Keep", "only of use with Shift")
	case !r.Shift:
		return nil
	case e.limits.Whole:
		return bad("Shift", "the model's memory is recurrent: nothing can be taken out of it")
	case !e.moves():
		return bad("Shift", "what was computed with this model cannot be moved to other positions")
	case r.Keep < KeepPrompt:
		return bad("Keep", "must be a number of tokens, or -1 for the whole prompt")
	case r.MaxTokens == 0:
		return bad("MaxTokens", "must be set with Shift: the context does not end the answer then")
	case r.MaxTokens > shiftMost:
		return bad("MaxTokens", fmt.Sprintf("at most %d with Shift", shiftMost))
	default:
		return nil
	}
}

// moves tells whether KV can be placed at another position than where it was computed.
func (e *Engine) moves() bool {
	return e.placer != nil && e.placer.Moves() && !e.limits.Whole
}

// kept is how many tokens a shift leaves at the beginning of a request's sequence. A passage stays whole or not at all: part of one
// that was placed is nothing that others could share.
func (e *Engine) kept(r *Request, prompt []Token, passages []Range) (int, error) {
	keep := r.Keep
	switch keep {
	case KeepPrompt:
		keep = len(prompt)
	case KeepSystem:
		system, err := e.system(r, prompt)
		if err != nil {
			return 0, err
		}
		keep = max(shiftSinks, system)
	}
	if most := e.config.Context - shiftRoom; keep > most {
		return 0, &FieldError{Field: "Keep", Problem: fmt.Sprintf("%d tokens would stay, at most %d of a context of %d may", keep, max(most, 0), e.config.Context)}
	}
	for _, p := range passages {
		if p.splits(keep) {
			keep = p.From
		}
	}
	return max(1, keep), nil
}

// system is how many tokens of a chat's prompt stand before what the first message says that is not the system's: what they have in
// common with the prompt of a chat in which that message says something else. It is 0 where there is no system message.
func (e *Engine) system(r *Request, prompt []Token) (int, error) {
	if r.Chat == nil {
		return 0, nil
	}
	first := slices.IndexFunc(r.Chat.Messages, func(m Message) bool { return m.Role != "system" && m.Role != "developer" })
	if first < 0 || first == 0 && len(r.Chat.Documents) == 0 {
		return 0, nil
	}
	other := *r.Chat
	other.Messages = slices.Clone(other.Messages)
	if said := &other.Messages[first].Content; len(*said) > 0 && (*said)[0] == 'A' {
		*said = "B"
	} else {
		*said = "A"
	}
	rendered, err := e.backend.Render(&other, r.JSONSchema)
	if err != nil {
		return 0, err
	}
	if rendered.Parser != nil {
		rendered.Parser.Close()
	}
	return CommonPrefix(prompt, rendered.Prompt), nil
}

// full tells whether a stream has filled the context and is to be shifted before it goes on.
func (t *task) full(context int) bool {
	return t.generation != nil && t.generation.keep > 0 && len(t.tokens) >= context
}

// feed takes tokens that an earlier run generated, and drops what that run dropped.
func (t *task) feed(generated []Token, context int) {
	for len(generated) > 0 {
		n := len(generated)
		if t.generation.keep > 0 {
			n = min(n, context-len(t.tokens))
		}
		t.tokens = append(t.tokens, generated[:n]...)
		generated = generated[n:]
		if t.full(context) {
			t.drop()
		}
	}
}

// drop forgets the older half of the tokens behind the beginning that stays, and returns where they stood. What is computed of the
// task is its caller's to mend.
func (t *task) drop() Range {
	keep := t.generation.keep
	gone := Range{From: keep, To: keep + (len(t.tokens)-keep)/2}
	t.tokens = slices.Concat(t.tokens[:gone.From], t.tokens[gone.To:])
	if t.prompt > keep {
		t.prompt = max(keep, t.prompt-(gone.To-gone.From))
	}
	t.usage.DroppedTokens += gone.To - gone.From
	t.passages = slices.DeleteFunc(slices.Clone(t.passages), func(p placement) bool { return p.To > keep })
	return gone
}

// shift makes room in the context of a stream that has filled it. It reports whether the stream can go on in this step: it cannot
// when it had to give way for lack of cells, or when its KV could not be moved and is computed again.
func (l *loop) shift(t *task) bool {
	// The cells that others hold as well stay theirs, so as many more are needed; those of kept prefixes only until they are forgotten.
	for l.unclaimed() < l.cells.shared(t.sequence, t.generation.keep) {
		if !l.forgetOldest(nil) && !l.giveWay(t) {
			return false
		}
	}
	l.unfollow(t)
	computed := t.computed
	gone := t.drop()
	state, err := l.placer.Lift(t.sequence, gone.To, computed)
	l.cut(t.sequence, gone.From)
	if err == nil {
		err = l.placer.Place(state, 0, t.sequence, gone.From)
	}
	if t.shifted = 0; err == nil {
		l.cells.grow(t.sequence, state.N)
		t.shifted = gone.From
	}
	t.computed = l.cells.len(t.sequence)
	t.claim = min(t.claim, len(t.tokens)+t.generation.limit-t.usage.GeneratedTokens)
	return err == nil
}

// genuine is how many of a task's tokens are computed as everybody would compute them.
func (t *task) genuine() int {
	n := min(t.computed, len(t.tokens))
	if t.shifted > 0 {
		n = min(n, t.shifted)
	}
	return n
}
