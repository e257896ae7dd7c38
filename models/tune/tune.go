// Package tune finds the fastest number format of a model on this processor, and what it costs in quality. It runs the model, so it
// needs C, which the models package it works for does not.
package tune

import (
	"context"
	_ "embed" // the text
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/models"
)

// sampleText is what quality is measured on when no text is given: the sample's documents.
//
//go:embed text.txt
var sampleText string

// Config says what Run tries.
type Config struct {
	Types []string // the quantizations to try beside the file's own
	// Text is what quality is measured on; its first tokens count.
	Text    string
	Bound   float64 // nats per token that may be lost
	Threads int
	// Write keeps the chosen file in the folder.
	Write bool
	// Progress hears of each step: what is done, of which quantization, and how many of all are behind. It may be nil.
	Progress func(step string, done, total int)
}

// Default tries the quantizations that llama.cpp has its fastest kernels for.
func Default() Config {
	return Config{Types: []string{"Q4_0", "IQ4_NL", "Q4_K_M", "Q8_0"}, Text: sampleText, Bound: 0.05, Threads: runtime.GOMAXPROCS(0)}
}

// Validate names what is out of range.
func (c Config) Validate() error {
	if c.Bound < 0 || math.IsNaN(c.Bound) {
		return fmt.Errorf("the bound %v must not be negative", c.Bound)
	}
	if c.Threads < 1 {
		return fmt.Errorf("%d threads: at least one is needed", c.Threads)
	}
	for _, t := range c.Types {
		if _, err := llama.ParseFileType(t); err != nil {
			return err
		}
	}
	return nil
}

// Format is what a model does on this machine in one quantization.
type Format struct {
	Quantization string  `json:"quantization"`
	Bytes        int64   `json:"bytes"`
	Prefill      float64 `json:"prefill"` // tokens per second
	Decode       float64 `json:"decode"`  // tokens per second
	// Cost is how much less likely than with the original file the text is, in nats per token, and Error its standard error,
	// of the differences block by block. Both are 0 for the original.
	Cost  float64 `json:"cost"`
	Error float64 `json:"error"`
	// Fits: the cost is within the bound, with two standard errors to spare.
	Fits bool `json:"fits"`
}

// seconds is what a typical answer takes: a prompt of a thousand tokens, sixty-four generated.
func (f Format) seconds() float64 { return 1000/f.Prefill + 64/f.Decode }

// ThreadRate is what the chosen format does with some threads.
type ThreadRate struct {
	Threads int     `json:"threads"`
	Prefill float64 `json:"prefill"`
	Decode  float64 `json:"decode"`
}

// Tuning is what Run found.
type Tuning struct {
	Model   string       `json:"model"`
	Formats []Format     `json:"formats"` // the original first
	Best    int          `json:"best"`    // the fastest of those that fit
	Threads []ThreadRate `json:"threads"`
	Written string       `json:"written,omitempty"` // the file that was kept
}

// Run measures a chat model in its own quantization and in others, which it makes of it in a hidden place of the library's folder, and
// chooses the fastest whose loss of quality is within the bound. The measurements want a machine that is idle otherwise.
func Run(ctx context.Context, l *models.Library, m models.Installed, c Config) (t *Tuning, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	if err := os.MkdirAll(l.Dir(), 0o755); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(l.Dir(), ".tune-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	t = &Tuning{Model: m.Name}
	total := len(c.Types) + 2
	c.Progress("measuring the file as it is", 0, total)
	base, err := measure(ctx, m.Path, c.Text, c.Threads)
	if err != nil {
		return nil, err
	}
	t.Formats = append(t.Formats, base.format)
	t.Formats[0].Fits = true
	best := m.Path // the file of the best format
	for i, name := range c.Types {
		if strings.EqualFold(name, base.format.Quantization) {
			continue // it is what we began with
		}
		kind, err := llama.ParseFileType(name)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(scratch, name+".gguf")
		c.Progress("writing "+name, i+1, total)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := llama.Quantize(m.Path, path, llama.QuantizeParams{Type: kind, Requantize: true, Threads: c.Threads}); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c.Progress("measuring "+name, i+1, total)
		s, err := measure(ctx, path, c.Text, c.Threads)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f := s.format
		f.Quantization = strings.ToUpper(name)
		f.Cost, f.Error = lost(base.blocks, s.blocks)
		f.Fits = f.Cost+2*f.Error <= c.Bound
		t.Formats = append(t.Formats, f)
		unwanted := path
		if f.Fits && f.seconds() < t.Formats[t.Best].seconds() {
			t.Best, unwanted, best = len(t.Formats)-1, best, path
		}
		if unwanted != m.Path { // a model can be large
			if err := os.Remove(unwanted); err != nil {
				return nil, err
			}
		}
	}
	c.Progress("trying threads", total-1, total)
	if t.Threads, err = measureThreads(ctx, best, c.Threads); err != nil {
		return nil, err
	}
	if c.Write && best != m.Path {
		t.Written, err = l.Keep(ctx, best, m.Name+"-"+t.Formats[t.Best].Quantization+".gguf")
	}
	return t, err
}

// formatName makes a quantization's name of llama.cpp's words for it, such as Q4_K - Medium.
func formatName(words string) string {
	name, more, _ := strings.Cut(words, " - ")
	if suffix, ok := map[string]string{"Small": "_S", "Medium": "_M", "Large": "_L"}[more]; ok {
		return name + suffix
	}
	return name
}

// lost compares what a text's blocks have lost in likelihood: the mean in nats per token, and its standard error. Tokens of a
// block depend on each other, so blocks are what is independent.
func lost(before, after []float64) (mean, deviation float64) {
	n := float64(len(before))
	for i := range before {
		mean += (before[i] - after[i]) / n
	}
	if n < 2 {
		return mean, 0
	}
	for i := range before {
		d := before[i] - after[i] - mean
		deviation += d * d / (n - 1)
	}
	return mean, math.Sqrt(deviation / n)
}

// SlowOnCPU tells whether processors compute a quantization slower than they could: llama.cpp has no kernels for it that
// work on several rows at once.
func SlowOnCPU(quantization string) bool {
	return slices.Contains([]string{"Q4_1", "Q5_0", "Q5_1"}, quantization)
}
