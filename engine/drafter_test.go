package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// drafted is what an engine did whose batches take 10 ms.
type drafted struct {
	steps, guesses, right, byModel, rightByModel int
	first                                        engine.Step // with guesses
	failures                                     []error
	backend                                      *enginetest.Fake
	engine                                       *engine.Engine
}

// drafting runs a test in a bubble, where time is what the fake says, with a draft model that takes some time for a guess.
func drafting(t *testing.T, small func(f *enginetest.Fake, tokens []engine.Token, n int) ([]engine.Token, error), each time.Duration, run func(t *testing.T, d *drafted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := enginetest.NewFake(engine.Limits{Cells: 4096, Batch: 64, Sequences: 8, Running: 4}, 2048)
		f.Fail = func([]engine.Row) error { time.Sleep(10 * time.Millisecond); return nil }
		if small != nil {
			f.Small = func(tokens []engine.Token, n int) ([]engine.Token, error) {
				guesses, err := small(f, tokens, n)
				time.Sleep(each * time.Duration(len(guesses)))
				return guesses, err
			}
		}
		d := &drafted{backend: f}
		c := engine.DefaultConfig()
		c.Measure = true
		var err error
		d.engine, err = engine.New(f, c, engine.Hooks{
			Step: func(s engine.Step) {
				d.steps++
				if d.first.Drafted == 0 {
					d.first = s
				}
				d.guesses, d.right = d.guesses+s.Drafted, d.right+s.Accepted
				d.byModel, d.rightByModel = d.byModel+s.ModelDrafted, d.rightByModel+s.ModelAccepted
				if s.Cells != f.Cells() {
					t.Errorf("the engine counts %d cells, the backend %d", s.Cells, f.Cells())
				}
			},
			DraftFailed: func(err error) { d.failures = append(d.failures, err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		run(t, d)
		if f.Followed() > 0 {
			t.Errorf("the draft model still holds %d sequences", f.Followed())
		}
		if err := d.engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

// says has a prompt answered, and checks the answer to the letter.
func (d *drafted) says(t *testing.T, prompt string, n int) (tokens int) {
	t.Helper()
	s, err := d.engine.Generate(t.Context(), &engine.Request{Text: prompt, MaxTokens: n, Logprobs: -1, IgnoreEOS: true})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer s.Close()
	text, last, err := enginetest.Read(t.Context(), s)
	want := ""
	for said := prompt; len(want) < n; {
		more, ended := enginetest.Continue(said, 1)
		if ended {
			break // then bytes no longer tell the tokens
		}
		want, said = want+more, said+more
	}
	if err != nil || !strings.HasPrefix(text, want) {
		t.Errorf("%q: got %q, %v; want %q", prompt, text, err, want)
	}
	return last.Usage.GeneratedTokens
}

// alone is says for a stream alone, after which the figures may be read.
func (d *drafted) alone(t *testing.T, prompt string, n int) (tokens int) {
	defer synctest.Wait()
	return d.says(t, prompt, n)
}

func foresee(f *enginetest.Fake, tokens []engine.Token, n int) ([]engine.Token, error) {
	return f.Foresee(tokens, n)
}

func wrong(f *enginetest.Fake, tokens []engine.Token, n int) ([]engine.Token, error) {
	guesses, err := f.Foresee(tokens, n)
	for i := range guesses {
		guesses[i] = 'Z'
	}
	return guesses, err
}

// Right guesses save steps, and all of them are counted.
func TestDraftModel(t *testing.T) {
	drafting(t, foresee, time.Millisecond, func(t *testing.T, d *drafted) {
		n := d.alone(t, "The draft model", 120)
		if d.steps > n/3 {
			t.Errorf("%d tokens took %d steps", n, d.steps)
		}
		if d.rightByModel != d.byModel || d.byModel < n/2 || d.byModel > d.guesses || d.right < n-d.steps-1 {
			t.Errorf("%d tokens in %d steps: %d guesses, %d of them the model's; %d right, %d of them the model's", n, d.steps, d.guesses, d.byModel, d.right, d.rightByModel)
		}
	})
}

// Wrong guesses change nothing but the time. The stream rests and tries again later.
func TestWrongDraftModel(t *testing.T) {
	drafting(t, wrong, time.Millisecond, func(t *testing.T, d *drafted) {
		n := d.alone(t, "The draft model", 60)
		tried := d.byModel
		if d.rightByModel > 0 || tried == 0 || tried > n {
			t.Errorf("of %d guesses beside %d tokens %d were right", tried, n, d.rightByModel)
		}
		d.alone(t, "The draft model goes on", 1000)
		if again := d.byModel - tried; again == 0 || again > 400 {
			t.Errorf("a second stream of 1000 tokens made %d guesses", again)
		}
	})
}

// A draft model that takes as long as the model itself is not asked again once that is known, but for a try now and then.
func TestSlowDraftModel(t *testing.T) {
	drafting(t, foresee, 12*time.Millisecond, func(t *testing.T, d *drafted) {
		n := d.alone(t, "The draft model", 1000)
		if d.byModel > n/20 {
			t.Errorf("%d guesses beside %d tokens", d.byModel, n)
		}
	})
}

// What was said before comes first: it costs nothing.
func TestSaidComesFirst(t *testing.T) {
	prompt := ""
	for i := 0; ; i++ { // until the answer begins with what stood behind "ab" before
		prompt = fmt.Sprintf("abk %d ab", i)
		if first, _ := enginetest.Continue(prompt, 1); first == "k" {
			break
		}
	}
	drafting(t, foresee, time.Millisecond, func(t *testing.T, d *drafted) {
		d.alone(t, prompt, 40)
		if d.first.Drafted == 0 || d.first.ModelDrafted > 0 {
			t.Errorf("of the first %d guesses %d are the model's", d.first.Drafted, d.first.ModelDrafted)
		}
		if d.byModel == 0 || d.byModel == d.guesses {
			t.Errorf("of %d guesses %d are the model's", d.guesses, d.byModel)
		}
	})
}

// A draft model that fails fails nobody, is reported once, and is not asked again.
func TestDraftModelFails(t *testing.T) {
	boom := errors.New("boom")
	calls := 0
	drafting(t, func(f *enginetest.Fake, tokens []engine.Token, n int) ([]engine.Token, error) {
		if calls++; calls > 6 {
			return nil, boom
		}
		return f.Foresee(tokens, n)
	}, time.Millisecond, func(t *testing.T, d *drafted) {
		d.alone(t, "The draft model", 100)
		d.alone(t, "The draft model again", 100)
		if len(d.failures) != 1 || !errors.Is(d.failures[0], boom) || calls != 7 {
			t.Errorf("%d calls, reported were %v", calls, d.failures)
		}
		if d.byModel == 0 {
			t.Error("it was never asked")
		}
	})
}

// A long prompt is read in pieces, while its stream goes on, and only for a stream that goes on for long.
func TestDraftModelCatchesUp(t *testing.T) {
	drafting(t, foresee, time.Millisecond, func(t *testing.T, d *drafted) {
		n := d.alone(t, strings.Repeat("A long prompt. ", 80), 300)
		if most := d.backend.LongestFollowed(); most > 256 || most < 16 {
			t.Errorf("it read %d tokens at a time", most)
		}
		if d.right == 0 || d.steps > n/2 {
			t.Errorf("%d tokens took %d steps, %d guesses were right", n, d.steps, d.right)
		}
	})
}

// Many streams guess nothing, and whoever leaves is forgotten.
func TestDraftModelInCompany(t *testing.T) {
	var most atomic.Int64
	drafting(t, func(f *enginetest.Fake, tokens []engine.Token, n int) ([]engine.Token, error) {
		most.Store(max(most.Load(), int64(f.Followed()+1)))
		return f.Foresee(tokens, n)
	}, time.Millisecond, func(t *testing.T, d *drafted) {
		var wg sync.WaitGroup
		for i, n := range []int{200, 150, 40, 30, 20, 10} {
			wg.Go(func() {
				time.Sleep(time.Duration(i*i) * 10 * time.Millisecond)
				d.says(t, strings.Repeat("company ", i+1), n)
			})
		}
		for i := range 3 { // these leave early
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(100+300*i)*time.Millisecond)
				defer cancel()
				s, err := d.engine.Generate(ctx, &engine.Request{Text: "leaves early", IgnoreEOS: true, Logprobs: -1})
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if _, _, err := enginetest.Read(context.Background(), s); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("who leaves early ends with %v", err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if len(d.failures) > 0 {
			t.Error(d.failures)
		}
		if most.Load() != engine.DraftStreams || d.right == 0 {
			t.Errorf("%d streams at a time guessed, %d guesses were right", most.Load(), d.right)
		}
	})
}
