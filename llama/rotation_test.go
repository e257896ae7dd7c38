package llama

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// A state that was moved holds what cells hold that llama.cpp shifted.
func TestRotation(t *testing.T) {
	for _, name := range []string{chatModel, toolModel} {
		t.Run(name, func(t *testing.T) {
			m := loadModel(t, name)
			r, err := NewRotation(m)
			must(t, err)
			b := newTestBatch(t, 256, 1)
			head, passage := tokenize(t, m, "You answer from documents."), tokenize(t, m, " The bridge was built in 1911 and carries two lanes of traffic over the river.")
			c := newTestContext(t, m, func(p *ContextParams) { p.Sequences, p.CacheTypeK, p.CacheTypeV = 8, CacheF32, CacheF32 })
			prefill(t, c, b, head, 0, 0)
			prefill(t, c, b, passage, len(head), 0)
			must(t, c.Memory().Copy(0, 3, len(head), -1))
			saved := func() []byte {
				state, err := c.SequenceState(nil, 3, 0)
				must(t, err)
				return state
			}
			state := saved()
			before := slices.Clone(state)
			for _, delta := range []int{1, 137, 4000} {
				must(t, c.SetSequenceState(before, 3, 0))
				must(t, c.Memory().Shift(3, 0, -1, delta))
				prefill(t, c, b, passage[:1], c.Memory().PosMax(0)+1, 0) // applies it
				must(t, c.Memory().Remove(0, c.Memory().PosMax(0), -1))
				want := saved()
				copy(state, before)
				must(t, r.Move(state, delta))
				if d := keyDistance(t, state, want); d > 5e-4 {
					t.Errorf("moved by %d, keys lie %.2g of their length apart", delta, d)
				}
				if d := keyDistance(t, before, want); d < 0.01 {
					t.Errorf("moving by %d changes nothing (%.2g): the test would prove nothing", delta, d)
				}
				must(t, r.Move(state, -delta))
				if d := keyDistance(t, state, before); d > 1e-5 {
					t.Errorf("moved by %d and back, keys lie %.2g of their length apart", delta, d)
				}
			}
			wantError(t, r.Move(state, -1000), ErrInvalid)
			wantError(t, r.Move(state[:len(state)-1], 1), ErrUnsupported)
		})
	}
}

// keyDistance is the length of the difference of two states' F32 keys over the length of one, and checks that positions agree.
func keyDistance(t *testing.T, a, b []byte) float64 {
	t.Helper()
	s, err := parseState(a)
	must(t, err)
	o, err := parseState(b)
	must(t, err)
	var difference, length float64
	for layer := range s.keys {
		for i := 0; i < len(s.keys[layer].data); i += 4 {
			x := float64(math.Float32frombits(binary.LittleEndian.Uint32(s.keys[layer].data[i:])))
			y := float64(math.Float32frombits(binary.LittleEndian.Uint32(o.keys[layer].data[i:])))
			difference, length = difference+(x-y)*(x-y), length+x*x
		}
	}
	return math.Sqrt(difference / length)
}

func TestRotationUnsupported(t *testing.T) {
	_, err := NewRotation(loadModel(t, embedModel))
	wantError(t, err, ErrUnsupported)
}

func BenchmarkRotation(b *testing.B) {
	m := loadModel(b, chatModel)
	r, err := NewRotation(m)
	must(b, err)
	c := newTestContext(b, m, func(p *ContextParams) { p.Sequences = 8 })
	prefill(b, c, newTestBatch(b, 256, 1), make([]Token, 240), 0, 0)
	state, err := c.SequenceState(nil, 0, 0)
	must(b, err)
	b.Run("move", func(b *testing.B) {
		for b.Loop() {
			must(b, r.Move(state, 100))
			must(b, r.Move(state, -100))
		}
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			must(b, c.SetSequenceState(state, 3, 0))
		}
	})
}
