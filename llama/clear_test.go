//go:build linux

package llama

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// anonymous is how much memory the process holds beyond files, in bytes.
func anonymous(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, after, _ := strings.Cut(string(status), "RssAnon:")
	var kilobytes int64
	_, err = fmt.Sscan(after, &kilobytes)
	must(t, err)
	return kilobytes << 10
}

// An empty KV cache takes no memory, and one that was cleared reads as one that was never used.
func TestEmptyCacheTakesNoMemory(t *testing.T) {
	m := loadModel(t, chatModel)
	before := anonymous(t)
	c := newTestContext(t, m, func(p *ContextParams) { p.ContextSize = 32768 }) // 755 MB of cache
	if taken := anonymous(t) - before; taken > 250e6 {
		t.Errorf("a context of 32768 cells takes %d MB before anything is in it", taken/1e6)
	}
	b := newTestBatch(t, 256, 1)
	tokens := tokenize(t, m, prompt)
	prefill(t, c, b, tokens, 0, 0)
	first := generate(t, c, b, newTestSampler(t, m, Greedy()), 0, 8)
	must(t, c.Memory().Clear(true))
	prefill(t, c, b, tokens, 0, 0)
	if taken := anonymous(t) - before; taken > 250e6 {
		t.Errorf("after few tokens it takes %d MB", taken/1e6)
	}
	if again := generate(t, c, b, newTestSampler(t, m, Greedy()), 0, 8); again != first {
		t.Errorf("%q, after clearing %q", first, again)
	}
}
