package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

// shifting starts an engine over a fake, and checks after each step that both count the same cells.
func shifting(t *testing.T, f *enginetest.Fake, c engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(f, c, engine.Hooks{Step: func(s engine.Step) {
		if s.Cells != f.Cells() {
			t.Errorf("the engine counts %d cells, the backend %d", s.Cells, f.Cells())
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		if n := f.Foreign(); n > 0 && c.Placing == engine.PlaceNever {
			t.Errorf("%d tokens were shared that had been computed behind others", n)
		}
	})
	return e
}

func shift(text string, max, keep int) *engine.Request {
	return &engine.Request{Text: text, MaxTokens: max, Shift: true, Keep: keep, IgnoreEOS: true, Logprobs: 0}
}

// generate reads a stream to its end.
func generate(t *testing.T, e *engine.Engine, r *engine.Request) (text string, ids []engine.Token, last engine.Event) {
	t.Helper()
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Error(err)
		return "", nil, last
	}
	defer s.Close()
	var b strings.Builder
	for last.Finish == "" {
		event, err := s.Recv(t.Context())
		if err != nil {
			t.Error(err)
			return "", nil, last
		}
		b.WriteString(event.Text)
		for _, token := range event.Tokens {
			ids = append(ids, token.ID)
		}
		last = event
	}
	return b.String(), ids, last
}

// A shifted stream says, token by token, what a model would that reads what was left; nothing of it is computed twice, and no
// position lies beyond the context.
func TestShift(t *testing.T) {
	const size, max = 64, 300
	prompt := "a prompt of 23 letters!"
	for _, w := range []struct{ keep, stays int }{{engine.KeepSystem, 4}, {engine.KeepPrompt, len(prompt)}, {1, 1}, {7, 7}, {40, 40}, {size - 8, size - 8}} {
		for _, draft := range []bool{false, true} {
			t.Run(fmt.Sprintf("keep %d, draft %t", w.keep, draft), func(t *testing.T) {
				f := enginetest.NewFake(small, size)
				rows := 0
				f.Fail = func(batch []engine.Row) error {
					rows += len(batch)
					for _, r := range batch {
						if r.Position >= size {
							t.Errorf("position %d", r.Position)
						}
					}
					return nil
				}
				if draft {
					f.Small = f.Foresee
				}
				c := engine.DefaultConfig()
				c.Draft = draft
				e := shifting(t, f, c)
				text, ids, last := generate(t, e, shift(prompt, max, w.keep))
				want, left, dropped := enginetest.ContinueShifted("", tokens(prompt), max, size, w.stays)
				if text != want {
					t.Errorf("got  %q\nwant %q", text, want)
				}
				if n := len(left) - w.stays; !slices.Equal(ids[len(ids)-n:], left[w.stays:]) && w.stays >= len(prompt) {
					t.Error("the last tokens are others")
				}
				if u := last.Usage; last.Finish != engine.FinishLength || u != (engine.Usage{PromptTokens: len(prompt), GeneratedTokens: max, DroppedTokens: dropped}) {
					t.Errorf("%q after %+v, want %d dropped", last.Finish, u, dropped)
				}
				e.Close()
				if !draft && rows != len(prompt)+max-1 {
					t.Errorf("%d rows were computed for %d tokens", rows, len(prompt)+max)
				}
				// What is kept of it is what anybody would have computed.
				if n := f.Cells(); n != w.stays {
					t.Errorf("%d cells are kept, want %d", n, w.stays)
				}
			})
		}
	}
}

// Nobody is given what was computed behind tokens that are gone; the beginning that stays is shared like any other.
func TestShiftedIsNotShared(t *testing.T) {
	const size, keep, max = 64, 12, 150
	f := enginetest.NewFake(small, size)
	f.Gate = make(chan struct{})
	c := engine.DefaultConfig()
	c.Draft = false
	e := shifting(t, f, c)
	prompt := "a prompt that somebody shares with others"
	first, err := e.Generate(t.Context(), shift(prompt, max, keep))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	const steps = 100
	for range steps { // the prompt takes two
		f.Gate <- struct{}{}
	}
	_, left, dropped := enginetest.ContinueShifted("", tokens(prompt), steps-2, size, keep)
	if dropped == 0 {
		t.Fatal("it is not shifted yet")
	}
	close(f.Gate)
	ask := func(what string, r *engine.Request, want int) {
		t.Helper()
		if _, _, last := generate(t, e, r); last.Usage.CachedTokens != want {
			t.Errorf("%s: %d tokens were there, want %d", what, last.Usage.CachedTokens, want)
		}
	}
	ask("what it read a moment ago", &engine.Request{Tokens: left, MaxTokens: 1, IgnoreEOS: true, Logprobs: -1}, keep)
	if _, last, err := enginetest.Read(t.Context(), first); err != nil || last.Usage.GeneratedTokens != max {
		t.Fatal(last, err)
	}
	_, left, _ = enginetest.ContinueShifted("", tokens(prompt), max, size, keep)
	ask("what it read in the end", &engine.Request{Tokens: left[:len(left)-1], MaxTokens: 1, IgnoreEOS: true, Logprobs: -1}, keep)
}

// Streams that share their prompt, of which some are shifted, leave each other alone, also where there are too few cells for
// all of them.
func TestShiftInCompany(t *testing.T) {
	const size = 48
	prompt := strings.Repeat("what all of them share ", 2)[:36]
	for _, cells := range []int{size, size + 10, 2 * size, 100, 400} {
		t.Run(fmt.Sprint(cells), func(t *testing.T) {
			limits := engine.Limits{Cells: cells, Batch: 16, Running: 4, Sequences: 12}
			e := shifting(t, enginetest.NewFake(limits, size), engine.DefaultConfig())
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					mine := prompt + fmt.Sprint(i%3)
					if i%2 == 0 {
						generated(t, e, mine, "", 5, i, "")
						return
					}
					keep := []int{1, 20, len(mine)}[i%3]
					text, _, last := generate(t, e, shift(mine, 120, keep))
					want, _, dropped := enginetest.ContinueShifted("", tokens(mine), 120, size, keep)
					if text != want || last.Usage.DroppedTokens != dropped {
						t.Errorf("%d: got %q, %+v, want %q, %d", i, text, last.Usage, want, dropped)
					}
				})
			}
			wg.Wait()
		})
	}
}

// KV that cannot be moved is computed again.
func TestShiftWithoutPlace(t *testing.T) {
	f := enginetest.NewFake(small, 64)
	failed := 0
	f.FailPlace = func(engine.State, int) error { failed++; return errors.New("boom") }
	e := shifting(t, f, engine.DefaultConfig())
	text, _, last := generate(t, e, shift("a prompt", 200, 5))
	if want, _, dropped := enginetest.ContinueShifted("", tokens("a prompt"), 200, 64, 5); text != want || last.Usage.DroppedTokens != dropped {
		t.Errorf("got %q, %+v", text, last.Usage)
	}
	e.Close()
	if failed < 3 {
		t.Errorf("it was tried %d times", failed)
	}
}

// A stream goes on in another engine from the tokens that one before it generated, though they were too many for the context.
func TestShiftGoesOn(t *testing.T) {
	const size, max, keep = 64, 200, 6
	prompt := "a prompt that is given twice"
	whole, ids, end := generate(t, shifting(t, enginetest.NewFake(small, size), engine.DefaultConfig()), shift(prompt, max, keep))
	for _, n := range []int{1, size - len(prompt) - 1, size - len(prompt), size - len(prompt) + 1, 100, max - 1} {
		r := shift(prompt, max, keep)
		r.Generated = ids[:n]
		text, rest, last := generate(t, shifting(t, enginetest.NewFake(small, size), engine.DefaultConfig()), r)
		if !slices.Equal(rest, ids[n:]) || !strings.HasSuffix(whole, text) {
			t.Errorf("after %d tokens it goes on %q", n, text)
		}
		if last.Usage != end.Usage {
			t.Errorf("after %d tokens: %+v, want %+v", n, last.Usage, end.Usage)
		}
	}
	r := shift(prompt, max, keep)
	r.Generated, r.Shift, r.Keep = ids[:100], false, 0
	if _, err := shifting(t, enginetest.NewFake(small, size), engine.DefaultConfig()).Generate(t.Context(), r); !errors.Is(err, engine.ErrContextOverflow) {
		t.Errorf("without Shift: %v", err)
	}
}

// What stays by default is the system message with its documents, which are still placed; none of them is cut.
func TestShiftKeeps(t *testing.T) {
	const size, max = 160, 400
	chat := &engine.Chat{
		Messages:  []engine.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Are you? And why?"}},
		Documents: []engine.Document{{Title: "One", Text: "the first of them"}, {Title: "Two", Text: "the second of them"}},
	}
	for _, placing := range []engine.Placing{engine.PlaceNever, engine.PlaceAlways} {
		c := engine.DefaultConfig()
		c.Placing = placing
		f := enginetest.NewFake(engine.Limits{Cells: 1024, Batch: 32, Sequences: 12, Running: 4}, size)
		e := shifting(t, f, c)
		prompt, err := e.Render(t.Context(), &engine.Request{Chat: chat})
		if err != nil {
			t.Fatal(err)
		}
		system := slices.Index(prompt.Tokens, engine.Token('A'))
		docs := prompt.Passages
		for _, w := range []struct{ keep, stays int }{
			{engine.KeepSystem, system}, {engine.KeepPrompt, len(prompt.Tokens)}, {docs[0].From + 1, docs[0].From}, {docs[1].To - 1, docs[1].From}, {docs[1].To, docs[1].To},
		} {
			r := shift("", max, w.keep)
			r.Chat = chat
			text, _, last := generate(t, e, r)
			if want, _, dropped := enginetest.ContinueShifted("", prompt.Tokens, max, size, w.stays); text != want || last.Usage.DroppedTokens != dropped {
				t.Errorf("placing %d, keep %d: got %q, %+v, want %q, %d", placing, w.keep, text, last.Usage, want, dropped)
			}
		}
		// Without a system message only the first tokens are left.
		bare := &engine.Chat{Messages: chat.Messages[1:]}
		prompt, err = e.Render(t.Context(), &engine.Request{Chat: bare})
		if err != nil {
			t.Fatal(err)
		}
		r := shift("", max, engine.KeepSystem)
		r.Chat = bare
		text, _, _ := generate(t, e, r)
		if want, _, _ := enginetest.ContinueShifted("", prompt.Tokens, max, size, 4); text != want {
			t.Errorf("without a system message: got %q, want %q", text, want)
		}
	}
}

func TestShiftRefusals(t *testing.T) {
	whole := small
	whole.Whole = true
	fixed := enginetest.NewFake(small, 64)
	fixed.Fixed = true
	for _, w := range []struct {
		name  string
		f     *enginetest.Fake
		r     *engine.Request
		field string
	}{
		{"fixed keys", fixed, shift("x", 9, 0), "Shift"},
		{"recurrent", enginetest.NewFake(whole, 64), shift("x", 9, 0), "Shift"},
		{"endless", enginetest.NewFake(small, 64), shift("x", 0, 0), "MaxTokens"},
		{"nearly endless", enginetest.NewFake(small, 64), shift("x", 1<<17+1, 0), "MaxTokens"},
		{"keep less than nothing", enginetest.NewFake(small, 64), shift("x", 9, -2), "Keep"},
		{"keep too many", enginetest.NewFake(small, 64), shift("x", 9, 57), "Keep"},
		{"keep a long prompt", enginetest.NewFake(small, 64), shift(strings.Repeat("x", 57), 9, engine.KeepPrompt), "Keep"},
		{"keep without shift", enginetest.NewFake(small, 64), &engine.Request{Text: "x", Keep: 3, Logprobs: -1}, "Keep"},
	} {
		_, err := start(t, w.f, engine.DefaultConfig()).Generate(t.Context(), w.r)
		if field, ok := errors.AsType[*engine.FieldError](err); !ok || field.Field != w.field || !errors.Is(err, engine.ErrBadRequest) {
			t.Errorf("%s: %v", w.name, err)
		}
	}
	_, err := start(t, enginetest.NewFake(small, 64), engine.DefaultConfig()).Generate(t.Context(), shift(strings.Repeat("x", 64), 9, 3))
	if !errors.Is(err, engine.ErrContextOverflow) {
		t.Errorf("a prompt that does not fit: %v", err)
	}
	if err := start(t, enginetest.NewFake(small, 64), engine.DefaultConfig()).Close(); err != nil {
		t.Error(err)
	}
}

// shifted is a stream of a program that may be cancelled at any time.
func shifted(t *testing.T, e *engine.Engine, rng *rand.Rand, prompt, key, adapter string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	size := e.Info().Context
	r := shift(prompt, 1+rng.IntN(size*3/2), []int{engine.KeepSystem, engine.KeepPrompt, 1 + rng.IntN(20)}[rng.IntN(3)])
	r.Key, r.Adapter, r.Logprobs = key, adapter, -1
	keep := map[int]int{engine.KeepSystem: 4, engine.KeepPrompt: len(prompt)}[r.Keep]
	if keep == 0 {
		keep = r.Keep
	}
	s, err := e.Generate(ctx, r)
	if err != nil {
		if keep <= size-8 || !errors.Is(err, engine.ErrBadRequest) {
			t.Error(err)
		}
		return
	}
	defer s.Close()
	if rng.IntN(4) == 0 {
		for range 1 + rng.IntN(2*size) {
			if _, err := s.Recv(t.Context()); err != nil {
				return
			}
		}
		cancel()
		return
	}
	text, last, err := enginetest.Read(t.Context(), s)
	if err != nil {
		t.Error(err)
		return
	}
	want, _, dropped := enginetest.ContinueShifted(adapter, tokens(prompt), r.MaxTokens, size, keep)
	if text != want || last.Usage.GeneratedTokens != r.MaxTokens || last.Usage.DroppedTokens != dropped {
		t.Errorf("%q: got %q, %+v, want %q, %d dropped", prompt, text, last.Usage, want, dropped)
	}
}
