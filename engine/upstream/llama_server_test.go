package upstream

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// llamaServerHere starts the llama-server that scripts/bench-peers has built, with the starter model.
func llamaServerHere(t *testing.T) *Upstream {
	t.Helper()
	model := filepath.Join(os.Getenv("QUIPU_TEST_MODELS"), "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(model); err != nil || os.Getenv("QUIPU_TEST_MODELS") == "" {
		t.Skip("QUIPU_TEST_MODELS does not hold the starter model")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	server := filepath.Join(cache, "quipu", "llama", llama.BuildKey()+"-peers", "llama-server")
	if _, err := os.Stat(server); err != nil {
		t.Skipf("there is no llama-server of this build: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := strings.Cut(address, ":")
	cmd := exec.Command(server, "-m", model, "--port", port, "-c", "1024", "-np", "2", "-t", "1", "--alias", "starter")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get("http://" + address + "/health")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come up: %v", err)
		}
	}
	u, err := New(t.Context(), Config{URL: "http://" + address, Model: "starter"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func TestLlamaServer(t *testing.T) {
	u := llamaServerHere(t)
	if i := u.Info(); u.words != llamaServer || i.Context < 512 || i.Context > 1024 || i.Parameters < 1e8 || i.SizeBytes < 1e7 || i.ContextTrain != 8192 {
		t.Errorf("met %+v, which speaks %d", i, u.words)
	}
	generate := func(r *engine.Request) ([]engine.Event, string) {
		t.Helper()
		s, err := u.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		events, text, err := read(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return events, text
	}
	r := user("Name three colours.")
	r.MaxTokens, r.IgnoreEOS = 12, true
	events, text := generate(r)
	last := events[len(events)-1]
	prompt, err := u.Render(t.Context(), r)
	if err != nil || len(prompt.Tokens) != last.Usage.PromptTokens || last.Usage.GeneratedTokens != 12 || last.Finish != engine.FinishLength || text == "" {
		t.Errorf("%q of a prompt of %d tokens, %v: %+v", text, len(prompt.Tokens), err, last)
	}
	// The same tokens by the other route.
	if _, again := generate(&engine.Request{Tokens: prompt.Tokens, MaxTokens: 12, IgnoreEOS: true, Logprobs: -1}); again != text {
		t.Errorf("by its messages %q, by its tokens %q", text, again)
	}
	r.Logprobs = 2
	events, _ = generate(r)
	var tokens []engine.TokenInfo
	for _, e := range events {
		tokens = append(tokens, e.Tokens...)
	}
	if len(tokens) != 12 || tokens[0].ID < 0 || len(tokens[0].Top) != 2 || tokens[0].Top[0].ID != tokens[0].ID || tokens[0].Logprob >= 0 {
		t.Errorf("tokens %+v", tokens)
	}
	r = user("Describe a bicycle.")
	r.MaxTokens, r.JSONSchema = 60, json.RawMessage(`{"type": "object", "properties": {"wheels": {"type": "integer", "maximum": 9}}, "required": ["wheels"], "additionalProperties": false}`)
	if _, text := generate(r); json.Unmarshal([]byte(text), &struct{ Wheels int }{}) != nil || !strings.Contains(text, "wheels") {
		t.Errorf("by a schema it says %q", text)
	}
	if _, text := generate(&engine.Request{Text: "A word:", MaxTokens: 9, Logprobs: -1, Grammar: `root ::= "yes" | "no"`}); text != "yes" && text != "no" {
		t.Errorf("by a grammar it says %q", text)
	}
	if _, text := generate(&engine.Request{Text: "1, 2, 3, 4,", MaxTokens: 20, Logprobs: -1, Stop: []string{"6"}}); strings.Contains(text, "6") || !strings.Contains(text, "5") {
		t.Errorf("until a stop it says %q", text)
	}
	sampled := func(seed uint32) string {
		_, text := generate(&engine.Request{Text: "A random word:", MaxTokens: 8, Logprobs: -1, Sampling: engine.Sampling{Temperature: 1, TopK: 50, TopP: 0.9, MinP: 0.01, TypicalP: 0.99, RepeatPenalty: 1.1,
			PenaltyLastN: 20, Seed: seed, Seeded: true}})
		return text
	}
	if a, b := sampled(1), sampled(1); a != b {
		t.Errorf("by one seed it says %q, then %q", a, b)
	}
	_, err = u.Generate(t.Context(), user(strings.Repeat("word ", 2000)))
	if o, ok := errors.AsType[*engine.OverflowError](err); !ok || o.Tokens < 2000 || o.Limit > 1024 {
		t.Errorf("of a long prompt it says %v", err)
	}
	if _, err := u.Generate(t.Context(), &engine.Request{Text: "x", Logprobs: -1, Grammar: "root ::= ("}); !errors.Is(err, engine.ErrBadRequest) {
		t.Errorf("of a broken grammar it says %v", err)
	}
	s, err := u.Generate(t.Context(), &engine.Request{Text: "x", IgnoreEOS: true, MaxTokens: 900, Logprobs: -1})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
