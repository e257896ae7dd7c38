package contract

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer starts the llama-server that scripts/bench-peers has built from the same source, and returns its address.
func peer(t *testing.T) string {
	t.Helper()
	flags, err := os.ReadFile("../llama/cgo_flags.go")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`const buildKey = "(.*)"`).FindSubmatch(flags)
	if key == nil {
		t.Fatal("llama/cgo_flags.go names no build")
	}
	models := os.Getenv("QUIPU_TEST_MODELS")
	server := filepath.Join(filepath.Dir(models), "llama", string(key[1])+"-peers", "llama-server")
	if _, err := os.Stat(server); err != nil {
		t.Skipf("there is no llama-server of this build (scripts/bench-peers build gets it): %v", err)
	}
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	cmd := exec.Command(server, "-m", filepath.Join(models, "SmolLM2-135M-Instruct.Q4_1.gguf"), "--port", port, "-c", "4096", "-np", "1", "--offline")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	url := "http://" + address
	waitFor(t, "llama-server answers", func() bool {
		res, err := http.Get(url + "/health")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})
	return url
}

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

// Greedy answers are llama-server's, alone and in company, up to the first choice that rounding can turn (llama's TestPieces).
func TestGreedyIsLlamaServers(t *testing.T) {
	const clear = 0.75
	theirs, ours := peer(t), start(t, t.TempDir(), "--grounded", "never").url
	questions := []string{
		"Name three colours.", "What is the capital of France?", "Count from 10 to 30.", "Explain in two sentences why the sky is blue.",
		"Translate to French: good morning, my friend.", "Write a short poem about rain.", "List the days of the week.", "What is 12 times 12?",
		"Describe a bicycle to a child.", "Give me a recipe for pancakes.", "Who wrote Romeo and Juliet?", "Say the alphabet.",
	}
	same, equal := 0, 0
	compare := func(how, question string, want, got []said) {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) {
				t.Errorf("%s, %q: %d tokens, want %d", how, question, len(got), len(want))
				return
			}
			if got[i].token != want[i].token {
				if m := min(got[i].margin, want[i].margin); m >= clear {
					t.Errorf("%s, %q: token %d is %q, llama-server's %q, at a margin of %.2f nats", how, question, i, got[i].token, want[i].token, m)
				}
				t.Logf("%s, %q: token %d is %q, llama-server's %q, at a margin of %.2f nats", how, question, i, got[i].token, want[i].token, min(got[i].margin, want[i].margin))
				return
			}
			equal++
		}
		same++
	}
	answers := make([][]said, len(questions))
	for i, question := range questions {
		answers[i] = greedy(t, theirs, question)
		compare("alone", question, answers[i], greedy(t, ours, question))
	}
	alone := same
	var wg sync.WaitGroup
	together := make([][]said, len(questions))
	for i, question := range questions {
		wg.Go(func() { together[i] = greedy(t, ours, question) })
	}
	wg.Wait()
	for i, question := range questions {
		compare("in company", question, answers[i], together[i])
	}
	t.Logf("of %d answers %d are llama-server's to the last token alone, %d in company; %d tokens are the same", len(questions), alone, same-alone, equal)
	if equal < 200 {
		t.Errorf("only %d tokens could be compared", equal)
	}
}
