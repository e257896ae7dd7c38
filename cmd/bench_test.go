package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	home := clean(t)
	t.Setenv("QUIPU_MODEL", "mine.gguf") // is what serve serves, not what a server is asked for
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer secret" || strings.Contains(string(body), "mine") {
			http.Error(w, string(body), http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	file, plot := filepath.Join(home, "r.json"), filepath.Join(home, "r.svg")
	code, stdout, stderr := execute(t, "bench", s.URL, "--workload", "single", "--requests", "3", "--key", "secret", "--seed", "5", "--json", file, "--plot", plot)
	if code != exitOK || !strings.Contains(stdout, "single: 1 client, 64 tokens, seed 5\n") || !strings.Contains(stdout, "\n3 completed, 0 failed in ") {
		t.Errorf("code %d, stdout %s, stderr %s", code, stdout, stderr)
	}
	var r struct{ Completed int }
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &r) != nil || r.Completed != 3 {
		t.Errorf("%s, %v", data, err)
	}
	if data, err := os.ReadFile(plot); err != nil || !strings.HasPrefix(string(data), "<svg ") {
		t.Errorf("%s, %v", data, err)
	}
	code, stdout, stderr = execute(t, "bench", s.URL, "--workload", "single", "--requests", "1")
	if code != exitError || !strings.Contains(stdout, "1 × 403: ") || !strings.Contains(stderr, "no request was answered: 403: ") {
		t.Errorf("code %d, stdout %s, stderr %s", code, stdout, stderr)
	}
	for line, mention := range map[string]string{
		"--workload single":                       "takes the URL of one server",
		s.URL:                                     `there is no workload ""`,
		s.URL + " --workload sort":                `there is no workload "sort": use rag, `,
		"here --workload single":                  `"here" is no server's URL`,
		s.URL + " --workload single --clients 0":  "clients 0",
		s.URL + " --workload rag --documents all": `documents "all"`,
	} {
		if code, stdout, stderr := execute(t, append([]string{"bench"}, strings.Fields(line)...)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, mention) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", line, code, stdout, stderr)
		}
	}
}
