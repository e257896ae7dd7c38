package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// server is a running quipu over freshly ingested documents.
type server struct {
	quipu, data, url string
	process          *exec.Cmd
	log              *bytes.Buffer
}

// answer is what came back, grounded or not.
type answer struct {
	Text        string     `json:"answer"`
	Abstained   bool       `json:"abstained"`
	Citations   []citation `json:"citations"`
	Unsupported []span     `json:"unsupported"`
	MS          float64    `json:"ms"`
	passages    string     // that a plain prompt was given
}

type citation struct {
	File  string `json:"file"`
	Quote string `json:"quote"`
}

type span struct {
	Text string `json:"text"`
}

func start(ctx context.Context, quipu, model, docs string) (*server, error) {
	data, err := os.MkdirTemp("", "quipu-quality-")
	if err != nil {
		return nil, err
	}
	s := &server{quipu: quipu, data: data, log: &bytes.Buffer{}}
	if out, err := exec.CommandContext(ctx, quipu, "ingest", "--data", data, docs).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ingest: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	args := []string{"serve", "--data", data, "--addr", address}
	if model != "" {
		args = append(args, "--model", model)
	}
	s.url = "http://" + address
	s.process = exec.CommandContext(ctx, quipu, args...)
	s.process.Stderr = s.log
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for range 600 {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("the server is not ready after a minute: %s", s.log)
}

func (s *server) stop() {
	_ = s.process.Process.Signal(os.Interrupt)
	_ = s.process.Wait()
	_ = os.RemoveAll(s.data)
}

type message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Quipu   *answer `json:"quipu,omitempty"`
}

func (s *server) complete(ctx context.Context, body map[string]any) (message, float64, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return message{}, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", bytes.NewReader(data))
	if err != nil {
		return message{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return message{}, 0, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return message{}, 0, err
	}
	if res.StatusCode != http.StatusOK {
		return message{}, 0, fmt.Errorf("%s: %s", res.Status, raw)
	}
	var out struct {
		Choices []struct{ Message message } `json:"choices"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return message{}, 0, err
	}
	return out.Choices[0].Message, float64(time.Since(began).Microseconds()) / 1000, nil
}

func (s *server) grounded(ctx context.Context, question string) (answer, error) {
	m, ms, err := s.complete(ctx, map[string]any{"model": "default", "messages": []message{{Role: "user", Content: question}}})
	if err != nil {
		return answer{}, err
	}
	if m.Quipu == nil {
		return answer{}, fmt.Errorf("the answer is not grounded: %q", m.Content)
	}
	m.Quipu.MS = ms
	return *m.Quipu, nil
}

// plainPassages is how many passages the plain prompt gets, as many as a grounded one by default.
const plainPassages = 3

// plain asks the model alone, with the passages that the same index finds, and with the instruction to refuse.
func (s *server) plain(ctx context.Context, question string) (answer, error) {
	out, err := exec.CommandContext(ctx, s.quipu, "search", "--data", s.data, "--top-k", fmt.Sprint(plainPassages), "--json", question).Output()
	if err != nil {
		return answer{}, fmt.Errorf("search: %w", err)
	}
	var hits []struct{ Text string }
	if err := json.Unmarshal(out, &hits); err != nil {
		return answer{}, err
	}
	var passages strings.Builder
	for _, h := range hits {
		passages.WriteString(h.Text + "\n\n")
	}
	prompt := "Answer the question from the passages below. Cite the passage. If they don't hold the answer, say that it is not in the documents.\n\n" +
		passages.String() + "Question: " + question
	m, ms, err := s.complete(ctx, map[string]any{"model": "default", "temperature": 0, "max_tokens": 128,
		"quipu": map[string]any{"grounded": false}, "messages": []message{{Role: "user", Content: prompt}}})
	if err != nil {
		return answer{}, err
	}
	a := answer{Text: m.Content, MS: ms, passages: passages.String()}
	a.Abstained = refusal.MatchString(m.Content)
	return a, nil
}
