package flat

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/retrieval/index"
	"github.com/quipu-ai/quipu/retrieval/index/chromem"
)

const (
	benchDimensions = 384
	benchDocument   = 20 // passages
)

// fill puts n passages into each of the indexes and gives questions and the documents' names.
func fill(b *testing.B, n int, into ...index.Index) (questions [][]float32, documents []string) {
	b.Helper()
	c := newClusters(1, 1000, benchDimensions)
	for i := 0; i < n; i += benchDocument {
		name := fmt.Sprintf("doc_%024x", i)
		passages, vectors := c.document(fmt.Sprintf("psg_%020x", i), benchDocument)
		for _, x := range into {
			if err := x.Put(context.Background(), name, passages, vectors); err != nil {
				b.Fatal(err)
			}
		}
		documents = append(documents, name)
	}
	for range 64 {
		questions = append(questions, c.vector())
	}
	c.r.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	return questions, documents
}

// search searches b.N times by so many clients and reports the median and the 95th percentile of what each search took.
func search(b *testing.B, x index.Index, clients int, questions [][]float32, only []string) {
	b.Helper()
	var next atomic.Int64
	took := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	b.ResetTimer()
	for c := range clients {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				began := time.Now()
				if _, err := x.Search(context.Background(), questions[int(i)%len(questions)], 10, only); err != nil {
					b.Error(err)
				}
				took[c] = append(took[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	report(b, "", slices.Concat(took...))
}

func report(b *testing.B, what string, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), what+"p50-µs")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), what+"p95-µs")
}

// BenchmarkSearch is flat beside chromem over 100,000 passages, and filters beside none.
func BenchmarkSearch(b *testing.B) {
	x, err := New(benchDimensions)
	if err != nil {
		b.Fatal(err)
	}
	small, err := chromem.New(benchDimensions)
	if err != nil {
		b.Fatal(err)
	}
	questions, documents := fill(b, 100_000, x, small)
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("flat/clients=%d", clients), func(b *testing.B) { search(b, x, clients, questions, nil) })
		b.Run(fmt.Sprintf("chromem/clients=%d", clients), func(b *testing.B) { search(b, small, clients, questions, nil) })
	}
	for _, percent := range []int{1, 10, 50, 99, 100} {
		only := documents[:len(documents)*percent/100]
		b.Run(fmt.Sprintf("filter/percent=%d", percent), func(b *testing.B) { search(b, x, 1, questions, only) })
	}
	for _, k := range kernels() {
		other, _ := newIndex(benchDimensions, k.dots)
		other.current.Store(x.current.Load()) // the rows are the same for all
		b.Run("kernel/"+k.name, func(b *testing.B) { search(b, other, 1, questions, nil) })
	}
	b.Run("recall", func(b *testing.B) {
		found, wanted := 0, 0
		for range b.N {
			found, wanted = 0, 0
			for _, q := range questions {
				want, _ := small.Search(context.Background(), q, 10, nil)
				got, _ := x.Search(context.Background(), q, 10, nil)
				for _, m := range got {
					if slices.ContainsFunc(want, func(w index.Match) bool { return w.Passage == m.Passage }) {
						found++
					}
				}
				wanted += len(want)
			}
		}
		b.ReportMetric(float64(found)/float64(wanted), "recall@10")
	})
}

// BenchmarkMillion is a search of a million passages beside reading their high bytes once by as many goroutines.
func BenchmarkMillion(b *testing.B) {
	x, err := New(benchDimensions)
	if err != nil {
		b.Fatal(err)
	}
	questions, documents := fill(b, 1_000_000, x)
	b.Run("search", func(b *testing.B) { search(b, x, 1, questions, nil) })
	b.Run("filter/percent=99", func(b *testing.B) { search(b, x, 1, questions, documents[:len(documents)*99/100]) })
	b.Run("read", func(b *testing.B) {
		segments := x.current.Load().segments
		b.SetBytes(int64(x.Len() * x.stride))
		var total atomic.Uint64
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range runtime.GOMAXPROCS(0) {
				wg.Go(func() {
					var sum uint64
					for i := next.Add(1) - 1; i < int64(len(segments)); i = next.Add(1) - 1 {
						sum += read(segments[i].high)
					}
					total.Add(sum)
				})
			}
			wg.Wait()
			took = append(took, time.Since(began))
		}
		report(b, "", took)
	})
}

// read sums memory up, eight bytes at a time.
func read(memory []byte) (sum uint64) {
	var a, b, c, d uint64
	for ; len(memory) >= 64; memory = memory[64:] {
		m := memory[:64]
		a += binary.LittleEndian.Uint64(m) + binary.LittleEndian.Uint64(m[32:])
		b += binary.LittleEndian.Uint64(m[8:]) + binary.LittleEndian.Uint64(m[40:])
		c += binary.LittleEndian.Uint64(m[16:]) + binary.LittleEndian.Uint64(m[48:])
		d += binary.LittleEndian.Uint64(m[24:]) + binary.LittleEndian.Uint64(m[56:])
	}
	return a + b + c + d
}

// BenchmarkWrite replaces documents while nobody and while eight clients search 100,000 passages.
func BenchmarkWrite(b *testing.B) {
	x, err := New(benchDimensions)
	if err != nil {
		b.Fatal(err)
	}
	questions, documents := fill(b, 100_000, x)
	c := newClusters(2, 1000, benchDimensions)
	passages, vectors := c.document("new", benchDocument)
	for _, clients := range []int{0, 8} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			done := make(chan struct{})
			var wg sync.WaitGroup
			took := make([][]time.Duration, clients)
			for n := range clients {
				wg.Go(func() {
					for i := n; ; i++ {
						select {
						case <-done:
							return
						default:
						}
						began := time.Now()
						if _, err := x.Search(context.Background(), questions[i%len(questions)], 10, nil); err != nil {
							b.Error(err)
						}
						took[n] = append(took[n], time.Since(began))
					}
				})
			}
			var puts []time.Duration
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				if err := x.Put(context.Background(), documents[i%len(documents)], passages, vectors); err != nil {
					b.Fatal(err)
				}
				puts = append(puts, time.Since(began))
			}
			close(done)
			wg.Wait()
			report(b, "put-", puts)
			report(b, "search-", slices.Concat(took...))
		})
	}
}
