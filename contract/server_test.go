package contract

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// client is what all raw requests go through.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: patience}

// server is a running `quipu serve`.
type server struct {
	url  string
	data string

	process *exec.Cmd
	exited  chan struct{} // closed when it has, and err is set
	err     error

	mu  sync.Mutex
	log bytes.Buffer
}

// launch starts a server over a data folder on a free port and returns when it can answer questions.
func launch(data string, args ...string) (*server, error) {
	s := &server{data: data, exited: make(chan struct{})}
	s.process = exec.Command(bin, append([]string{"serve", "--data", data, "--addr", "127.0.0.1:0"}, args...)...)
	s.process.Env = environment()
	stderr, err := s.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		defer close(s.exited)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			s.log.Write(append(lines.Bytes(), '\n'))
			s.mu.Unlock()
			var line struct{ Message, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "serving" {
				address <- line.Addr
			}
		}
		s.err = s.process.Wait()
	}()
	select {
	case s.url = <-address:
	case <-s.exited:
		return nil, fmt.Errorf("it ended at once: %w: %s", s.err, s.logged())
	case <-time.After(patience):
		return nil, errors.Join(errors.New("it does not say where it serves: "+s.logged()), s.kill())
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if res, err := client.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
	}
	return nil, errors.Join(errors.New("it is never ready: "+s.logged()), s.kill())
}

// start starts a server of the test's own, which must not have ended before the test stops it.
func start(t *testing.T, data string, args ...string) *server {
	t.Helper()
	needModels(t)
	s, err := launch(data, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// stop ends the server as an operator does; it must exit with 0. Stopping what was killed on purpose does nothing.
func (s *server) stop() error {
	if s.process == nil {
		return nil
	}
	defer func() { s.process = nil }()
	client.CloseIdleConnections()
	select {
	case <-s.exited:
		return fmt.Errorf("the server ended by itself: %w: %s", s.err, s.logged())
	default:
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		return errors.Join(errors.New("the server does not stop: "+s.logged()), s.kill())
	}
	if s.err != nil {
		return fmt.Errorf("the server exits with %w: %s", s.err, s.logged())
	}
	return nil
}

// kill is kill -9.
func (s *server) kill() error {
	err := s.process.Process.Kill()
	<-s.exited
	s.process = nil
	return err
}

func (s *server) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// The server that most tests share, over the sample documents: starting one loads two models.
var shared struct {
	once   sync.Once
	server *server
	err    error
}

func sharedServer(t *testing.T) *server {
	t.Helper()
	needModels(t)
	shared.once.Do(func() {
		data := filepath.Join(home, "data")
		if r := quipu(t, "ingest", "--data", data, samples); r.code != 0 {
			shared.err = errors.New("ingest: " + r.stderr)
			return
		}
		shared.server, shared.err = launch(data)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// stopShared stops the shared server and reads its log: it must have answered everything without an error of its own, and
// must have written down nothing of what it was asked or answered.
func stopShared() error {
	s := shared.server
	if s == nil {
		return shared.err
	}
	errs := []error{s.stop()}
	for line := range strings.Lines(s.logged()) {
		if !strings.HasPrefix(line, "{") { // what it says to people at the start
			continue
		}
		var entry struct {
			Level, Message string
			Status         int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			errs = append(errs, fmt.Errorf("the log holds %q: %w", line, err))
		}
		if entry.Level == "error" || entry.Message == "panic" || entry.Status >= 500 {
			errs = append(errs, fmt.Errorf("the log holds the error %s", line))
		}
		for _, secret := range []string{"pancakes", "guaranteed?", secretWord} {
			if strings.Contains(line, secret) {
				errs = append(errs, fmt.Errorf("the log holds what was asked: %s", line))
			}
		}
	}
	return errors.Join(errs...)
}

// secretWord is in prompts of tests; no log may hold it.
const secretWord = "zyzzyvaprompt"

// reply is a response that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// send makes a request; a body makes it a POST.
func (s *server) send(t *testing.T, path, body string) reply {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	return s.request(t, method, path, strings.NewReader(body), nil)
}

func (s *server) request(t *testing.T, method, path string, body io.Reader, header http.Header) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		req.Header[name] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

// chatBody is a chat request's JSON.
func chatBody(question string, more map[string]any) string {
	body := map[string]any{"model": "default", "messages": []map[string]string{{"role": "user", "content": question}}}
	for name, value := range more {
		body[name] = value
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // of a test's literals
	}
	return string(text)
}

// ask asks a whole grounded answer.
func (s *server) ask(t *testing.T, question, documents string, quipu map[string]any) grounded {
	t.Helper()
	more := map[string]any{}
	if quipu != nil {
		more["quipu"] = quipu
	}
	r := s.send(t, "/v1/chat/completions", chatBody(question, more))
	if r.status != http.StatusOK {
		t.Fatalf("%.100q: status %d: %s", question, r.status, r.body)
	}
	return r.grounded(t, documents)
}

// grounded reads the grounded answer out of a whole completion.
func (r reply) grounded(t *testing.T, documents string) grounded {
	t.Helper()
	got := decode[struct {
		Choices []struct {
			Message struct {
				Content string
				Quipu   json.RawMessage
			}
		}
	}](t, r.body)
	if len(got.Choices) != 1 || len(got.Choices[0].Message.Quipu) == 0 {
		t.Fatalf("this is no grounded answer: %s", r.body)
	}
	g := readGrounded(t, string(got.Choices[0].Message.Quipu), documents)
	if g.Answer != got.Choices[0].Message.Content {
		t.Errorf("the content is %q and the answer %q", got.Choices[0].Message.Content, g.Answer)
	}
	return g
}

// alive checks that the server still answers: the cheap way, from the documents' side.
func (s *server) alive(t *testing.T) {
	t.Helper()
	select {
	case <-s.exited:
		t.Fatalf("the server is gone: %v: %s", s.err, s.logged())
	default:
	}
	if r := s.send(t, "/readyz", ""); r.status != http.StatusOK {
		t.Fatalf("/readyz: %d %s", r.status, r.body)
	}
}

// stream opens a streamed completion; the caller closes it, or ends its context.
func (s *server) stream(ctx context.Context, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err == nil && res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		return nil, fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	return res, err
}
