package contract

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// workers are the process ids of a server's workers as its log has them, the chat model's last.
func (s *server) workers(t *testing.T) []int {
	t.Helper()
	var pids []int
	for line := range strings.Lines(s.logged()) {
		var entry struct {
			Message, Model string
			Workers        []int
			Pid            int
		}
		switch _ = json.Unmarshal([]byte(line), &entry); entry.Message {
		case "serving":
			pids = entry.Workers
		case "worker ready":
			pids = append(pids, entry.Pid)
		}
	}
	return pids
}

// lives tells whether a process runs. One that has ended and whose parent has not asked for it yet does not.
func lives(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err != nil || !strings.HasPrefix(state, "Z")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen: " + what)
		}
	}
}

const chatRestarts = `quipu_worker_restarts_total{model="smollm2-135m"}`

// A chat model's worker that is killed in the middle of streams changes nothing of what they say.
func TestKillWorker(t *testing.T) {
	s := start(t, ingested(t))
	body := func(i int, more map[string]any) string {
		all := map[string]any{"max_tokens": 40, "temperature": 0, "messages": []map[string]string{
			{"role": "user", "content": fmt.Sprintf("Count from %[1]d to 90. Begin with: %[1]d, %[2]d, %[3]d", i, i+1, i+2)}}}
		maps.Copy(all, more)
		return endlessly(all)
	}
	// In company the same tokens have other last digits. What a stream says is its own only where no two tokens are about as
	// likely, so those are taken whose closest choice is clearest.
	const streams = 3
	margins := make([]float64, 30)
	begins := make([]int, len(margins))
	for i := range begins {
		begins[i], margins[i] = i, s.margin(t, body(i, map[string]any{"stream": false, "logprobs": true, "top_logprobs": 2}))
	}
	slices.SortFunc(begins, func(a, b int) int { return cmp.Compare(margins[b], margins[a]) })
	t.Logf("closest choices: %.2f", margins)
	counting := func(i int) string { return body(begins[i], nil) }
	var undisturbed [streams]string
	for i := range streams {
		undisturbed[i] = s.text(t, counting(i), nil)
	}
	worker := s.workers(t)
	if len(worker) != 2 {
		t.Fatalf("there are the workers %v: %s", worker, s.logged())
	}
	var others [streams]chan string
	for i := range streams - 1 {
		others[i] = make(chan string, 1)
		go func() { others[i] <- s.text(t, counting(i), nil) }()
	}
	got := s.text(t, counting(streams-1), func() {
		if err := syscall.Kill(worker[1], syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	// What was said one token at a time is replayed as a whole, which rounds quantized products otherwise (llama's TestPieces): a difference
	// of .1 nats a token. Where no choice is clear beside it, as much must be said.
	same := func(i int, got string) {
		t.Helper()
		if want := undisturbed[i]; got != want && (margins[begins[i]] >= clearMargin || len(got) != len(want)) {
			t.Errorf("after the kill it says %q, else %q; its closest choice is %.2f", got, want, margins[begins[i]])
		}
	}
	same(streams-1, got)
	for i := range streams - 1 {
		same(i, <-others[i])
	}
	if n := s.metric(t, chatRestarts); n != 1 {
		t.Errorf("%v restarts", n)
	}
	s.alive(t)

	// The embedding model's worker: questions wait for the next one.
	if err := syscall.Kill(worker[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.ask(t, askedBattery, samples, nil).wantCited(t, wantedBattery, wantedFile)

	// Signals that mean the server don't end its workers before it.
	now := s.workers(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		for _, pid := range now[2:] {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.ask(t, askedBattery, samples, nil).wantCited(t, wantedBattery, wantedFile)
	if n := s.metric(t, chatRestarts); n != 1 {
		t.Errorf("%v restarts", n)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for _, pid := range s.workers(t) {
		if lives(pid) {
			t.Errorf("worker %d is still there", pid)
		}
	}
}

// margin is how much likelier, in nats, the first of two tokens was than the second where the answer was closest to another.
func (s *server) margin(t *testing.T, body string) float64 {
	t.Helper()
	closest := math.Inf(1)
	for _, token := range spoken(t, s.send(t, "/v1/chat/completions", body).body) {
		closest = min(closest, token.margin)
	}
	return closest
}

// text is what a streamed answer says. After some of it, then is called.
func (s *server) text(t *testing.T, body string, then func()) string {
	t.Helper()
	res, err := s.stream(t.Context(), body)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	var text strings.Builder
	ended := false
	n := 0
	for lines := bufio.NewScanner(res.Body); !ended && lines.Scan(); {
		event, found := strings.CutPrefix(lines.Text(), "data: ")
		if ended = event == "[DONE]"; ended || !found {
			continue
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
			Error   json.RawMessage
		}
		if err := json.Unmarshal([]byte(event), &chunk); err != nil || chunk.Error != nil {
			t.Errorf("%s: %v", event, err)
		}
		for _, c := range chunk.Choices {
			text.WriteString(c.Delta.Content)
		}
		if n++; n == 10 && then != nil {
			then()
		}
	}
	if !ended {
		t.Errorf("the stream breaks off after %q", &text)
	}
	return text.String()
}

// No worker outlives a server that was killed.
func TestKillFront(t *testing.T) {
	s := start(t, ingested(t))
	pids := s.workers(t)
	if len(pids) != 2 || !lives(pids[0]) || !lives(pids[1]) {
		t.Fatalf("there are the workers %v", pids)
	}
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the workers end", func() bool { return !lives(pids[0]) && !lives(pids[1]) })
}

// A model that can't be loaded is said as clearly whoever loads it, and nothing is left behind.
func TestWrongModelInWorker(t *testing.T) {
	data := ingested(t)
	said := map[string]string{}
	for _, broken := range []string{"", "GGUF", "GGUF" + strings.Repeat("\xff", 1000)} {
		file := filepath.Join(t.TempDir(), "broken.gguf")
		writeFile(t, file, broken)
		for _, isolation := range []string{"process", "none"} {
			r := quipu(t, "serve", "--data", data, "--addr", "127.0.0.1:0", "--model", file, "--isolation", isolation)
			r.failed(t, 1, "chat model", "broken.gguf")
			said[isolation] = withoutProgress(r.stderr)
		}
		if said["process"] != said["none"] {
			t.Errorf("a worker says %q, one process %q", said["process"], said["none"])
		}
	}
	quipu(t, "worker").failed(t, 2, "starts its workers itself")
}

func TestWithoutIsolation(t *testing.T) {
	s := start(t, ingested(t), "--isolation", "none")
	if pids := s.workers(t); len(pids) != 0 {
		t.Errorf("there are the workers %v", pids)
	}
	s.ask(t, askedBattery, samples, nil).wantCited(t, wantedBattery, wantedFile)
}
