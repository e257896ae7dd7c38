package native_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/llama"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// modelFile finds a test model or skips.
func modelFile(t testing.TB, name string) string {
	t.Helper()
	shared := os.Getenv("QUIPU_TEST_SHARED")
	if shared == "" {
		shared = filepath.FromSlash("../../../shared")
	}
	folders := []string{os.Getenv("QUIPU_TEST_MODELS"), filepath.Join(shared, "models")}
	if cache, err := os.UserCacheDir(); err == nil && folders[0] == "" {
		folders[0] = filepath.Join(cache, "quipu", "models")
	}
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skipf("%s is missing; `make test-models` gets it, or set QUIPU_TEST_MODELS to a folder that holds it", name)
	return ""
}

const (
	chatModel      = "SmolLM2-135M-Instruct.Q4_1.gguf"
	embeddingModel = "all-MiniLM-L6-v2.f16.gguf"
	rerankModel    = "minilm-l6-selfdistilled-reranker-delta-r8-q8_0.gguf"
)

func open(t *testing.T, c engine.Config, o native.Options) *engine.Engine {
	t.Helper()
	b, err := native.Load(t.Context(), modelFile(t, chatModel), o)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(b, c, engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		noOwners(t)
	})
	return e
}

// noOwners fails the test when C memory is still owned by somebody.
func noOwners(t *testing.T) {
	t.Helper()
	if live := llama.LiveOwners(); len(live) > 0 {
		t.Errorf("still open are %v", live)
	}
}

func read(t *testing.T, s *engine.Stream) (string, engine.Event) {
	t.Helper()
	defer s.Close()
	text, last, err := enginetest.Read(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return text, last
}

func ask(text string, n int) *engine.Request {
	return &engine.Request{Chat: &engine.Chat{Messages: []engine.Message{{Role: "user", Content: text}}}, MaxTokens: n, Logprobs: -1}
}

func TestChat(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{})
	known, err := e.Generate(t.Context(), &engine.Request{Text: "Paris is the capital of France. The capital of France is", MaxTokens: 4, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := read(t, known); !strings.Contains(text, "Paris") {
		t.Errorf("the capital of France is %q", text)
	}
	// What comes first is about equally likely whether the prompt was computed or its kept prefix reused. Texts may part:
	// batches of another shape round otherwise.
	var first [2]engine.TokenInfo
	for i := range first {
		r := ask("What is the capital of France?", 8)
		r.Logprobs = 1
		s, err := e.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		event, err := s.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first[i] = event.Tokens[0].Top[0]
		if text, last := read(t, s); i == 1 && last.Usage.CachedTokens == 0 {
			t.Errorf("the prefix was not reused for %q", text)
		}
	}
	if d := first[0].Logprob - first[1].Logprob; d > 0.1 || d < -0.1 {
		t.Errorf("first token %q at %.3f, with a kept prefix %q at %.3f", first[0].Text, first[0].Logprob, first[1].Text, first[1].Logprob)
	}
}

func TestCompany(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{Running: 8})
	questions := []string{"Name three colours.", "What is two plus two?", "Who wrote Hamlet?", "What is water made of?", "Count to five.", "What is the capital of Italy?", "Say hello.", "What is the sun?", "Name a fruit.", "What is ice?", "Why is the sky blue?", "Name a dog breed."}
	var wg sync.WaitGroup
	began := time.Now()
	tokens := make([]int, len(questions))
	for i, q := range questions {
		wg.Go(func() {
			s, err := e.Generate(context.Background(), ask(q, 16))
			if err != nil {
				t.Error(err)
				return
			}
			text, last := read(t, s)
			tokens[i] = last.Usage.GeneratedTokens
			if text == "" {
				t.Errorf("%s: no answer", q)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range tokens {
		sum += n
	}
	t.Logf("%d tokens, %.0f a second", sum, float64(sum)/time.Since(began).Seconds())
}

func TestScore(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{})
	tokens := func(s string) []engine.Token {
		out, err := e.Tokenize(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	prompt := tokens("The capital of France is")
	asks := []engine.ScoreAsk{
		{Prompt: prompt, Continuation: tokens(" Paris.")},
		{Prompt: prompt, Continuation: tokens(" a purple sandwich of iron")},
		{Prompt: tokens("The capital of Italy is"), Continuation: tokens(" Rome")},
	}
	scores, err := e.Score(t.Context(), asks)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range scores {
		t.Logf("%d: %v mean %.3f", i, s.Logprobs, s.Mean())
		if len(s.Logprobs) != len(asks[i].Continuation) {
			t.Errorf("ask %d: %d log-probabilities for %d tokens", i, len(s.Logprobs), len(asks[i].Continuation))
		}
	}
	if scores[0].Mean() <= scores[1].Mean() {
		t.Error("Paris is not likelier than a sandwich")
	}
	again, err := e.Score(t.Context(), asks[1:2])
	if err != nil {
		t.Fatal(err)
	}
	if d := again[0].Sum() - scores[1].Sum(); d > 0.2 || d < -0.2 {
		t.Errorf("alone %.3f, in company %.3f", again[0].Sum(), scores[1].Sum())
	}
}

func TestGrammar(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{})
	r := ask("Is the sky blue? Answer as JSON.", 64)
	r.JSONSchema = []byte(`{"type":"object","properties":{"answer":{"type":"boolean"}},"required":["answer"],"additionalProperties":false}`)
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := read(t, s)
	if !strings.Contains(text, `"answer"`) || !strings.HasSuffix(strings.TrimSpace(text), "}") {
		t.Errorf("got %q", text)
	}
	r = ask("x", 4)
	r.Grammar = "root ::= ("
	if _, err := e.Generate(t.Context(), r); !errors.Is(err, engine.ErrBadRequest) {
		t.Errorf("a broken grammar: %v", err)
	}
}

func TestCancelAndClose(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{})
	r := ask("Write a very long story.", 2000)
	r.IgnoreEOS = true
	s, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := s.Recv(t.Context()); !errors.Is(err, engine.ErrClosed) {
		// events that were there before Close may still come
		for err == nil {
			_, err = s.Recv(t.Context())
		}
	}
	s2, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	for err == nil {
		_, err = s2.Recv(context.Background())
	}
	if !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A model is not freed under a request that is being prepared.
func TestCloseWaitsForSamplers(t *testing.T) {
	b, err := native.Load(t.Context(), modelFile(t, chatModel), native.Options{Context: 256, Cells: 256, Running: 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.NewSampler(engine.DefaultSampling(), 1, engine.Constraint{Grammar: `root ::= "a"`})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	for { // until it closes
		other, err := b.NewSampler(engine.Sampling{}, 1, engine.Constraint{})
		if errors.Is(err, engine.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
	}
	if len(llama.LiveOwners()) == 0 {
		t.Error("it was closed under a sampler")
	}
	if err := errors.Join(s.Close(), s.Close(), <-closed, b.Close()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"tokenize": func() error { _, err := b.Tokenize("x", false); return err }(),
		"render": func() error {
			_, err := b.Render(&engine.Chat{Messages: []engine.Message{{Role: "user"}}}, nil)
			return err
		}(),
	} {
		if !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	noOwners(t)
}

func TestOverflow(t *testing.T) {
	e := open(t, engine.DefaultConfig(), native.Options{Context: 256})
	_, err := e.Generate(t.Context(), ask(strings.Repeat("word ", 400), 8))
	var o *engine.OverflowError
	if !errors.As(err, &o) || !errors.Is(err, engine.ErrContextOverflow) {
		t.Fatalf("got %v", err)
	}
	s, err := e.Generate(t.Context(), ask("Write a very long story.", 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, last := read(t, s); last.Finish == "" {
		t.Error("no finish reason")
	}
}
