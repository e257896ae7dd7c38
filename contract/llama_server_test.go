package contract

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
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

// Greedy answers are llama-server's, alone and in company, up to the first choice that rounding can turn (llama's TestPieces).
func TestGreedyIsLlamaServers(t *testing.T) {
	theirs, ours := peer(t), start(t, t.TempDir(), "--grounded", "never").url
	questions := []string{
		"Name three colours.", "What is the capital of France?", "Count from 10 to 30.", "Explain in two sentences why the sky is blue.",
		"Translate to French: good morning, my friend.", "Write a short poem about rain.", "List the days of the week.", "What is 12 times 12?",
		"Describe a bicycle to a child.", "Give me a recipe for pancakes.", "Who wrote Romeo and Juliet?", "Say the alphabet.",
	}
	same, equal := 0, 0
	compare := func(how, question string, want, got []said) {
		t.Helper()
		n, all := compareGreedy(t, fmt.Sprintf("%s, %q", how, question), want, got)
		equal += n
		if all {
			same++
		}
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
