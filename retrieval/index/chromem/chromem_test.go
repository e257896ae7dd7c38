package chromem

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/indextest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIndex(t *testing.T) {
	indextest.Suite{
		New: func(t *testing.T, dimensions int) index.Index {
			x, err := New(dimensions)
			if err != nil {
				t.Fatal(err)
			}
			return x
		},
		Recall: 1, Tolerance: 1e-6,
	}.Run(t)
	if _, err := New(0); err == nil {
		t.Error("no dimensions")
	}
}
