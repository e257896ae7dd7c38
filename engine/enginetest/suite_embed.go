package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
)

// EmbedderSuite is what every embedding model must do, wherever it runs.
type EmbedderSuite struct {
	// Open opens a model in whose tokens "word" is one. The test that asks for it closes it.
	Open func(t *testing.T) engine.Embedder
	// Closed is called after each model was closed: nothing may be left of it.
	Closed func(t *testing.T)
}

// Run runs the suite. What Open gives must be an io.Closer, too.
func (s EmbedderSuite) Run(t *testing.T) {
	run(t, s.Open, s.Closed, []part[engine.Embedder]{
		{"Together", embedTogether}, {"Long", embedLong}, {"Cancel", embedCancel}, {"Close", embedClose},
	})
}

// RerankerSuite is what every reranking model must do, wherever it runs.
type RerankerSuite struct {
	// Open opens a model in whose tokens "word" is one. The test that asks for it closes it.
	Open func(t *testing.T) engine.Reranker
	// Closed is called after each model was closed: nothing may be left of it.
	Closed func(t *testing.T)
}

// Run runs the suite. What Open gives must be an io.Closer, too.
func (s RerankerSuite) Run(t *testing.T) {
	run(t, s.Open, s.Closed, []part[engine.Reranker]{
		{"Order", rerankOrder}, {"Together", rerankTogether}, {"Long", rerankLong}, {"Close", rerankClose},
	})
}

type part[M any] struct {
	name string
	run  func(t *testing.T, model M)
}

func run[M any](t *testing.T, open func(*testing.T) M, closed func(*testing.T), parts []part[M]) {
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			model := open(t)
			p.run(t, model)
			if err := errors.Join(shut(model), shut(model)); err != nil {
				t.Errorf("close: %v", err)
			}
			if closed != nil {
				closed(t)
			}
		})
	}
}

func shut(model any) error { return model.(io.Closer).Close() }

// Embed embeds texts, and checks that each gives a row of length one.
func Embed(t *testing.T, e engine.Embedder, texts ...string) [][]float32 {
	t.Helper()
	rows, err := e.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(texts) {
		t.Fatalf("%d rows of %d texts", len(rows), len(texts))
	}
	for i, row := range rows {
		if n := Dot(row, row); len(row) != e.Info().Dimensions || math.Abs(n-1) > 1e-4 {
			t.Errorf("%.40q: %d floats of squared length %f", texts[i], len(row), n)
		}
	}
	return rows
}

// Dot is the product of two rows: of unit length, their cosine.
func Dot(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// subject is a text of one to sixty sentences, none of which any other has.
func subject(i int) string { return strings.Repeat(fmt.Sprintf("Subject %d. ", i), 1+(i*i)%60) }

// together lets twelve callers ask at once, each for a few of 24 subjects.
func together(ask func(which []int)) {
	var wg sync.WaitGroup
	for g := range 12 {
		wg.Go(func() {
			var which []int
			for k := range 1 + g%5 {
				which = append(which, (g*7+k*5)%24)
			}
			ask(which)
		})
	}
	wg.Wait()
}

// Many callers at once, with texts of all lengths, get what each would get alone, each text its own.
func embedTogether(t *testing.T, e engine.Embedder) {
	var want [][]float32
	for i := range 24 {
		want = append(want, Embed(t, e, subject(i))...)
	}
	together(func(which []int) {
		var texts []string
		for _, i := range which {
			texts = append(texts, subject(i))
		}
		rows, err := e.Embed(context.Background(), texts)
		if err != nil {
			t.Error(err)
			return
		}
		for k, row := range rows {
			if c := Dot(row, want[which[k]]); c < 0.9999 {
				t.Errorf("text %d in company has cosine %f to itself alone", which[k], c)
			}
		}
	})
	if rows, err := e.Embed(t.Context(), nil); err != nil || len(rows) != 0 {
		t.Errorf("no texts: %v, %v", rows, err)
	}
}

// words is a text of so many tokens, where the model adds added.
func words(n, added int) string { return strings.TrimSpace(strings.Repeat("word ", n-added)) }

// A text of exactly the model's length is read whole. A longer one is refused with its place, and cut only on request.
func embedLong(t *testing.T, e engine.Embedder) {
	counts, err := e.CountTokens([]string{"word", "word word"})
	if err != nil || counts[1] != counts[0]+1 {
		t.Fatalf("tokens %v, %v", counts, err)
	}
	limit, added := e.Info().MaxInput, counts[0]-1
	longest := words(limit, added)
	other := words(limit-1, added) + " zebra"
	if counts, err := e.CountTokens([]string{longest, other}); err != nil || counts[0] != limit || counts[1] < limit {
		t.Fatalf("tokens %v, %v", counts, err)
	}
	rows := Embed(t, e, longest, longest)
	if Dot(rows[0], rows[1]) < 0.99999 {
		t.Errorf("twice the same: %.6f", Dot(rows[0], rows[1]))
	}
	_, err = e.Embed(t.Context(), []string{"fine", longest + " word", "fine"})
	var o *engine.OverflowError
	if !errors.As(err, &o) || !errors.Is(err, engine.ErrInputTooLong) || o.Index != 1 || o.Tokens != limit+1 || o.Limit != limit {
		t.Errorf("got %+v", err)
	}
	cut, read, err := e.EmbedCounted(t.Context(), []string{longest + " zebra zebra", "word", other}, true)
	if err != nil || read != 2*limit+added+1 {
		t.Fatalf("truncated: %d tokens, %v", read, err)
	}
	if c := Dot(cut[0], rows[0]); c < 0.99999 {
		t.Errorf("cut to the longest: cosine %.6f to it", c)
	}
	if c := Dot(cut[2], rows[0]); c > 0.99999 {
		t.Errorf("its last word does not count: %.6f", c)
	}
	if _, err := e.Embed(t.Context(), []string{strings.Repeat("a ", 1<<16)}); !errors.Is(err, engine.ErrInputTooLong) {
		t.Errorf("128 KiB: %v", err)
	}
}

// manyPassages takes any model a while.
func manyPassages() []string {
	return slices.Repeat([]string{strings.Repeat("a long passage about nothing ", 60)}, 200)
}

// A caller that leaves is not waited for, and holds nobody up; a question never waits for all of somebody's documents.
func embedCancel(t *testing.T, e engine.Embedder) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan error, 3)
	for range cap(left) {
		go func() {
			_, err := e.Embed(ctx, manyPassages())
			left <- err
		}()
	}
	Embed(t, e, "a question in between")
	if n := len(left); n > 0 {
		t.Errorf("the question waited for all texts of %d others", n)
		return
	}
	cancel()
	for range cap(left) {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: %v", err)
		}
	}
	if _, err := e.Embed(ctx, []string{"x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that had left: %v", err)
	}
	Embed(t, e, "a question afterwards")
}

func embedClose(t *testing.T, e engine.Embedder) {
	var wg sync.WaitGroup
	began := make(chan struct{}, 4)
	for range cap(began) {
		wg.Go(func() {
			began <- struct{}{}
			if _, err := e.Embed(context.Background(), manyPassages()); !errors.Is(err, engine.ErrClosed) {
				t.Errorf("while it closes: %v", err)
			}
		})
	}
	for range cap(began) {
		<-began
	}
	if err := shut(e); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := e.Embed(t.Context(), []string{"x"}); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := e.CountTokens([]string{"x"}); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("counting, closed: %v", err)
	}
}

func rerank(t *testing.T, r engine.Reranker, query string, texts ...string) []float32 {
	t.Helper()
	scores, _, err := r.Rerank(t.Context(), query, texts, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(scores) != len(texts) {
		t.Fatalf("%d scores of %d texts", len(scores), len(texts))
	}
	return scores
}

// What answers a question is above what is near it, and that above what has nothing to do with it, wherever they stand.
func rerankOrder(t *testing.T, r engine.Reranker) {
	for query, texts := range map[string][3]string{
		"How long is the warranty of the frame?": {"The warranty of the frame is ten years.", "The frame comes in red and blue.", "Our office dog likes bananas."},
		"How do I reset my password?":            {"To reset your password, choose Forgot password and follow the mail.", "A password has at least twelve characters.", "Ferries leave at nine."},
		"When does the library open?":            {"The library opens at 9 am.", "The library lends books for four weeks.", "Milk foam needs cold milk."},
	} {
		for _, places := range [][3]int{{0, 1, 2}, {2, 0, 1}} {
			scores := rerank(t, r, query, texts[places[0]], texts[places[1]], texts[places[2]])
			var by [3]float32
			for i, p := range places {
				by[p] = scores[i]
			}
			if by[0] <= by[1] || by[1] <= by[2] {
				t.Errorf("%s %v", query, by)
			}
		}
	}
}

// Many callers at once get what each would get alone.
func rerankTogether(t *testing.T, r engine.Reranker) {
	const query = "What is subject 7?"
	var want []float32
	for i := range 24 {
		want = append(want, rerank(t, r, query, subject(i))...)
	}
	together(func(which []int) {
		var texts []string
		for _, i := range which {
			texts = append(texts, subject(i))
		}
		scores, _, err := r.Rerank(context.Background(), query, texts, false)
		if err != nil {
			t.Error(err)
			return
		}
		for k, s := range scores {
			if math.Abs(float64(s-want[which[k]])) > 0.05 {
				t.Errorf("text %d scores %f in company, %f alone", which[k], s, want[which[k]])
			}
		}
	})
	if scores, _, err := r.Rerank(t.Context(), query, nil, false); err != nil || len(scores) != 0 {
		t.Errorf("no texts: %v, %v", scores, err)
	}
}

// A pair that is too long is refused with its place, or its text cut on request; the query never is.
func rerankLong(t *testing.T, r engine.Reranker) {
	limit := r.Info().MaxInput
	_, one, err := r.Rerank(t.Context(), "word", []string{"word"}, false)
	if err != nil {
		t.Fatal(err)
	}
	fits, long := words(limit, one-1), words(limit+1, one-1)
	if _, read, err := r.Rerank(t.Context(), "word", []string{fits}, false); err != nil || read != limit {
		t.Errorf("exactly fitting: %d tokens, %v", read, err)
	}
	_, _, err = r.Rerank(t.Context(), "word", []string{"fine", long}, false)
	var o *engine.OverflowError
	if !errors.As(err, &o) || !errors.Is(err, engine.ErrInputTooLong) || o.Index != 1 || o.Tokens != limit+1 || o.Limit != limit {
		t.Errorf("got %+v", err)
	}
	scores, read, err := r.Rerank(t.Context(), "word", []string{long, fits}, true)
	if err != nil || read != 2*limit || math.Abs(float64(scores[0]-scores[1])) > 0.05 {
		t.Errorf("truncated: %v, %d tokens, %v", scores, read, err)
	}
	var field *engine.FieldError
	if _, _, err := r.Rerank(t.Context(), long, []string{"fine"}, true); !errors.As(err, &field) || field.Field != "query" {
		t.Errorf("a query that leaves no room: %v", err)
	}
}

func rerankClose(t *testing.T, r engine.Reranker) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Rerank(ended, "x", []string{"y"}, false); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that had left: %v", err)
	}
	if err := shut(r); err != nil {
		t.Error(err)
	}
	if _, _, err := r.Rerank(t.Context(), "x", []string{"y"}, false); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
