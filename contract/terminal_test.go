package contract

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// inTerminal runs a command under a terminal of its own, with what is typed coming from standard input.
const inTerminal = `import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))`

// screen is a command in a terminal.
type screen struct {
	keys   io.WriteCloser
	output chan []byte
	seen   string // since the last wait
}

func openScreen(t *testing.T, args ...string) (*screen, *exec.Cmd) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here to make a terminal")
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", inTerminal, bin}, args...)...)
	cmd.Env = environment()
	s := &screen{output: make(chan []byte, 1000)}
	if s.keys, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.output)
		buffer := make([]byte, 4096)
		for {
			n, err := out.Read(buffer)
			if n > 0 {
				s.output <- bytes.Clone(buffer[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // the test gave up
			_ = cmd.Process.Kill()
			s.end(t, cmd)
		}
	})
	return s, cmd
}

// wait reads until the screen shows something.
func (s *screen) wait(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for !strings.Contains(s.seen, text) {
		select {
		case piece, more := <-s.output:
			if !more {
				t.Fatalf("it ended; instead of %q it shows %q", text, s.seen)
			}
			s.seen += string(piece)
		case <-timeout:
			t.Fatalf("instead of %q it shows %q", text, s.seen)
		}
	}
	_, s.seen, _ = strings.Cut(s.seen, text)
}

func (s *screen) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		t.Fatal(err)
	}
}

// end waits for the end of the command and gives what was shown meanwhile.
func (s *screen) end(t *testing.T, cmd *exec.Cmd) (shown string, code int) {
	t.Helper()
	for piece := range s.output {
		s.seen += string(piece)
	}
	_ = cmd.Wait() // its exit code tells
	return s.seen, cmd.ProcessState.ExitCode()
}

// In a terminal a conversation has lines that can be edited and called back, Ctrl-C ends an answer and no more, and Ctrl-D
// ends it all.
func TestChatInTerminal(t *testing.T) {
	s, cmd := openScreen(t, "chat", "--data", ingested(t))
	s.wait(t, "› ")
	s.press(t, "What does the repair of a displax\x7fy cost?\r")
	s.wait(t, "cost?")
	time.Sleep(100 * time.Millisecond) // until the answer has begun; the first takes far longer
	s.press(t, "\x03")
	s.wait(t, "(stopped)")
	s.wait(t, "› ")
	s.press(t, askedBattery+"\r")
	s.wait(t, wantedBattery)
	s.wait(t, "] "+wantedFile)
	s.wait(t, "› ")
	s.press(t, "\x1b[A") // up
	s.wait(t, askedBattery)
	s.press(t, "\x15\x04")
	if shown, code := s.end(t, cmd); code != 0 || strings.Contains(shown, "quipu:") {
		t.Errorf("exit code %d, and at the end it shows %q", code, shown)
	}
}

// What documents and their names hold reaches a terminal as text, never as a command to it.
func TestTerminalCommandsInDocuments(t *testing.T) {
	needModels(t)
	docs, data := t.TempDir(), t.TempDir()
	writeFile(t, docs+"/shed\x1b[2J.md", "# Shed\n\nThe shed is painted \x1b[31mgreen\x1b]0;pwned\x07 every spring.\n")
	writeFile(t, docs+"/bad\n\x1b[2Jpicture.png", "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01")
	r := quipu(t, "ingest", "--data", data, docs)
	if r.ok(t); strings.Count(withoutProgress(r.stderr), "\n") != 1 || strings.Contains(r.stderr, "\x1b") {
		t.Errorf("of a bad file it says %q", r.stderr)
	}
	for _, command := range []string{"ask", "search"} {
		r := quipu(t, command, "--data", data, "What colour is the shed painted?")
		if text := r.ok(t); !strings.Contains(text, "green") || strings.ContainsAny(text+r.stderr, "\x1b\a") {
			t.Errorf("%s prints %q, %q", command, text, r.stderr)
		}
	}
}
