package cmd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long piece of work is: a bar on a terminal, else a line every few seconds, so that a log stays
// readable. It writes to standard error; results alone go to standard output. One goroutine uses it.
type progress struct {
	pool *mpb.Progress
	bar  *mpb.Bar

	out   io.Writer
	every time.Duration
	mu    sync.Mutex
	last  time.Time
	label string
	unit  func(int64) string
}

// newProgress starts showing work called label; unit renders an amount (nil: plain numbers). The total may still be 0.
func newProgress(label string, total int64, unit func(int64) string) *progress {
	if unit == nil {
		unit = func(n int64) string { return fmt.Sprint(n) }
	}
	p := &progress{out: os.Stderr, every: 5 * time.Second, last: time.Now(), label: label, unit: unit}
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return p
	}
	p.pool = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond))
	p.bar = p.pool.AddBar(total,
		mpb.PrependDecorators(decor.Name(label+" ")),
		mpb.AppendDecorators(
			decor.Any(func(s decor.Statistics) string {
				return fmt.Sprintf(" %s / %s ", unit(s.Current), unit(s.Total))
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
	if time.Since(p.last) >= p.every {
		p.last = time.Now()
		if total <= 0 { // not known yet
			fmt.Fprintf(p.out, "%s: %s\n", p.label, p.unit(done))
			return
		}
		fmt.Fprintf(p.out, "%s: %s of %s\n", p.label, p.unit(done), p.unit(total))
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
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.pool.Wait()
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
