package contract

import (
	"net/http"
	"strings"
	"testing"
)

// A server that generates with another server says what that one says.
func TestUpstream(t *testing.T) {
	behind := start(t, t.TempDir(), "--grounded", "never")
	front := start(t, ingested(t), "--upstream", behind.url, "--upstream-model", "smollm2-135m")
	if pids := front.workers(t); len(pids) != 1 { // the embedding model's
		t.Errorf("there are the workers %v", pids)
	}
	plain := func(more map[string]any) string {
		all := map[string]any{"stream": true, "max_tokens": 12, "temperature": 0, "quipu": map[string]any{"grounded": false}}
		for name, value := range more {
			all[name] = value
		}
		return chatBody("Name three colours.", all)
	}
	if got, want := front.text(t, plain(nil), nil), behind.text(t, plain(nil), nil); got != want || got == "" {
		t.Errorf("the front says %q, the server behind it %q", got, want)
	}
	r := front.send(t, "/v1/chat/completions", plain(map[string]any{"stream": false, "logprobs": true}))
	if r.status != http.StatusOK || !strings.Contains(r.body, `"logprob":`) || strings.Contains(r.body, `"completion_tokens":0`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	front.send(t, "/v1/chat/completions", plain(map[string]any{"ignore_eos": true})).fails(t, 400)
	front.send(t, "/v1/chat/completions", plain(map[string]any{"messages": []map[string]string{{"role": "user", "content": strings.Repeat("word ", 20000)}}})).fails(t, 400)
	front.alive(t)

	data := t.TempDir()
	quipu(t, "serve", "--data", data, "--addr", "127.0.0.1:0", "--upstream", behind.url, "--upstream-model", "nope").failed(t, 1, `has no model "nope", but smollm2-135m`)
	quipu(t, "serve", "--data", data, "--addr", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1").failed(t, 1, "refused")
	quipu(t, "serve", "--data", data, "--addr", "127.0.0.1:0", "--upstream", "nonsense").failed(t, 1, "nonsense")
}
