// Package fault is the one table from an error to what a client is told about it.
//
// A Fault is in neutral words; each dialect renders it in its own shape. What nobody foresaw is an internal error with an
// opaque text: its cause goes to the log and never to the client.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// StatusClientGone is logged for a request whose client went away; nobody receives it.
const StatusClientGone = 499

// Types of faults, in OpenAI's words.
const (
	InvalidRequest = "invalid_request_error"
	RateLimit      = "rate_limit_error"
	Forbidden      = "permission_error"
	ServerError    = "server_error"
)

// Codes of faults: stable words that clients act on.
const (
	InvalidJSON     = "invalid_json"
	InvalidType     = "invalid_type"
	InvalidValue    = "invalid_value"
	Missing         = "missing_required_parameter"
	Unknown         = "unknown_parameter"
	Unsupported     = "unsupported_parameter"
	TooLarge        = "request_too_large"
	Timeout         = "request_timeout"
	Encoding        = "unsupported_encoding"
	ContextOverflow = "context_length_exceeded"
	InputTooLong    = "input_too_long"
	NoRoute         = "unknown_url"
	BadMethod       = "method_not_allowed"
	BadOrigin       = "origin_not_allowed"
	NoModel         = "model_not_found"
	NoStore         = "store_not_found"
	QueueFull       = "queue_full"
	Changed         = "document_changed"
	Unavailable     = "unavailable"
	ShuttingDown    = "shutting_down"
	ModelFailed     = "model_failed"
	ClientGone      = "client_gone" // only in the log
	Internal        = "internal_error"
)

// What happens on the way to the client.
var (
	// ErrGone: the client takes no more: it has left, or reads too slowly.
	ErrGone = errors.New("the client is gone")
	// ErrShutdown is the cause with which a server that stops cancels what it could not finish.
	ErrShutdown = errors.New("the server is shutting down")
)

// Fault is an error with what a client is told about it.
type Fault struct {
	Status  int
	Type    string
	Code    string
	Param   string // the field that is wrong, as messages[0].role; empty when none is
	Message string // without the field's name
	// Retry is how long a client had better wait before it tries again; 0 when trying again is no use.
	Retry time.Duration
	Cause error // for the log
}

// Bad is a request that the client has to change; param names the field.
func Bad(code, param, format string, args ...any) *Fault {
	return &Fault{Status: http.StatusBadRequest, Type: InvalidRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

func (f *Fault) Error() string { return f.Text() }

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// Text is the message for people, with the field's name in front.
func (f *Fault) Text() string {
	if f.Param == "" {
		return f.Message
	}
	return f.Param + ": " + f.Message
}

// Of gives the fault of an error. The request's context tells a client that left from a server that stops.
func Of(ctx context.Context, err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	f := of(ctx, err)
	f.Cause = err
	return f
}

func of(ctx context.Context, err error) *Fault {
	if errors.Is(err, ErrGone) || ctx.Err() != nil && ended(err) {
		if errors.Is(context.Cause(ctx), ErrShutdown) {
			return unavailable(ShuttingDown, "the server is shutting down: try again")
		}
		return &Fault{Status: StatusClientGone, Type: InvalidRequest, Code: ClientGone, Message: "the client went away"}
	}
	if overflow, ok := errors.AsType[*engine.OverflowError](err); ok {
		if errors.Is(overflow, engine.ErrInputTooLong) {
			return Bad(InputTooLong, fmt.Sprintf("input[%d]", overflow.Index), "%s", overflow.Error())
		}
		return Bad(ContextOverflow, "messages", "%s", overflow.Error())
	}
	if field, ok := errors.AsType[*engine.FieldError](err); ok {
		return Bad(InvalidValue, field.Field, "%s", field.Problem)
	}
	if mismatch, ok := errors.AsType[*retrieval.EmbedderError](err); ok {
		return broken(mismatch.Error())
	}
	for _, row := range [...]struct {
		err   error
		fault *Fault
	}{
		{engine.ErrQueueFull, &Fault{Status: http.StatusTooManyRequests, Type: RateLimit, Code: QueueFull,
			Message: "too many requests are waiting: try again", Retry: time.Second}},
		{engine.ErrContextOverflow, Bad(ContextOverflow, "messages", "the prompt does not fit the context: shorten it")},
		{engine.ErrInputTooLong, Bad(InputTooLong, "input", "longer than the embedding model reads: split it")},
		{engine.ErrBadRequest, Bad(InvalidValue, "", "%s", err.Error())},
		{engine.ErrClosed, unavailable(Unavailable, "the model is being unloaded: try again")},
		{engine.ErrBackend, &Fault{Status: http.StatusInternalServerError, Type: ServerError, Code: ModelFailed,
			Message: "the model failed on this request: try again", Retry: time.Second}},
		{answer.ErrNoQuestion, Bad(InvalidValue, "messages", "%s", answer.ErrNoQuestion.Error())},
		{answer.ErrDocumentChanged, &Fault{Status: http.StatusConflict, Type: InvalidRequest, Code: Changed,
			Message: answer.ErrDocumentChanged.Error(), Retry: time.Second}},
		{retrieval.ErrNoStore, &Fault{Status: http.StatusNotFound, Type: InvalidRequest, Code: NoStore, Param: "quipu.store",
			Message: retrieval.ErrNoStore.Error()}},
		{retrieval.ErrStoreName, Bad(InvalidValue, "quipu.store", "%s", retrieval.ErrStoreName.Error())},
		{retrieval.ErrQuery, Bad(InvalidValue, "messages", "%s", retrieval.ErrQuery.Error())},
		{retrieval.ErrNoEmbedder, broken(retrieval.ErrNoEmbedder.Error())},
		{retrieval.ErrClosed, unavailable(Unavailable, retrieval.ErrClosed.Error())},
		{retrieval.ErrBusy, unavailable(Unavailable, retrieval.ErrBusy.Error())},
	} {
		if errors.Is(err, row.err) {
			return row.fault
		}
	}
	return &Fault{Status: http.StatusInternalServerError, Type: ServerError, Code: Internal, Message: "internal error"}
}

// ended reports what a request fails with when its context is over.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrClosed)
}

// broken is what the server's operator has to change: trying again is no use.
func broken(message string) *Fault {
	return &Fault{Status: http.StatusServiceUnavailable, Type: ServerError, Code: Unavailable, Message: message}
}

// unavailable is what passes.
func unavailable(code, message string) *Fault {
	return &Fault{Status: http.StatusServiceUnavailable, Type: ServerError, Code: code, Message: message, Retry: time.Second}
}
