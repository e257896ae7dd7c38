package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
)

var roomy = engine.Limits{Cells: 8192, Batch: 64, Running: 4, Sequences: 16}

func startModel(t *testing.T, fingerprint string, c engine.Config, h engine.Hooks) *engine.Engine {
	t.Helper()
	f := enginetest.NewFake(roomy, 4096)
	f.Fingerprint = fingerprint
	e, err := engine.New(f, c, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// cached says how many of a prompt's tokens an engine did not compute.
func cached(t *testing.T, e *engine.Engine, prompt string) int {
	t.Helper()
	s, err := e.Generate(t.Context(), &engine.Request{Text: prompt, MaxTokens: 3, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text, last, err := enginetest.Read(t.Context(), s)
	if want, _ := enginetest.Continue(prompt, last.Usage.GeneratedTokens); err != nil || text != want {
		t.Fatalf("got %q, %v; want %q", text, err, want)
	}
	return last.Usage.CachedTokens
}

// What several prompts begin with outlives the engine, also one that is killed; another model never gets it.
func TestPrefixesOutliveTheEngine(t *testing.T) {
	c := engine.DefaultConfig()
	c.Cache.Dir = filepath.Join(t.TempDir(), "kv")
	system := strings.Repeat("a long system prompt ", 20)
	e := startModel(t, "one", c, engine.Hooks{})
	for _, question := range []string{"who", "what", "where"} {
		cached(t, e, system+question)
	}
	killed := c
	killed.Cache.Dir = filepath.Join(t.TempDir(), "copy")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // until it is written
		if files, _ := filepath.Glob(filepath.Join(c.Cache.Dir, "*.kv")); len(files) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written while the engine ran")
		}
	}
	if err := os.CopyFS(killed.Cache.Dir, os.DirFS(c.Cache.Dir)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	for name, c := range map[string]engine.Config{"closed": c, "killed": killed} {
		if n := cached(t, startModel(t, "two", c, engine.Hooks{}), system+"why"); n != 0 {
			t.Errorf("%s: another model took %d tokens", name, n)
		}
		if n := cached(t, startModel(t, "one", c, engine.Hooks{}), system+"why"); n < len(system) {
			t.Errorf("%s: %d tokens came back, want %d", name, n, len(system))
		}
	}
	c.Cache.Disk = 0
	if n := cached(t, startModel(t, "one", c, engine.Hooks{}), system+"why"); n != 0 {
		t.Errorf("with no disk allowed %d tokens came from it", n)
	}
	if files, _ := filepath.Glob(filepath.Join(c.Cache.Dir, "*.kv")); len(files) != 0 {
		t.Errorf("with no disk allowed %d files stay", len(files))
	}
}

// The trial of placing is held once for each model, also when nothing else may be kept on disk.
func TestTrialIsRemembered(t *testing.T) {
	c := engine.DefaultConfig()
	c.Placing = engine.PlaceAuto
	c.Cache.Dir, c.Cache.Disk = t.TempDir(), 0
	trial := func(fingerprint string) (engine.Trial, int64) {
		var steps atomic.Int64
		found := make(chan engine.Trial, 1)
		e := startModel(t, fingerprint, c, engine.Hooks{
			Step:    func(engine.Step) { steps.Add(1) },
			Placing: func(t engine.Trial) { found <- t },
		})
		got := <-found
		e.Close()
		return got, steps.Load()
	}
	first, steps := trial("one")
	if first.Err != nil || steps == 0 {
		t.Fatalf("%+v after %d steps", first, steps)
	}
	again, steps := trial("one")
	if steps != 0 || again != first {
		t.Errorf("the next engine took %d steps to find %+v, want %+v", steps, again, first)
	}
	if _, steps := trial("two"); steps == 0 {
		t.Error("another model was not tried")
	}
	if _, steps := trial(""); steps == 0 {
		t.Error("a model that can't be told apart was not tried")
	}
}

// The trial computes nothing beside a request.
func TestTrialYields(t *testing.T) {
	f := enginetest.NewFake(roomy, 4096)
	f.Gate = make(chan struct{})
	var batches [][]engine.Row
	f.Fail = func(rows []engine.Row) error {
		batches = append(batches, append([]engine.Row(nil), rows...))
		return nil
	}
	c := engine.DefaultConfig()
	c.Placing, c.Draft = engine.PlaceAuto, false
	e, err := engine.New(f, c, engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	f.Gate <- struct{}{} // the trial has begun
	s, err := e.Generate(t.Context(), &engine.Request{Text: "x", MaxTokens: 20, IgnoreEOS: true, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	close(f.Gate)
	if _, _, err := enginetest.Read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	e.Close()
	first := -1
	for i, rows := range batches {
		if rows[0].Token == 'x' && rows[0].Position == 0 {
			first = i
		}
	}
	if first < 1 || first > 4 {
		t.Fatalf("the request's first batch was number %d", first)
	}
	for _, rows := range batches[first : first+20] {
		if len(rows) != 1 {
			t.Errorf("a batch of %d rows beside the request", len(rows))
		}
	}
}

// The trial of placing gives up its sequences and cells when somebody comes.
func TestTrialGivesWay(t *testing.T) {
	f := enginetest.NewFake(engine.Limits{Cells: 2048, Batch: 64, Running: 3, Sequences: 8}, 2048)
	c := engine.DefaultConfig()
	c.Placing, c.Draft = engine.PlaceAuto, false
	began, most := make(chan struct{}), 0
	var once sync.Once
	f.Fail = func([]engine.Row) error {
		once.Do(func() { close(began) })
		time.Sleep(200 * time.Microsecond)
		return nil
	}
	found := make(chan engine.Trial, 1)
	e, err := engine.New(f, c, engine.Hooks{
		Step:    func(s engine.Step) { most = max(most, s.Rows-s.Prompt) },
		Placing: func(t engine.Trial) { found <- t },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-began
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			s, err := e.Generate(t.Context(), &engine.Request{Text: fmt.Sprintf("somebody %d", i), MaxTokens: 500, IgnoreEOS: true, Logprobs: -1})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, _, err := enginetest.Read(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := <-found; got.Err != nil { // it went on afterwards
		t.Error(got.Err)
	}
	e.Close()
	if most != 3 {
		t.Errorf("at most %d of 3 streams ran at a time", most)
	}
}
