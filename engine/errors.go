package engine

import (
	"errors"
	"fmt"
)

// Errors of the engine. They are matched with errors.Is; the text around them says what to do.
var (
	// ErrQueueFull: the bounded queue is full; try again later.
	ErrQueueFull = errors.New("the engine's queue is full")
	// ErrClosed: the engine was closed, or is closing.
	ErrClosed = errors.New("the engine is closed")
	// ErrBadRequest: the request contradicts itself or the model; see the text. Wrapped by FieldError.
	ErrBadRequest = errors.New("bad request")
	// ErrContextOverflow: prompt (and answer) do not fit the context. Wrapped by OverflowError.
	ErrContextOverflow = errors.New("context length exceeded")
	// ErrInputTooLong: a text is longer than the model reads. Wrapped by OverflowError.
	ErrInputTooLong = errors.New("input too long")
	// ErrBackend: the model failed while computing; other requests go on.
	ErrBackend = errors.New("the model failed")
)

// OverflowError says by how much something did not fit. It unwraps to ErrContextOverflow or ErrInputTooLong.
type OverflowError struct {
	Kind   error // ErrContextOverflow or ErrInputTooLong
	Index  int   // which input, for embeddings
	Tokens int   // what was asked
	Limit  int   // what fits
}

func (e *OverflowError) Error() string {
	if errors.Is(e.Kind, ErrInputTooLong) {
		return fmt.Sprintf("input %d has %d tokens, the model reads at most %d: split it", e.Index, e.Tokens, e.Limit)
	}
	return fmt.Sprintf("the prompt has %d tokens and the context holds %d: shorten the prompt", e.Tokens, e.Limit)
}

func (e *OverflowError) Unwrap() error { return e.Kind }

// FieldError names the field of a Request that is wrong. It unwraps to ErrBadRequest.
type FieldError struct {
	Field   string // as in Request: Grammar, JSONSchema, Sampling.TopP …
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func (e *FieldError) Unwrap() error { return ErrBadRequest }
