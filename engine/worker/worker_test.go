package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/engine/worker"
	"github.com/rs/zerolog"
)

// patience bounds what a test waits for.
const patience = time.Minute

func TestWorkerIsAnEngine(t *testing.T) {
	c := config(t, part{Context: 512})
	var steps, done atomic.Int64
	c.Hooks = engine.Hooks{Step: func(engine.Step) { steps.Add(1) }, Done: func(engine.Usage, engine.Timings, error) { done.Add(1) }}
	var loaded []float32
	c.Progress = func(f float32) { loaded = append(loaded, f) }
	w := start(t, c)
	if i := w.Info(); i.Name != "fake" || i.Context != 512 || len(loaded) == 0 || loaded[0] != 0.5 {
		t.Errorf("loaded %+v by steps %v", i, loaded)
	}
	r := plain("Once upon a time", 40)
	r.Logprobs = 2
	s, err := w.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r.Text = "changed" // the caller may
	text, last, err := read(t.Context(), s)
	if want := undisturbed(t, plain("Once upon a time", 40)); err != nil || text != want || last.Finish != engine.FinishLength || last.Usage.GeneratedTokens != 40 || len(last.Tokens[0].Top) != 2 {
		t.Errorf("it says %q, want %q; %+v, %v", text, want, last, err)
	}
	fed, err := w.Render(t.Context(), plain("abc", 1))
	split, err2 := w.Tokenize(t.Context(), "abc")
	if err != nil || err2 != nil || len(fed.Tokens) != 3 || len(split) != 3 {
		t.Errorf("rendered %v, %v; tokenized %v, %v", fed, err, split, err2)
	}
	scores, err := w.Score(t.Context(), []engine.ScoreAsk{{Prompt: fed.Tokens, Continuation: split}, {Prompt: split, Continuation: fed.Tokens[:1]}})
	if err != nil || len(scores) != 2 || len(scores[0].Logprobs) != 3 || scores[0].Mean() == 0 {
		t.Errorf("scores %v, %v", scores, err)
	}
	for want, r := range map[error]*engine.Request{
		engine.ErrBadRequest: {Text: "x", Grammar: "root"}, engine.ErrContextOverflow: plain(strings.Repeat("long ", 200), 1),
	} {
		if _, err := w.Generate(t.Context(), r); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if _, err := w.Embed(t.Context(), []string{"x"}); !errors.Is(err, engine.ErrBackend) {
		t.Errorf("a chat model embeds: %v", err)
	}
	if err := w.Health(t.Context()); err != nil || w.Restarts() != 0 {
		t.Errorf("%v, %d restarts", err, w.Restarts())
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err = w.Generate(ctx, plain("It is not read to its end", 0))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, _, err := read(t.Context(), s); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := w.Tokenize(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if err := w.Close(); err != nil { // all that happened has been told by now
		t.Error(err)
	}
	if steps.Load() < 40 || done.Load() < 2 {
		t.Errorf("told of %d steps and %d requests", steps.Load(), done.Load())
	}
}

func TestWorkerIsAnEmbedder(t *testing.T) {
	w := start(t, config(t, part{Embeds: true}))
	rows, err := w.Embed(t.Context(), []string{"a", "abc"})
	counts, err2 := w.CountTokens([]string{"abcd"})
	if err != nil || err2 != nil || rows[1][0] != 3 || counts[0] != 4 || w.Info().Dimensions != 1 {
		t.Errorf("rows %v, %v, counts %v, %v", rows, err, counts, err2)
	}
	_, err = w.Embed(t.Context(), []string{"a", strings.Repeat("a", 11)})
	if o, ok := errors.AsType[*engine.OverflowError](err); !ok || *o != (engine.OverflowError{Kind: engine.ErrInputTooLong, Index: 1, Tokens: 11, Limit: 10}) {
		t.Errorf("got %v", err)
	}
	if rows, read, err := w.EmbedCounted(t.Context(), []string{"a", strings.Repeat("a", 11)}, true); err != nil || read != 11 || rows[1][0] != 10 {
		t.Errorf("truncated: %v, %d, %v", rows, read, err)
	}
	if _, err := w.Generate(t.Context(), plain("x", 1)); !errors.Is(err, engine.ErrBackend) {
		t.Errorf("an embedding model generates: %v", err)
	}
	if _, _, err := w.Rerank(t.Context(), "x", []string{"y"}, false); !errors.Is(err, engine.ErrBackend) {
		t.Errorf("an embedding model reranks: %v", err)
	}
}

func TestWorkerIsAReranker(t *testing.T) {
	w := start(t, config(t, part{Reranks: true}))
	scores, read, err := w.Rerank(t.Context(), "ab", []string{"a", "abc"}, false)
	if err != nil || read != 8 || !slices.Equal(scores, []float32{-1, 1}) || w.Info().Name != "scores" {
		t.Errorf("scores %v, %d tokens, %v", scores, read, err)
	}
	long := []string{"a", strings.Repeat("a", 9)}
	_, _, err = w.Rerank(t.Context(), "ab", long, false)
	if o, ok := errors.AsType[*engine.OverflowError](err); !ok || *o != (engine.OverflowError{Kind: engine.ErrInputTooLong, Index: 1, Tokens: 11, Limit: 10}) {
		t.Errorf("got %v", err)
	}
	if _, read, err := w.Rerank(t.Context(), "ab", long, true); err != nil || read != 13 {
		t.Errorf("truncated: %d tokens, %v", read, err)
	}
	if _, err := w.Embed(t.Context(), []string{"x"}); !errors.Is(err, engine.ErrBackend) {
		t.Errorf("a reranking model embeds: %v", err)
	}
}

// A worker that dies in the middle of streams changes nothing of what they say.
func TestStreamsSurviveADeath(t *testing.T) {
	once := filepath.Join(t.TempDir(), "once")
	w := start(t, config(t, part{Deaths: []death{{Word: "number 3", After: 20, Once: once}}}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := plain(fmt.Sprint("This is the text of number ", i), 60)
			text, last := ask(t, w, r)
			if want := undisturbed(t, r); text != want {
				t.Errorf("stream %d: got %q, want %q", i, text, want)
			}
			if last.Finish != engine.FinishLength || last.Usage.GeneratedTokens != 60 || last.Timings.Decode <= 0 {
				t.Errorf("stream %d ends with %+v", i, last)
			}
		})
	}
	wg.Wait()
	if w.Restarts() != 1 {
		t.Errorf("%d restarts: the test proves nothing", w.Restarts())
	}
}

// So does a stream that had filled its context, whose tokens are then more than the context holds.
func TestShiftedStreamSurvivesADeath(t *testing.T) {
	const size, max, keep = 96, 300, 10
	for _, after := range []int{40, 150} { // before its first shift, and after several
		once := filepath.Join(t.TempDir(), "once")
		w := start(t, config(t, part{Context: size, Deaths: []death{{Word: "shifted", After: after, Once: once}}}))
		r := plain("This text will be shifted", max)
		r.Shift, r.Keep = true, keep
		text, last := ask(t, w, r)
		prompt, err := w.Render(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		want, _, dropped := enginetest.ContinueShifted("", prompt.Tokens, max, size, keep)
		if u := last.Usage; text != want || u.GeneratedTokens != max || u.DroppedTokens != dropped || u.PromptTokens != len(prompt.Tokens) {
			t.Errorf("it died after %d tokens and went on to %q, %+v; want %q, %d", after, text, u, want, dropped)
		}
		if w.Restarts() != 1 {
			t.Errorf("%d restarts: the test proves nothing", w.Restarts())
		}
	}
}

// A request that takes its workers along fails, and no other.
func TestPoison(t *testing.T) {
	for _, company := range []int{0, 5} {
		for _, after := range []int{0, 7} {
			t.Run(fmt.Sprintf("beside %d after %d tokens", company, after), func(t *testing.T) {
				w := start(t, config(t, part{Deaths: []death{{Word: "poison", After: after}}}))
				var wg sync.WaitGroup
				for i := range company {
					wg.Go(func() {
						for k := range 3 {
							r := plain(fmt.Sprint("This is honest text ", i, k), 40)
							if text, _ := ask(t, w, r); text != undisturbed(t, r) {
								t.Errorf("%d: got %q", i, text)
							}
						}
					})
				}
				text, err := "", error(nil)
				s, err := w.Generate(t.Context(), plain("This is poison", 40))
				if err == nil {
					text, _, err = read(t.Context(), s)
				}
				if !errors.Is(err, engine.ErrBackend) || !strings.Contains(err.Error(), "killed") || len(text) > after {
					t.Errorf("after %q: %v", text, err)
				}
				wg.Wait()
				most := 2
				if company > 0 {
					most = 6
				}
				if n := w.Restarts(); n < 1 || n > most {
					t.Errorf("%d restarts", n)
				}
				if err := w.Health(t.Context()); err != nil {
					await(t, func() bool { return w.Health(t.Context()) == nil })
				}
			})
		}
	}
}

// A worker that can't stay alive is said to be unhealthy, with the reason, until it can.
func TestCrashLoop(t *testing.T) {
	dir := t.TempDir()
	broken, once := filepath.Join(dir, "broken"), filepath.Join(dir, "once")
	c := config(t, part{Dies: "ASSERT(model) failed", Unless: broken, Deaths: []death{{Word: "die", Once: once}}})
	c.Deaths = 3
	w := start(t, c)
	if err := os.WriteFile(broken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := w.Generate(t.Context(), plain("die", 5))
	if err == nil {
		_, _, err = read(t.Context(), s)
	}
	if !errors.Is(err, engine.ErrBackend) || !strings.Contains(err.Error(), "ASSERT(model) failed") {
		t.Errorf("got %v", err)
	}
	if err := w.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "times in a row") {
		t.Errorf("health: %v", err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return w.Health(t.Context()) == nil })
	r := plain("well again", 5)
	if text, _ := ask(t, w, r); text != undisturbed(t, r) {
		t.Errorf("it says %q", text)
	}
}

func TestLoadingFails(t *testing.T) {
	_, err := worker.Start(t.Context(), config(t, part{Refuse: "broken.gguf"}))
	if !errors.Is(err, engine.ErrBadRequest) || err.Error() != "broken.gguf: bad request" {
		t.Errorf("got %v", err)
	}
	here := filepath.Join(t.TempDir(), "here")
	if err := os.WriteFile(here, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = worker.Start(t.Context(), config(t, part{Dies: "ASSERT(file) failed", Unless: here}))
	if !errors.Is(err, engine.ErrBackend) || !strings.Contains(err.Error(), "killed: ASSERT(file) failed") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	c := config(t, part{})
	c.Command[0] = filepath.Join(t.TempDir(), "nothing")
	if _, err = worker.Start(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = worker.Start(ctx, config(t, part{})); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Close fails what is under way, and what comes later.
func TestClose(t *testing.T) {
	w := start(t, config(t, part{}))
	var streams []*engine.Stream
	for i := range 10 {
		s, err := w.Generate(t.Context(), plain(fmt.Sprint("It will not be finished ", i), 4000))
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range streams {
		if _, _, err := read(t.Context(), s); err != nil && !errors.Is(err, engine.ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := w.Generate(t.Context(), plain("x", 1)); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Tokenize(t.Context(), "x"); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The child's log is part of the front's, and a worker that is killed without any request in it comes back.
func TestLogAndRestart(t *testing.T) {
	c, log := config(t, part{}), &lines{}
	c.Log = zerolog.New(log)
	w := start(t, c)
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return w.Restarts() == 1 })
	r := plain("x", 5)
	if text, _ := ask(t, w, r); text != undisturbed(t, r) {
		t.Errorf("it says %q", text)
	}
	for _, want := range []string{`{"level":"debug","worker":"fake","from":"the child","message":"loaded"}`, `"error":"signal: killed"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not hold %s: %s", want, log)
		}
	}
}

// front starts a worker, says its process id, and waits to be killed.
func front() {
	self, _ := os.Executable()
	c := worker.Default(self, "worker")
	c.Settings, _ = json.Marshal(part{Context: 64})
	w, err := worker.Start(context.Background(), c)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(w.PID())
	select {}
}

// No worker outlives a front that was killed.
func TestFrontIsKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "front")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("there is no worker: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code tells nothing
	await(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

// zombie tells a process that has ended and whose parent, not we, has still to ask how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

func await(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !what(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// What a token costs more than in this process: compare with BenchmarkTokenHere.
func BenchmarkToken(b *testing.B)     { tokens(b, start(b, config(b, part{}))) }
func BenchmarkTokenHere(b *testing.B) { tokens(b, here(b)) }

// A call that costs the model next to nothing.
func BenchmarkTokenize(b *testing.B) {
	w := start(b, config(b, part{}))
	for b.Loop() {
		if _, err := w.Tokenize(b.Context(), "how long is the battery guaranteed"); err != nil {
			b.Fatal(err)
		}
	}
}
