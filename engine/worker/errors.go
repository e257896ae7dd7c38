package worker

import (
	"context"
	"errors"
	"slices"

	"github.com/quipu-ai/quipu/engine"
)

// sentinels keep their identity on the way; an error is known by their places in the list.
var sentinels = []error{
	engine.ErrQueueFull, engine.ErrClosed, engine.ErrBadRequest, engine.ErrContextOverflow, engine.ErrInputTooLong, engine.ErrBackend,
	context.Canceled, context.DeadlineExceeded,
}

// failure is an error on its way.
type failure struct {
	Text     string
	Kinds    []int // of the sentinels that it is
	Field    *engine.FieldError
	Overflow *overflow
}

// overflow is an engine.OverflowError without its kind, which is among the failure's.
type overflow struct{ Index, Tokens, Limit int }

func pack(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	f.Field, _ = errors.AsType[*engine.FieldError](err)
	if o, ok := errors.AsType[*engine.OverflowError](err); ok {
		f.Overflow = &overflow{o.Index, o.Tokens, o.Limit}
	}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			f.Kinds = append(f.Kinds, i)
		}
	}
	return f
}

func (f *failure) unpack() error {
	if f == nil {
		return nil
	}
	a := &arrived{text: f.Text}
	for _, i := range f.Kinds {
		a.causes = append(a.causes, sentinels[i])
	}
	if f.Overflow != nil {
		kind := engine.ErrContextOverflow
		if slices.Contains(a.causes, engine.ErrInputTooLong) {
			kind = engine.ErrInputTooLong
		}
		a.causes = append(a.causes, &engine.OverflowError{Kind: kind, Index: f.Overflow.Index, Tokens: f.Overflow.Tokens, Limit: f.Overflow.Limit})
	}
	if f.Field != nil {
		a.causes = append(a.causes, f.Field)
	}
	return a
}

// arrived is an error of the worker's: it reads the same and is the same to errors.Is and errors.As.
type arrived struct {
	text   string
	causes []error
}

func (a *arrived) Error() string   { return a.text }
func (a *arrived) Unwrap() []error { return a.causes }
