package server

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quipu-ai/quipu/engine"
)

// EngineMetrics shows at /metrics what an engine's loop does. Hand Hooks to the engine, and the EngineMetrics itself to
// Deps.Collectors. Safe for concurrent use.
type EngineMetrics struct {
	waiting, running, cells, threads, shelf atomic.Int64
	gauges                                  []prometheus.Collector
	steps                                   prometheus.Histogram
	rows                                    *prometheus.CounterVec // kind
	guesses                                 *prometheus.CounterVec // source, outcome
	requests                                *prometheus.CounterVec // outcome
	drafting                                prometheus.Counter
}

// NewEngineMetrics makes the metrics of the engine that serves the named model.
func NewEngineMetrics(model string) *EngineMetrics {
	labels := prometheus.Labels{"model": model}
	m := &EngineMetrics{
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "quipu_engine_decode_seconds", Help: "Time to compute one batch.",
			ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_engine_rows_total",
			Help: "Tokens computed in batches: of prompts, or generated before.", ConstLabels: labels}, []string{"kind"}),
		guesses: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_engine_guesses_total",
			Help: "Tokens guessed ahead of a stream, from its text or by the draft model: right, or wrong.", ConstLabels: labels}, []string{"source", "outcome"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_engine_requests_total",
			Help: "Requests that left the engine: ok, or failed (cancelled ones included).", ConstLabels: labels}, []string{"outcome"}),
	}
	m.drafting = prometheus.NewCounter(prometheus.CounterOpts{Name: "quipu_engine_draft_seconds_total",
		Help: "Time that the draft model took, between batches.", ConstLabels: labels})
	gauge := func(name, help string, value *atomic.Int64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value.Load()) }))
	}
	gauge("quipu_engine_requests_waiting", "Requests in the queue.", &m.waiting)
	gauge("quipu_engine_sequences_running", "Sequences at work.", &m.running)
	gauge("quipu_engine_kv_cells_used", "KV cells in use, kept prefixes included.", &m.cells)
	gauge("quipu_engine_threads", "Threads that computed the last batch; they are tuned while running.", &m.threads)
	gauge("quipu_engine_kv_memory_bytes", "KV of passages and prompts kept outside of the cache, in memory.", &m.shelf)
	return m
}

// Hooks count for the metrics.
func (m *EngineMetrics) Hooks() engine.Hooks {
	return engine.Hooks{
		Step: func(s engine.Step) {
			m.waiting.Store(int64(s.Waiting))
			m.running.Store(int64(s.Running))
			m.cells.Store(int64(s.Cells))
			m.threads.Store(int64(s.Threads))
			m.shelf.Store(s.Shelf)
			m.guessed("text", s.Drafted-s.ModelDrafted, s.Accepted-s.ModelAccepted)
			m.guessed("draft_model", s.ModelDrafted, s.ModelAccepted)
			m.drafting.Add(s.Drafting.Seconds())
			m.steps.Observe(s.Took.Seconds())
			m.rows.WithLabelValues("prompt").Add(float64(s.Prompt))
			m.rows.WithLabelValues("generated").Add(float64(s.Rows - s.Prompt))
		},
		Done: func(_ engine.Usage, _ engine.Timings, err error) {
			outcome := "ok"
			if err != nil {
				outcome = "failed"
			}
			m.requests.WithLabelValues(outcome).Inc()
		},
	}
}

func (m *EngineMetrics) guessed(source string, all, right int) {
	m.guesses.WithLabelValues(source, "right").Add(float64(right))
	m.guesses.WithLabelValues(source, "wrong").Add(float64(all - right))
}

// Describe implements prometheus.Collector.
func (m *EngineMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *EngineMetrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(out)
	}
}

func (m *EngineMetrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.steps, m.rows, m.guesses, m.requests, m.drafting}, m.gauges...)
}
