package contract

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

// clearMargin is how much likelier, in nats, a token must be than the next best one for rounding not to turn the choice (llama's
// TestPieces).
const clearMargin = 0.75

// said is a token of an answer, and how much likelier it was than the next best one, in nats.
type said struct {
	token  string
	margin float64
}

// spoken are the tokens of an answer, of which the two likeliest were asked for.
func spoken(t *testing.T, body string) (answer []said) {
	t.Helper()
	var got struct {
		Choices []struct {
			Logprobs struct {
				Content []struct {
					Token string
					Top   []struct{ Logprob float64 } `json:"top_logprobs"`
				}
			}
		}
	}
	if json.Unmarshal([]byte(body), &got) != nil || len(got.Choices) != 1 {
		t.Errorf("no answer with logprobs: %s", body)
		return nil
	}
	for _, c := range got.Choices[0].Logprobs.Content {
		s := said{token: c.Token, margin: math.Inf(1)} // of a forced token
		if len(c.Top) == 2 {
			s.margin = c.Top[0].Logprob - c.Top[1].Logprob
		}
		answer = append(answer, s)
	}
	return answer
}

func greedy(t *testing.T, url, question string) (answer []said) {
	t.Helper()
	body := fmt.Sprintf(`{"messages": [{"role": "user", "content": %q}], "temperature": 0, "max_tokens": 48, "logprobs": true, "top_logprobs": 2}`, question)
	client := http.Client{Timeout: 2 * time.Minute}
	res, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
		return nil
	}
	answer = spoken(t, string(text))
	if n := len(answer) - 1; n >= 0 && answer[n].token == "" { // llama-server counts the end, too
		answer = answer[:n]
	}
	return answer
}

// compareGreedy holds a greedy answer against the one wanted, up to the first choice that rounding can turn. It returns how many tokens
// are the same, and whether all are.
func compareGreedy(t *testing.T, what string, want, got []said) (equal int, all bool) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) {
			t.Errorf("%s: %d tokens, want %d", what, len(got), len(want))
			return equal, false
		}
		if got[i].token != want[i].token {
			say := t.Logf
			if want[i].margin >= clearMargin {
				say = t.Errorf
			}
			say("%s: token %d is %q, want %q, at margins of %.2f and %.2f nats", what, i, got[i].token, want[i].token, got[i].margin, want[i].margin)
			return equal, false
		}
		equal++
	}
	return equal, true
}

// A draft model takes part in the real server: here the chat model itself, whose guesses are mostly right. Guesses are checked, so
// answers stay as they are but for choices that rounding can turn.
func TestDraftModel(t *testing.T) {
	plain := start(t, t.TempDir(), "--grounded", "never", "--draft=false")
	guessed := start(t, t.TempDir(), "--grounded", "never", "--draft-model", "smollm2-135m")
	for _, question := range []string{"Name three colours.", "Count from 10 to 30.", "List the days of the week."} {
		compareGreedy(t, question, greedy(t, plain.url, question), greedy(t, guessed.url, question))
	}
	// A model that is as slow as what it guesses for does not pay, and is only tried now and then.
	guessed.send(t, "/v1/chat/completions", chatBody("Count from 10 to 300.", map[string]any{"max_tokens": 320, "temperature": 0, "ignore_eos": true}))
	if n := guessed.metric(t, `quipu_engine_guesses_total{model="smollm2-135m",outcome="right",source="draft_model"}`); n == 0 {
		t.Error("no guess of the draft model was right, and it is the model itself")
	}
	if log := guessed.logged(); strings.Contains(log, "go on without the draft model") {
		t.Error(log)
	}
}
