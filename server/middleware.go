package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/rs/zerolog"
)

const requestIDHeader = "X-Request-Id"

// record gives every request its id, its line in the log and its place in the metrics.
func (s *Server) record(m *metrics) gin.HandlerFunc {
	return func(c *gin.Context) {
		began := time.Now()
		line := &access.Line{ID: requestID(c.GetHeader(requestIDHeader))}
		c.Header(requestIDHeader, line.ID)
		c.Request = c.Request.WithContext(access.With(c.Request.Context(), line))
		m.inFlight.Inc()
		// Deferred, because the handler of a stream that panicked goes on panicking.
		defer func() {
			m.inFlight.Dec()
			h := access.HTTP{Method: c.Request.Method, Route: route(c), Status: c.Writer.Status(), Bytes: c.Writer.Size(), Took: time.Since(began)}
			m.observe(line, h)
			line.Write(&s.deps.Log, h, level(h.Route))
		}()
		c.Next()
	}
}

// requestID takes over a proxy's id when it is harmless, and else makes one.
func requestID(sent string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if sent != "" && len(sent) <= 64 && strings.Trim(sent, harmless) == "" {
		return sent
	}
	return "req_" + rand.Text()
}

// route is the pattern that matched, so that logs and metrics have few.
func route(c *gin.Context) string {
	if pattern := c.FullPath(); pattern != "" {
		return pattern
	}
	return "none"
}

// level keeps probes, which come every few seconds, out of the log.
func level(route string) zerolog.Level {
	switch route {
	case "/healthz", "/readyz", "/metrics":
		return zerolog.DebugLevel
	default:
		return zerolog.InfoLevel
	}
}

// recover turns a panic into an internal error. A response that has begun can't become one: its connection is cut, so
// that the client doesn't take it for whole.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		err, _ := p.(error)
		if errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		line := access.From(c.Request.Context())
		s.deps.Log.Error().Str("request", line.ID).Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("panic")
		f := &fault.Fault{Status: http.StatusInternalServerError, Type: fault.ServerError, Code: fault.Internal, Message: "internal error"}
		if !c.Writer.Written() {
			openai.Fail(c, f)
			return
		}
		line.Fault = f
		panic(http.ErrAbortHandler)
	}()
	c.Next()
}

// starting refuses what needs a model.
func starting(c *gin.Context) {
	openai.Fail(c, &fault.Fault{Status: http.StatusServiceUnavailable, Type: fault.ServerError, Code: fault.Unavailable,
		Message: "the models are being loaded: try again", Retry: 5 * time.Second})
}

func noRoute(c *gin.Context) {
	openai.Fail(c, &fault.Fault{Status: http.StatusNotFound, Type: fault.InvalidRequest, Code: fault.NoRoute,
		Message: fmt.Sprintf("there is no %.100q here", c.Request.URL.Path)})
}

func noMethod(c *gin.Context) {
	openai.Fail(c, &fault.Fault{Status: http.StatusMethodNotAllowed, Type: fault.InvalidRequest, Code: fault.BadMethod,
		Message: fmt.Sprintf("%.20q is not allowed here; allowed: %s", c.Request.Method, c.Writer.Header().Get("Allow"))})
}

// patient gives every write of a response a deadline, so that a client that stops reading can't hold its request, and
// what that generates, forever.
func patient(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&patientWriter{ResponseWriter: w, control: http.NewResponseController(w), limit: limit}, r)
	})
}

// patientWriter sets the deadline anew before each write. net/http lifts it when the request is over.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.extend(); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// FlushError implements what http.ResponseController looks for.
func (p *patientWriter) FlushError() error {
	if err := p.extend(); err != nil {
		return err
	}
	return p.control.Flush()
}

// Flush implements http.Flusher, which gin needs. Its error shows again at the next write.
func (p *patientWriter) Flush() { _ = p.FlushError() }

// Unwrap leads http.ResponseController on.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *patientWriter) extend() error {
	err := p.control.SetWriteDeadline(time.Now().Add(p.limit))
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a recorder in a test
	}
	return err
}
