package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var small = engine.Limits{Cells: 256, Batch: 32, Sequences: 12, Running: 4}

func start(t *testing.T, f *enginetest.Fake, c engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(f, c, engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		if !f.Closed() {
			t.Error("the backend was not closed")
		}
	})
	return e
}

// The suite that every backend passes, here in exact arithmetic.
func TestSuite(t *testing.T) {
	var f *enginetest.Fake
	enginetest.Suite{
		Open: func(t *testing.T, c engine.Config) *engine.Engine {
			f = enginetest.NewFake(engine.Limits{Cells: 2048, Batch: 64, Sequences: 24, Running: 6}, 512)
			e, err := engine.New(f, c, engine.Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Control: enginetest.End, ControlText: enginetest.EndText,
		Closed: func(t *testing.T) {
			if !f.Closed() {
				t.Error("the backend was not closed")
			}
		},
	}.Run(t)
}

// The fake's own words, to the letter.
func TestGenerate(t *testing.T) {
	e := start(t, enginetest.NewFake(small, 200), engine.DefaultConfig())
	for _, max := range []int{1, 7, 60} {
		prompt := fmt.Sprintf("a prompt for %d tokens that is longer than one batch", max)
		want, ended := enginetest.Continue(prompt, max)
		s, err := e.Generate(t.Context(), &engine.Request{Text: prompt, MaxTokens: max, Logprobs: 2})
		if err != nil {
			t.Fatal(err)
		}
		text, last, err := enginetest.Read(t.Context(), s)
		if err != nil || text != want {
			t.Errorf("got %q, %v; want %q", text, err, want)
		}
		reason := engine.FinishLength
		if ended {
			reason = engine.FinishStop
		}
		if last.Finish != reason {
			t.Errorf("finish %q, want %q", last.Finish, reason)
		}
		if last.Usage.PromptTokens != len(prompt) || last.Usage.GeneratedTokens == 0 {
			t.Errorf("usage %+v", last.Usage)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	f := enginetest.NewFake(small, 200)
	f.Gate = make(chan struct{})
	c := engine.DefaultConfig()
	c.Queue = 3
	e := start(t, f, c)
	var refused error
	var streams []*engine.Stream
	for i := 0; i < 20 && refused == nil; i++ {
		s, err := e.Generate(t.Context(), &engine.Request{Text: fmt.Sprint("queue ", i), MaxTokens: 4, Logprobs: -1})
		if err != nil {
			refused = err
			break
		}
		streams = append(streams, s)
	}
	if !errors.Is(refused, engine.ErrQueueFull) {
		t.Fatalf("got %v after %d requests", refused, len(streams))
	}
	close(f.Gate)
	for _, s := range streams {
		if _, _, err := enginetest.Read(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
}

func TestOneBadBatchFailsAlone(t *testing.T) {
	f := enginetest.NewFake(small, 200)
	f.Gate = make(chan struct{})
	boom := errors.New("boom")
	f.Fail = func(rows []engine.Row) error {
		for _, r := range rows {
			if r.Token == '!' {
				return boom
			}
		}
		return nil
	}
	e := start(t, f, engine.DefaultConfig())
	prompts := []string{"good one", "bad!", "good two"}
	var streams []*engine.Stream
	for _, p := range prompts {
		s, err := e.Generate(t.Context(), &engine.Request{Text: p, MaxTokens: 5, Logprobs: -1})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	close(f.Gate)
	for i, s := range streams {
		text, _, err := enginetest.Read(t.Context(), s)
		if strings.Contains(prompts[i], "!") {
			if !errors.Is(err, engine.ErrBackend) || !errors.Is(err, boom) {
				t.Errorf("%s: %v", prompts[i], err)
			}
			continue
		}
		if want, _ := enginetest.Continue(prompts[i], 5); err != nil || text != want {
			t.Errorf("%s: %q, %v; want %q", prompts[i], text, err, want)
		}
	}
}

func TestCloseTellsTheBackendsError(t *testing.T) {
	f := enginetest.NewFake(small, 200)
	f.Failed = errors.New("boom")
	e, err := engine.New(f, engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); !errors.Is(err, f.Failed) {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := engine.New(f, engine.Config{}, engine.Hooks{}); !errors.Is(err, f.Failed) {
		t.Errorf("a wrong configuration: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	f := enginetest.NewFake(small, 200)
	f.Gate = make(chan struct{}, 1000)
	e := start(t, f, engine.DefaultConfig())
	s, err := e.Generate(t.Context(), &engine.Request{Text: "late", IgnoreEOS: true, Deadline: time.Now().Add(50 * time.Millisecond), Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(80*time.Millisecond, func() { close(f.Gate) })
	_, last, err := enginetest.Read(t.Context(), s)
	if err != nil || last.Finish != engine.FinishDeadline {
		t.Errorf("got %q, %v", last.Finish, err)
	}
}

// TestPrograms runs random programs of requests, scores, cancellations and slow readers, and checks that every request ends,
// that nobody's text depends on anybody else, and that no cell leaks.
func TestPrograms(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // some wait most of the time
			program(t, seed)
		})
	}
}

func program(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	limits := engine.Limits{Cells: 64 + rng.IntN(400), Batch: 4 + rng.IntN(60), Running: 1 + rng.IntN(6)}
	limits.Sequences = limits.Running + rng.IntN(10)
	f := enginetest.NewFake(limits, min(limits.Cells, 40+rng.IntN(200)))
	c := engine.DefaultConfig()
	if rng.IntN(3) > 0 {
		c.Budget = 1 + rng.IntN(40)
	}
	c.Placing, c.Draft, c.Measure, c.Border = engine.Placing(rng.IntN(3)), rng.IntN(2) == 0, rng.IntN(2) == 0, rng.IntN(3)
	c.Cache.Memory = int64(rng.IntN(3) * 400) // for nothing, or for few
	if rng.IntN(3) == 0 {
		c.Cache.Dir = t.TempDir()
	}
	f.Loras = []string{"other", "third"}
	f.Small = draftModel(f, rng)
	if rng.IntN(2) == 0 { // so that guesses pay
		f.Fail = func([]engine.Row) error { time.Sleep(200 * time.Microsecond); return nil }
	}
	e, err := engine.New(f, c, engine.Hooks{
		Step: func(s engine.Step) {
			if s.Cells != f.Cells() {
				t.Errorf("the engine counts %d cells, the backend %d", s.Cells, f.Cells())
			}
			if s.Accepted > s.Drafted || s.ModelDrafted > s.Drafted || s.ModelAccepted > min(s.Accepted, s.ModelDrafted) {
				t.Errorf("guesses: %+v", s)
			}
		},
		DraftFailed: func(err error) {
			if !errors.Is(err, errSmall) {
				t.Error(err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		shared := strings.Repeat("common ", rng.IntN(4))
		prompt := fmt.Sprintf("%s%d", shared, rng.IntN(25))
		max := rng.IntN(30)
		key := fmt.Sprint(rng.IntN(2))
		adapter := []string{"", "", "other", "third"}[rng.IntN(4)]
		kind, pause := rng.IntN(12), time.Duration(rng.IntN(2000))*time.Microsecond
		wg.Go(func() {
			time.Sleep(pause)
			switch {
			case kind == 0:
				cancelled(t, e, prompt, key, pause)
			case kind < 4:
				scored(t, e, prompt, key)
			case kind < 7:
				documented(t, e, rand.New(rand.NewPCG(seed, uint64(i))), key, max)
			case kind < 9:
				shifted(t, e, rand.New(rand.NewPCG(seed, uint64(i))), prompt, key, adapter)
			default:
				generated(t, e, prompt, key, max, i, adapter)
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(10 * time.Second); f.Followed() > 0; time.Sleep(time.Millisecond) { // who cancels doesn't wait for it
		if time.Now().After(end) {
			t.Errorf("the draft model still holds %d sequences", f.Followed())
			break
		}
	}
	e.Close()
	if !f.Closed() {
		t.Error("the backend was not closed")
	}
	if n := f.Foreign(); n > 0 && c.Placing == engine.PlaceNever {
		t.Errorf("%d tokens were shared that had been computed behind others", n)
	}
}

var errSmall = errors.New("the draft model is tired")

// draftModel is right, wrong, or both in turn, and may fail some time; or there is none.
func draftModel(f *enginetest.Fake, rng *rand.Rand) func(tokens []engine.Token, n int) ([]engine.Token, error) {
	kind, calls, last := rng.IntN(4), 0, rng.IntN(200)
	if kind == 3 {
		return nil
	}
	return func(tokens []engine.Token, n int) ([]engine.Token, error) {
		if calls++; calls > last && last > 100 {
			return nil, errSmall
		}
		guesses, err := f.Foresee(tokens, n)
		if kind == 1 || kind == 2 && calls%2 == 0 {
			for i := calls % 3; i < len(guesses); i++ {
				guesses[i] = 'Z'
			}
		}
		return guesses, err
	}
}

func cancelled(t *testing.T, e *engine.Engine, prompt, key string, after time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	s, err := e.Generate(ctx, &engine.Request{Text: prompt, Key: key, IgnoreEOS: true, Logprobs: -1})
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	_, _, err = enginetest.Read(context.Background(), s)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
}

func scored(t *testing.T, e *engine.Engine, prompt, key string) {
	var asks []engine.ScoreAsk
	for _, continuation := range []string{"a", "bcd", "efghij"} {
		asks = append(asks, engine.ScoreAsk{Key: key, Prompt: tokens(prompt), Continuation: tokens(continuation)})
	}
	together, err := e.Score(t.Context(), asks)
	if err != nil {
		t.Error(err)
		return
	}
	for i, ask := range asks {
		alone, err := e.Score(t.Context(), []engine.ScoreAsk{ask})
		if err != nil {
			t.Error(err)
			return
		}
		if len(together[i].Logprobs) != len(ask.Continuation) || alone[0].Sum() != together[i].Sum() {
			t.Errorf("%q: alone %v, together %v", prompt, alone[0], together[i])
		}
	}
}

// A scoring that gives way in the middle of a continuation begins it again.
func TestScoringGivesWay(t *testing.T) {
	f := enginetest.NewFake(engine.Limits{Cells: 340, Batch: 64, Running: 2, Sequences: 4}, 400)
	grown := make(chan struct{})
	steps := 0
	f.Fail = func([]engine.Row) error {
		if steps++; steps == 220 { // soon the stream fills what it has claimed
			close(grown)
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	}
	c := engine.DefaultConfig()
	c.Placing, c.Draft, c.Budget = engine.PlaceNever, false, 1
	waited := 0
	e, err := engine.New(f, c, engine.Hooks{Step: func(s engine.Step) { waited = max(waited, s.Waiting) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Generate(t.Context(), &engine.Request{Text: "long", IgnoreEOS: true, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-grown
	ask := []engine.ScoreAsk{{Prompt: tokens("prompt"), Continuation: tokens(strings.Repeat("abcdefg ", 8))}}
	together, err := e.Score(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := enginetest.Read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	alone, err := e.Score(t.Context(), ask)
	e.Close()
	if err != nil || waited == 0 || alone[0].Sum() != together[0].Sum() || len(together[0].Logprobs) != len(ask[0].Continuation) {
		t.Errorf("gave way (%d waited): %v; alone: %v, %v", waited, together, alone, err)
	}
}

func generated(t *testing.T, e *engine.Engine, prompt, key string, max, i int, adapter string) {
	s, err := e.Generate(t.Context(), &engine.Request{Text: prompt, Key: key, MaxTokens: max, Logprobs: -1, Adapter: adapter})
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	if i%3 == 0 {
		time.Sleep(time.Millisecond) // a slow reader
	}
	text, last, err := enginetest.Read(t.Context(), s)
	if err != nil {
		t.Error(err)
		return
	}
	want, _ := enginetest.ContinueAdapted(adapter, prompt, last.Usage.GeneratedTokens)
	if text != want {
		t.Errorf("%q: got %q, want %q", prompt, text, want)
	}
}

// documented asks about documents, some of which others have as well. The fake's text does not depend on how they were computed.
func documented(t *testing.T, e *engine.Engine, rng *rand.Rand, key string, max int) {
	chat := &engine.Chat{Messages: []engine.Message{{Role: "system", Content: "S"}, {Role: "user", Content: fmt.Sprint(rng.IntN(3))}}}
	for range rng.IntN(4) {
		d := rng.IntN(5)
		chat.Documents = append(chat.Documents, engine.Document{Title: fmt.Sprint(d), Text: strings.Repeat("d", d)})
	}
	r := &engine.Request{Chat: chat, Key: key, MaxTokens: max, Logprobs: -1}
	prompt, err := e.Render(t.Context(), r)
	if err != nil {
		t.Error(err)
		return
	}
	if len(prompt.Tokens) >= e.Info().Context {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := e.Generate(ctx, r)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	if rng.IntN(5) == 0 {
		cancel()
	}
	text, last, err := enginetest.Read(t.Context(), s)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	bytes := make([]byte, len(prompt.Tokens))
	for i, token := range prompt.Tokens {
		bytes[i] = byte(token)
	}
	if want, _ := enginetest.Continue(string(bytes), last.Usage.GeneratedTokens); text != want {
		t.Errorf("%q: got %q, want %q", bytes, text, want)
	}
}

func tokens(text string) []engine.Token {
	out := make([]engine.Token, len(text))
	for i := range len(text) {
		out[i] = engine.Token(text[i])
	}
	return out
}

// More messages than the context has tokens are not even rendered, by whoever asks.
func TestTooManyMessages(t *testing.T) {
	e := start(t, enginetest.NewFake(small, 200), engine.DefaultConfig())
	many := &engine.Request{Chat: &engine.Chat{Messages: make([]engine.Message, e.Info().Context+1)}, Logprobs: -1}
	for name, err := range map[string]error{
		"render":   func() error { _, err := e.Render(t.Context(), many); return err }(),
		"generate": func() error { _, err := e.Generate(t.Context(), many); return err }(),
	} {
		if o, ok := errors.AsType[*engine.OverflowError](err); !ok || o.Tokens != len(many.Chat.Messages) || o.Limit != e.Info().Context {
			t.Errorf("%s: %v", name, err)
		}
	}
}
