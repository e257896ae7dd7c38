package server

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/quipu-ai/quipu/server/access"
)

// metrics are the server's own, in a registry of their own.
type metrics struct {
	registry *prometheus.Registry

	inFlight prometheus.Gauge
	requests *prometheus.CounterVec   // route, method, status
	seconds  *prometheus.HistogramVec // route
	stages   *prometheus.HistogramVec // model, stage
	tokens   *prometheus.CounterVec   // model, kind
	answers  *prometheus.CounterVec   // model, outcome
}

func newMetrics(others []prometheus.Collector) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 18) // 1 ms to 131 s
	m := &metrics{
		registry: prometheus.NewRegistry(),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "quipu_http_requests_in_flight", Help: "HTTP requests being served."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_http_requests_total",
			Help: "HTTP requests, by how they ended; 499 is a client that went away."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "quipu_http_request_seconds",
			Help: "Time from a request to the end of its answer.", Buckets: buckets}, []string{"route"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "quipu_chat_stage_seconds",
			Help:    "Time of a chat request's stages: queue, retrieve, prefill, first_token (since the request reached the model), decode, check.",
			Buckets: buckets}, []string{"model", "stage"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_tokens_total",
			Help: "Tokens: prompt, cached (prompt tokens not computed again) and generated."}, []string{"model", "kind"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_grounded_answers_total",
			Help: "Answers from the documents: cited, abstained, or uncited."}, []string{"model", "outcome"}),
	}
	own := []prometheus.Collector{m.inFlight, m.requests, m.seconds, m.stages, m.tokens, m.answers,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
	for _, c := range append(own, others...) {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(l *access.Line, h access.HTTP) {
	status := l.Status(h.Status)
	m.requests.WithLabelValues(h.Route, methodLabel(h.Method), strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(h.Route).Observe(h.Took.Seconds())
	if l.Model == "" {
		return
	}
	for kind, n := range map[string]int{"prompt": l.Usage.PromptTokens, "cached": l.Usage.CachedTokens, "generated": l.Usage.GeneratedTokens} {
		m.tokens.WithLabelValues(l.Model, kind).Add(float64(n))
	}
	if !l.Chat || l.Fault != nil {
		return
	}
	for stage, ms := range map[string]float64{"queue": l.Timings.QueueMS, "retrieve": l.Timings.RetrieveMS, "prefill": l.Timings.PrefillMS,
		"first_token": l.Timings.FirstTokenMS, "decode": l.Timings.DecodeMS, "check": l.Timings.CheckMS} {
		if ms > 0 {
			m.stages.WithLabelValues(l.Model, stage).Observe(ms / 1000)
		}
	}
	if l.Grounded {
		m.answers.WithLabelValues(l.Model, outcome(l)).Inc()
	}
}

func outcome(l *access.Line) string {
	switch {
	case l.Abstained:
		return "abstained"
	case l.Citations > 0:
		return "cited"
	default:
		return "uncited"
	}
}

// methodLabel keeps invented methods from filling the registry.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
