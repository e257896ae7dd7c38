package native

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// A call's texts come longest first, each once, as long as they fit.
func TestEncodeTake(t *testing.T) {
	c := &encodeCall{ctx: t.Context()}
	for _, n := range []int{90, 50, 50, 20, 5} {
		c.waiting = append(c.waiting, len(c.texts))
		c.texts = append(c.texts, make([]llama.Token, n))
	}
	var got []int
	for _, room := range []int{60, 60, 60, 4, 1000, 1000, 1000} {
		text, ok := c.take(room)
		if !ok {
			text = -1
		}
		got = append(got, text)
	}
	if want := []int{1, 2, 3, -1, 0, 4, -1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	gone := &encodeCall{ctx: ended, texts: [][]llama.Token{{1}}, waiting: []int{0}}
	if _, ok := gone.take(10); ok {
		t.Error("a text of a caller that left")
	}
}

// Who comes is level with the one that was served least: before those who had more, behind those who had as much.
func TestEncodeJoin(t *testing.T) {
	a, b, c := &encodeCall{served: 100}, &encodeCall{served: 100}, &encodeCall{served: 300}
	first, second := &encodeCall{}, &encodeCall{}
	queue := join(join([]*encodeCall{a, b, c}, first), second)
	if want := []*encodeCall{a, b, first, second, c}; !slices.Equal(queue, want) {
		t.Errorf("queue %v, want %v", queue, want)
	}
	if first.served != 100 || second.served != 100 {
		t.Errorf("they begin at %d and %d", first.served, second.served)
	}
	if queue := join(nil, a); len(queue) != 1 || a.served != 100 {
		t.Errorf("alone: %v", queue)
	}
}

// Qwen3's probabilities become log-odds, also where they are rounded to 0 or 1.
func TestRerankScore(t *testing.T) {
	logits := &Reranker{encoder: encoder{info: engine.Info{Architecture: "bert"}}}
	if got := logits.score([]float32{-3.5}); got != -3.5 {
		t.Errorf("got %f", got)
	}
	odds := &Reranker{encoder: encoder{info: engine.Info{Architecture: "qwen3"}}}
	for p, want := range map[float32]float64{0.5: 0, 0.9: math.Log(9), 0.1: -math.Log(9), 1: 16.118, 0: -16.118} {
		if got := odds.score([]float32{p, 1 - p}); math.Abs(float64(got)-want) > 1e-3 {
			t.Errorf("%f: %f, want %f", p, got, want)
		}
	}
}
