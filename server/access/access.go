// Package access holds what is written down about one HTTP request: the summary line of the log, and what the metrics
// count. It never holds prompts, documents or answers.
package access

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/rs/zerolog"
)

// Line is what is known about a request. The goroutine that serves the request fills it in.
type Line struct {
	ID    string // of the request
	Model string

	Chat      bool // the fields from here on apply
	Stream    bool
	Grounded  bool
	Abstained bool
	Citations int
	Timings   answer.Timings // without TotalMS

	Usage engine.Usage
	Fault *fault.Fault // why it went wrong, if it did
}

type key struct{}

// With returns a context that carries the line.
func With(ctx context.Context, l *Line) context.Context { return context.WithValue(ctx, key{}, l) }

// From returns the context's line; without one, a line that nobody reads.
func From(ctx context.Context) *Line {
	if l, ok := ctx.Value(key{}).(*Line); ok {
		return l
	}
	return &Line{}
}

// HTTP is what the transport knows about a request.
type HTTP struct {
	Method, Route string
	Status        int // as sent
	Bytes         int // of the body, as sent
	Took          time.Duration
}

// Status is how the request ended: a fault in the middle of a stream counts, though the client had got a 200.
func (l *Line) Status(sent int) int {
	if l.Fault != nil {
		return l.Fault.Status
	}
	return sent
}

// Write logs the line at the level that its end calls for.
func (l *Line) Write(log *zerolog.Logger, h HTTP, level zerolog.Level) {
	status := l.Status(h.Status)
	if waiting := level == zerolog.DebugLevel && status == http.StatusServiceUnavailable; status >= 500 && !waiting { // a probe may be told to wait
		level = zerolog.ErrorLevel
	}
	e := log.WithLevel(level).Str("request", l.ID).Str("method", h.Method).Str("route", h.Route).Int("status", status)
	if l.Model != "" {
		e.Str("model", l.Model)
	}
	if l.Chat {
		e.Bool("stream", l.Stream).Bool("grounded", l.Grounded)
		if l.Grounded {
			e.Bool("abstained", l.Abstained).Int("citations", l.Citations).
				Float64("retrieve_ms", tenth(l.Timings.RetrieveMS)).Float64("check_ms", tenth(l.Timings.CheckMS))
		}
		e.Float64("queue_ms", tenth(l.Timings.QueueMS)).Float64("prefill_ms", tenth(l.Timings.PrefillMS)).
			Float64("first_token_ms", tenth(l.Timings.FirstTokenMS)).Float64("decode_ms", tenth(l.Timings.DecodeMS)).
			Int("cached_tokens", l.Usage.CachedTokens).Int("completion_tokens", l.Usage.GeneratedTokens)
		if l.Usage.DroppedTokens > 0 {
			e.Int("dropped_tokens", l.Usage.DroppedTokens)
		}
	}
	if l.Usage.PromptTokens > 0 {
		e.Int("prompt_tokens", l.Usage.PromptTokens)
	}
	e.Float64("total_ms", tenth(float64(h.Took)/float64(time.Millisecond))).Int("bytes", max(h.Bytes, 0))
	if f := l.Fault; f != nil {
		e.Str("code", f.Code)
		if f.Param != "" {
			e.Str("param", f.Param)
		}
		if f.Status >= 500 && f.Cause != nil {
			e.AnErr("cause", f.Cause)
		}
	}
	e.Msg("request")
}

func tenth(ms float64) float64 { return math.Round(ms*10) / 10 }
