package tune

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/models"
)

func TestLost(t *testing.T) {
	for _, c := range []struct {
		before, after   []float64
		mean, deviation float64
	}{
		{[]float64{-2, -3, -4}, []float64{-2, -3, -4}, 0, 0},
		{[]float64{-2, -3, -4}, []float64{-2.5, -3.5, -4.5}, 0.5, 0},
		{[]float64{-2, -2}, []float64{-3, -1}, 0, 1}, // differences of 1 and -1: deviation √2, of the mean √2/√2
		{[]float64{-2}, []float64{-3}, 1, 0},
	} {
		mean, deviation := lost(c.before, c.after)
		if math.Abs(mean-c.mean) > 1e-9 || math.Abs(deviation-c.deviation) > 1e-9 {
			t.Errorf("%v to %v: %f ± %f", c.before, c.after, mean, deviation)
		}
	}
}

func TestFormatName(t *testing.T) {
	for words, want := range map[string]string{"Q4_1": "Q4_1", "Q4_K - Medium": "Q4_K_M", "Q3_K - Large": "Q3_K_L", "IQ4_NL - 4.5 bpw": "IQ4_NL"} {
		if got := formatName(words); got != want {
			t.Errorf("%s is called %s", words, got)
		}
	}
}

func TestLogProbability(t *testing.T) {
	logits := []float32{1000, 1000, 999}
	for token, want := range []float64{-math.Log(2 + 1/math.E), -math.Log(2 + 1/math.E), -1 - math.Log(2+1/math.E)} {
		if got := logProbability(logits, llama.Token(token)); math.Abs(got-want) > 1e-9 {
			t.Errorf("token %d: %f, want %f", token, got, want)
		}
	}
}

// An eight-bit copy of a four-bit file loses nothing to speak of, a two-bit one much; what loses too much is not chosen, however
// fast it is. Nothing is left behind.
func TestTune(t *testing.T) {
	path := starterModel(t)
	l, err := models.New(models.Config{Dir: t.TempDir()})
	must(t, err)
	c := Default()
	c.Types, c.Text, c.Write = []string{"Q8_0", "Q4_1", "Q2_K"}, sampleText[:2500], true
	var steps int
	c.Progress = func(string, int, int) { steps++ }
	got, err := Run(t.Context(), l, models.Installed{Name: "small", Path: path}, c)
	must(t, err)
	if len(got.Formats) != 3 || got.Formats[0].Quantization != "Q4_1" || got.Formats[1].Quantization != "Q8_0" || steps != 6 {
		t.Fatalf("%d steps, formats %+v", steps, got.Formats)
	}
	for _, f := range got.Formats {
		if f.Prefill <= 0 || f.Decode <= 0 || f.Bytes < 10<<20 {
			t.Errorf("%+v", f)
		}
	}
	if f := got.Formats[1]; math.Abs(f.Cost) > 0.02 || f.Error <= 0 || !f.Fits {
		t.Errorf("eight bits: %+v", f)
	}
	if f := got.Formats[2]; f.Cost < 0.1 || f.Fits || got.Best == 2 {
		t.Errorf("two bits: %+v, chosen is %d", f, got.Best)
	}
	if n := len(got.Threads); n == 0 || got.Threads[n-1].Threads != c.Threads {
		t.Errorf("threads %+v", got.Threads)
	}
	if got.Best == 0 {
		if left, err := os.ReadDir(l.Dir()); err != nil || len(left) > 0 {
			t.Errorf("left behind are %v, %v", left, err)
		}
	} else if want := filepath.Join(l.Dir(), "small-Q8_0.gguf"); got.Written != want {
		t.Errorf("written is %q, want %q", got.Written, want)
	}

	c.Text = "too short"
	if _, err := Run(t.Context(), l, models.Installed{Name: "small", Path: path}, c); err == nil {
		t.Error("a text of two tokens is enough")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ended, l, models.Installed{Name: "small", Path: path}, c); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestConfig(t *testing.T) {
	must(t, Default().Validate())
	for name, change := range map[string]func(*Config){
		"bound":   func(c *Config) { c.Bound = -1 },
		"threads": func(c *Config) { c.Threads = 0 },
		"type":    func(c *Config) { c.Types = []string{"Q9"} },
	} {
		c := Default()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
