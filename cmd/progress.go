package cmd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quipu-ai/quipu/models"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long piece of work is: a bar on a terminal, else a line every few seconds, so that a log stays
// readable, also while nothing moves. It writes to standard error; results alone go to standard output. One goroutine uses it,
// and done ends its own.
type progress struct {
	pool *mpb.Progress
	bar  *mpb.Bar

	out   io.Writer
	every time.Duration
	over  chan struct{}
	label string
	unit  func(int64) string

	mu           sync.Mutex
	last         time.Time
	known        bool
	item         string // being worked on; empty where the label says it
	value, total int64
}

// newProgress starts showing work called label; unit renders an amount (nil: plain numbers). The total may still be 0.
func newProgress(label string, total int64, unit func(int64) string) *progress {
	if unit == nil {
		unit = func(n int64) string { return fmt.Sprint(n) }
	}
	p := &progress{out: os.Stderr, every: 5 * time.Second, last: time.Now(), label: label, unit: unit, over: make(chan struct{})}
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		go p.tick(p.over, time.Second)
		return p
	}
	p.pool = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond))
	p.bar = p.pool.AddBar(total,
		mpb.PrependDecorators(decor.Name(label+" ")),
		mpb.AppendDecorators(
			decor.Any(func(s decor.Statistics) string {
				p.mu.Lock()
				defer p.mu.Unlock()
				return fmt.Sprintf(" %s / %s %s ", unit(s.Current), unit(s.Total), p.item)
			}),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "done"),
		))
	return p
}

// set reports that done of total is behind us.
func (p *progress) set(done, total int64) {
	if p.bar != nil {
		p.bar.SetTotal(total, false)
		p.bar.SetCurrent(done)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.value, p.total = true, done, total
	p.say()
}

// at names what is being worked on, of several.
func (p *progress) at(item string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.item = item
}

// say writes the line when it is time for one.
func (p *progress) say() {
	if !p.known || time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	line := p.label + ": " + p.unit(p.value)
	if p.total > 0 { // else it is not known yet
		line += " of " + p.unit(p.total)
	}
	if p.item != "" {
		line += ", at " + p.item
	}
	fmt.Fprintln(p.out, line)
}

// tick says it again and again while one step takes long.
func (p *progress) tick(over <-chan struct{}, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			p.say()
			p.mu.Unlock()
		case <-over:
			return
		}
	}
}

// line prints a line above the bar.
func (p *progress) line(text string) {
	if p.pool != nil {
		fmt.Fprintln(p.pool, text)
		return
	}
	fmt.Fprintln(p.out, text)
}

// done ends the bar; a bar that did not reach its total stays as it is.
func (p *progress) done() {
	if p.bar == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.over != nil {
			close(p.over)
			p.over = nil
		}
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.pool.Wait()
}

// steps shows the work on models' files: a bar for each step of each file.
type steps struct {
	bar *progress
	now models.Progress
}

func (s *steps) show(p models.Progress) {
	if s.bar == nil || p.Step != s.now.Step || p.File != s.now.File {
		s.done()
		unit := byteSize
		if p.Step == models.Importing {
			unit = nil // tensors
		}
		s.bar = newProgress(string(p.Step)+" "+p.File, p.Total, unit)
	}
	s.now = p
	s.bar.set(p.Done, p.Total)
}

func (s *steps) done() {
	if s.bar != nil {
		s.bar.done()
		s.bar = nil
	}
}

// byteSize renders bytes for people.
func byteSize(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// ingestion shows how an ingestion gets on, and a line for each document that was refused.
func (p *progress) ingestion(now retrieval.Progress) {
	if now.Last != nil && now.Last.Code != "" {
		p.line(oneLine(fmt.Sprintf("%s: %s (%s)", now.Last.File, now.Last.Reason, now.Last.Code)))
	}
	p.at("")
	if now.Last == nil {
		p.at(oneLine(fmt.Sprintf("%s, %d passages", now.File, now.Passages)))
	}
	p.set(int64(now.Documents), int64(now.Total))
}
