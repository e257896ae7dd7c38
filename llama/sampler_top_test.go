package llama

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Of any logits Find gives exactly those from a threshold on, at least as many as asked for, or says that it can't.
func TestTop(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var top Top
	for round := range 2000 {
		logits := make([]float32, 1+random.IntN(3000))
		levels := []int{1, 3, 50, 1 << 20}[random.IntN(4)] // few levels: many are equally likely
		for i := range logits {
			switch logits[i] = float32(random.IntN(levels))/8 - 5; random.IntN(40) {
			case 0:
				logits[i] = float32(math.NaN())
			case 1:
				logits[i] = float32(math.Inf(-1))
			}
		}
		k := random.IntN(len(logits)/8 + 2)
		if !top.Find(logits, k) {
			// A threshold for k tokens must then be missing, or below too many.
			if blocks := (len(logits) + 31) / 32; k > 0 && k <= blocks/2 && levels == 1<<20 && len(logits) > 320 {
				t.Fatalf("round %d: nothing for %d of %d", round, k, len(logits))
			}
			continue
		}
		least := float32(math.Inf(1))
		for i, c := range top.Items {
			if i > 0 && c.ID <= top.Items[i-1].ID || c.Logit != logits[c.ID] || c.P != 0 {
				t.Fatalf("round %d: item %d is %+v", round, i, c)
			}
			least = min(least, c.Logit)
		}
		n := 0
		for _, l := range logits {
			if l >= least {
				n++
			}
		}
		if n != len(top.Items) || n < k || top.Least != least {
			t.Fatalf("round %d: %d items for %d, %d are as likely", round, len(top.Items), k, n)
		}
	}
	for _, l := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		none := make([]float32, 320)
		for i := range none {
			none[i] = l
		}
		if top.Find(none, 1) {
			t.Errorf("found %v among %v", top.Items, l)
		}
	}
	if top.Find(nil, 1) || top.Find(make([]float32, 64), 0) || top.Find(make([]float32, 64), 3) {
		t.Error("found what was not there")
	}
}
