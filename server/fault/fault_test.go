package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/servertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is what a client is told, in one comparable value.
type told struct {
	status  int
	kind    string
	code    string
	param   string
	retry   time.Duration
	message string // a part of it
}

// check compares, also with docs/api.md.
func check(t *testing.T, f *fault.Fault, want told) {
	t.Helper()
	got := told{f.Status, f.Type, f.Code, f.Param, f.Retry, want.message}
	if got != want || !strings.Contains(f.Message, want.message) {
		t.Errorf("got %+v %q, want %+v", got, f.Message, want)
	}
	row := fmt.Sprintf("%d `%s` `%s`", f.Status, f.Type, f.Code)
	for _, r := range servertest.Documented(t, "../..", "## Errors") {
		if strings.Join(r[:3], " ") == row {
			return
		}
	}
	t.Errorf("docs/api.md has no row %s", row)
}

func TestOf(t *testing.T) {
	overflow := &engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: 900, Limit: 511}
	tooLong := &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: 3, Tokens: 900, Limit: 512}
	mismatch := &retrieval.EmbedderError{Store: "docs", Has: retrieval.EmbedderInfo{Name: "old", Dimensions: 3}, Offered: retrieval.EmbedderInfo{Name: "new", Dimensions: 4}}
	const s = time.Second
	for _, c := range []struct {
		err  error
		want told
	}{
		{fault.Bad(fault.Missing, "messages", "at least %d", 1), told{400, fault.InvalidRequest, fault.Missing, "messages", 0, "at least 1"}},
		{engine.ErrQueueFull, told{429, fault.RateLimit, fault.QueueFull, "", s, "too many requests"}},
		{overflow, told{400, fault.InvalidRequest, fault.ContextOverflow, "messages", 0, "900 tokens"}},
		{engine.ErrContextOverflow, told{400, fault.InvalidRequest, fault.ContextOverflow, "messages", 0, "does not fit"}},
		{tooLong, told{400, fault.InvalidRequest, fault.InputTooLong, "input[3]", 0, "900 tokens"}},
		{engine.ErrInputTooLong, told{400, fault.InvalidRequest, fault.InputTooLong, "input", 0, "split it"}},
		{&engine.FieldError{Field: "Sampling.TopP", Problem: "must be small"}, told{400, fault.InvalidRequest, fault.InvalidValue, "Sampling.TopP", 0, "must be small"}},
		{engine.ErrBadRequest, told{400, fault.InvalidRequest, fault.InvalidValue, "", 0, "bad request"}},
		{engine.ErrClosed, told{503, fault.ServerError, fault.Unavailable, "", s, "unloaded"}},
		{engine.ErrBackend, told{500, fault.ServerError, fault.ModelFailed, "", s, "the model failed"}},
		{answer.ErrNoQuestion, told{400, fault.InvalidRequest, fault.InvalidValue, "messages", 0, "user's question"}},
		{answer.ErrDocumentChanged, told{409, fault.InvalidRequest, fault.Changed, "", s, "ask again"}},
		{retrieval.ErrNoStore, told{404, fault.InvalidRequest, fault.NoStore, "quipu.store", 0, "no such store"}},
		{retrieval.ErrStoreName, told{400, fault.InvalidRequest, fault.InvalidValue, "quipu.store", 0, "a store's name"}},
		{retrieval.ErrQuery, told{400, fault.InvalidRequest, fault.InvalidValue, "messages", 0, "searched for"}},
		{mismatch, told{503, fault.ServerError, fault.Unavailable, "", 0, "embedded with old"}},
		{retrieval.ErrNoEmbedder, told{503, fault.ServerError, fault.Unavailable, "", 0, "no embedding model"}},
		{retrieval.ErrClosed, told{503, fault.ServerError, fault.Unavailable, "", s, "closed"}},
		{retrieval.ErrBusy, told{503, fault.ServerError, fault.Unavailable, "", s, "another process"}},
		{fault.ErrGone, told{fault.StatusClientGone, fault.InvalidRequest, fault.ClientGone, "", 0, "went away"}},
		// What nobody foresaw says nothing of itself.
		{errors.New("secret: /home/someone/quipu.db"), told{500, fault.ServerError, fault.Internal, "", 0, "internal error"}},
		{retrieval.ErrCorrupt, told{500, fault.ServerError, fault.Internal, "", 0, "internal error"}},
		{io.ErrUnexpectedEOF, told{500, fault.ServerError, fault.Internal, "", 0, "internal error"}},
		// Without an end of the request's context these are somebody else's, not the client's.
		{context.Canceled, told{500, fault.ServerError, fault.Internal, "", 0, "internal error"}},
		{context.DeadlineExceeded, told{500, fault.ServerError, fault.Internal, "", 0, "internal error"}},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			wrapped := fmt.Errorf("outer: %w", c.err)
			f := fault.Of(t.Context(), wrapped)
			check(t, f, c.want)
			if f.Code == fault.Internal && (f.Message != "internal error" || f.Text() != "internal error") {
				t.Errorf("the cause shows: %q", f.Message)
			}
			if _, own := errors.AsType[*fault.Fault](c.err); !own && !errors.Is(f, c.err) {
				t.Errorf("the cause is lost to the log: %v", f.Cause)
			}
		})
	}
}

// The end of a request's context is the client's doing, unless the server stops.
func TestOfAnEndedContext(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	stopping, stop := context.WithCancelCause(t.Context())
	stop(fault.ErrShutdown)
	client := told{fault.StatusClientGone, fault.InvalidRequest, fault.ClientGone, "", 0, "went away"}
	server := told{503, fault.ServerError, fault.ShuttingDown, "", time.Second, "shutting down"}
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want told
	}{
		{gone, context.Canceled, client},
		{gone, engine.ErrClosed, client},
		{late, context.DeadlineExceeded, client},
		{stopping, context.Canceled, server},
		{stopping, engine.ErrClosed, server},
		{stopping, fault.ErrGone, server},
		// A reason of its own is told, whatever else has happened.
		{gone, engine.ErrQueueFull, told{429, fault.RateLimit, fault.QueueFull, "", time.Second, ""}},
		{stopping, fault.Bad(fault.Missing, "n", ""), told{400, fault.InvalidRequest, fault.Missing, "n", 0, ""}},
	} {
		check(t, fault.Of(c.ctx, fmt.Errorf("outer: %w", c.err)), c.want)
	}
}

func TestText(t *testing.T) {
	f := fault.Bad(fault.InvalidValue, "messages[0].role", "unknown role %q", "x")
	if got, want := f.Error(), `messages[0].role: unknown role "x"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.Param = ""
	if got, want := f.Error(), `unknown role "x"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
