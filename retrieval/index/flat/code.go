package flat

import (
	"fmt"
	"math"
)

// A vector's numbers are scale × w, where w is a whole number of -most to most, written as 256 × high + low with high in
// -127..127 and low in -128..127. Rows keep both bytes with zero added, as the kernels want one side unsigned; questions
// keep them signed.
const (
	most = 127*256 + 127
	zero = 128
)

// Tolerance is how far the cosine of two unit vectors may be off, in practice: 16 bits round each number by at most 1/65,000
// of the vector's largest, and roundings cancel. With an embedding of 384 dimensions it is a few millionths.
const Tolerance = 5e-5

// maxDimensions is what the kernels' 32-bit sums hold: 255 × 128 × 65,536 < 2³¹.
const maxDimensions = 1 << 16

// lane is what rows are padded to: the bytes that the widest kernel takes at once.
const lane = 64

func stride(dimensions int) int { return (dimensions + lane - 1) / lane * lane }

// largest gives the largest number of a vector by size; an error where one isn't finite.
func largest(vector []float32) (float64, error) {
	var out float64
	for _, v := range vector {
		size := math.Abs(float64(v))
		if !(size <= math.MaxFloat32) {
			return 0, fmt.Errorf("index: a vector has %v in it", v)
		}
		out = max(out, size)
	}
	return out, nil
}

// parts gives the two bytes of v, both with zero added; inverse is 1 / scale.
func parts(v float32, inverse float64) (high, low int32) {
	u := int32(float64(v)*inverse + (zero*256 + .5)) // positive: cutting off rounds
	high = (u + zero) >> 8
	return high, u - high<<8 + zero
}

// inverse of the scale that a vector with this largest number has; 0 for none but zeroes.
func inverse(largest float64) float64 {
	if largest == 0 {
		return 0
	}
	return most / largest
}

// encode writes a finite vector as bytes and gives its scale. What high and low have behind it is left alone.
func encode(vector []float32, largest float64, high, low []byte) (scale float32) {
	high, low = high[:len(vector)], low[:len(vector)]
	by := inverse(largest)
	for i, v := range vector {
		h, l := parts(v, by)
		high[i], low[i] = byte(h), byte(l)
	}
	return float32(largest / most)
}

// half is one of the two bytes of all of a question's numbers, zeroes behind them up to the stride.
type half struct {
	bytes []int8
	words []int16 // the same, for kernels without products of bytes
	sum   int32
}

func newHalf(stride int) half { return half{bytes: make([]int8, stride), words: make([]int16, stride)} }

func (h *half) set(i int, v int32) {
	h.bytes[i], h.words[i] = int8(v), int16(v)
	h.sum += v
}

// question is a vector to search for.
type question struct {
	high, low half
	scale     float64
}

func newQuestion(vector []float32) (*question, error) {
	size, err := largest(vector)
	if err != nil {
		return nil, err
	}
	q := &question{high: newHalf(stride(len(vector))), low: newHalf(stride(len(vector))), scale: size / most}
	by := inverse(size)
	for i, v := range vector {
		h, l := parts(v, by)
		q.high.set(i, h-zero)
		q.low.set(i, l-zero)
	}
	return q, nil
}

// cosine is the dot product of a question and a row in full.
func (q *question) cosine(dots kernel, high, low []byte, scale float32) float64 {
	one := make([]int32, 1)
	dot := func(row []byte, h *half) int64 {
		dots(one, row, h)
		return int64(one[0] - zero*h.sum)
	}
	w := 65536*dot(high, &q.high) + 256*(dot(high, &q.low)+dot(low, &q.high)) + dot(low, &q.low)
	return min(1, max(-1, float64(w)*q.scale*float64(scale)))
}
