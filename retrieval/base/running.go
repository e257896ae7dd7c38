package base

import (
	"sync"

	"github.com/quipu-ai/quipu/retrieval"
)

// running is what an ingestion has done so far. Safe for concurrent use.
type running struct {
	progress func(retrieval.Progress) // nil: nobody listens

	mu       sync.Mutex                  // held while progress is told, too: one call at a time
	results  []*retrieval.DocumentResult // by place; nil while a document is worked on
	total    int
	done     int
	embedded int
}

// reporter is the place of one document.
type reporter struct {
	of      *running
	file    string
	place   int
	counted int // of its passages
}

// more counts one more document that is to come.
func (r *running) more() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
}

// begin takes the place of the next document.
func (r *running) begin(file string) *reporter {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, nil)
	r.tell(file, nil)
	return &reporter{of: r, file: file, place: len(r.results) - 1}
}

// embedded says how many of the document's passages have vectors.
func (p *reporter) embedded(passages int) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.count(passages)
	p.of.tell(p.file, nil)
}

func (p *reporter) done(result retrieval.DocumentResult) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.count(result.Passages)
	p.of.results[p.place] = &result
	p.of.done++
	p.of.tell(p.file, &result)
}

func (p *reporter) count(passages int) {
	p.of.embedded += passages - p.counted
	p.counted = passages
}

func (r *running) tell(file string, last *retrieval.DocumentResult) {
	if r.progress != nil {
		r.progress(retrieval.Progress{File: file, Documents: r.done, Total: r.total, Passages: r.embedded, Last: last})
	}
}
