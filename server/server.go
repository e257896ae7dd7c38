package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/openai"
	"github.com/quipu-ai/quipu/server/strict"
	"github.com/rs/zerolog"
)

// Deps are what a Server serves. It closes none of them.
type Deps struct {
	Models dispatch.Models
	Stores dispatch.Stores // nil without a knowledge base
	// Ready returns why questions can't be answered yet; nil stands for a server that always can.
	Ready func(context.Context) error
	// Collectors are shown at /metrics beside the server's own.
	Collectors []prometheus.Collector
	// Starting says that there are no models yet: the probes are answered and all else is refused for the moment. Such a
	// Server gives way to the one that has them.
	Starting bool
	Log      zerolog.Logger
}

// Server serves HTTP. Make one with New; Handler and Serve may be used by several goroutines.
type Server struct {
	config   Config
	deps     Deps
	handler  http.Handler
	draining atomic.Bool
}

// New wires a Server; nothing listens yet.
func New(c Config, d Deps) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, deps: d}
	m, err := newMetrics(d.Collectors)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed = true
	router.RedirectTrailingSlash = false
	router.Use(s.record(m), s.recover, newGuard(c).check)
	router.NoRoute(noRoute)
	router.NoMethod(noMethod)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		router.Handle(method, "/healthz", s.healthz)
		router.Handle(method, "/readyz", s.readyz)
	}
	router.GET("/metrics", gin.WrapH(m.handler()))
	if d.Starting {
		router.Use(starting)
	}
	limits := strict.Limits{Bytes: c.MaxBody, Time: c.BodyTimeout}
	openai.New(dispatch.New(d.Models, d.Stores, c.Grounded), d.Models, limits, c.Heartbeat).Routes(router)
	s.handler = patient(router, c.WriteTimeout)
	return s, nil
}

// Handler serves all routes.
func (s *Server) Handler() http.Handler { return s.handler }

// lastWords is the time that cancelled requests have to say so.
const lastWords = 2 * time.Second

// Serve accepts connections until ctx ends, then lets running requests finish within Config.Drain and cancels the rest. It
// closes the listener, and returns nil when it was ctx that ended it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.config.HeaderTimeout,
		IdleTimeout:       s.config.IdleTimeout,
		MaxHeaderBytes:    s.config.MaxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(debugLog{s.deps.Log}, "", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed: // nobody new can come, and those who are there have nobody to wait for
		cancel(fault.ErrShutdown)
		return fmt.Errorf("serve: %w", errors.Join(err, shutdown(server, lastWords), server.Close()))
	case <-ctx.Done():
	}
	s.draining.Store(true)
	log := s.deps.Log
	if s.deps.Starting {
		log = zerolog.Nop() // another goes on
	}
	log.Info().Dur("limit_ms", s.config.Drain).Msg("stopping: letting requests finish")
	err := shutdown(server, s.config.Drain)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn().Msg("requests took too long: cancelling them")
		cancel(fault.ErrShutdown)
		if err = shutdown(server, lastWords); err != nil {
			err = server.Close()
		}
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

func shutdown(server *http.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return server.Shutdown(ctx)
}

// debugLog takes what net/http has to say about broken connections; requests have a line of their own.
type debugLog struct{ log zerolog.Logger }

func (d debugLog) Write(p []byte) (int, error) {
	d.log.Debug().Msg(string(p))
	return len(p), nil
}
