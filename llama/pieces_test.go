package llama

import (
	"math"
	"testing"
)

// A prompt gives the same logits, up to the rounding of quantized products, in pieces of any size. ggml rounds a row to 8 bits in one way
// for products with few rows and in another for more: the 135M model's are .085 nats from those of its weights in single precision
// (root mean square over tokens of at least e^-6) either way, and .083 from each other.
func TestPieces(t *testing.T) {
	m := loadModel(t, chatModel)
	tokens := tokenize(t, m, "<|im_start|>user\nTell me of a lighthouse keeper who finds a letter in a bottle on the beach and answers it. Then explain in a few plain "+
		"words why the sea is salty, and name three birds of the coast.<|im_end|>\n<|im_start|>assistant\nOnce upon a time there")
	logprobs := func(piece int) (all []float64) {
		c := newTestContext(t, m)
		b := newTestBatch(t, len(tokens), 1)
		for from := 0; from < len(tokens); from += piece {
			b.Clear()
			end := min(from+piece, len(tokens))
			for i := from; i < end; i++ {
				must(t, b.Add(tokens[i], i, i >= len(tokens)-20, 0))
			}
			must(t, c.Decode(t.Context(), b))
			for i := max(from, len(tokens)-20); i < end; i++ {
				logits, err := c.Logits(i - from)
				must(t, err)
				sum := 0.
				for _, l := range logits {
					sum += math.Exp(float64(l))
				}
				for _, l := range logits {
					all = append(all, float64(l)-math.Log(sum))
				}
			}
		}
		return all
	}
	whole := logprobs(len(tokens))
	for _, piece := range []int{1, 4, 16} {
		squares, n := 0., 0.
		for i, got := range logprobs(piece) {
			if whole[i] > -6 {
				squares, n = squares+(got-whole[i])*(got-whole[i]), n+1
			}
		}
		if rms := math.Sqrt(squares / n); !(rms < 0.15) || n < 100 {
			t.Errorf("in pieces of %d the likely tokens' logprobs differ by %.3f nats from those of the whole prompt, over %.0f", piece, rms, n)
		}
	}
}
