package cmd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestKeyboard(t *testing.T) {
	in, typed := io.Pipe()
	ctx, end := context.WithCancel(t.Context())
	k := newKeyboard(ctx, in)
	k.raw = true
	lines := bufio.NewReader(k)
	typing := func(text string) {
		if _, err := io.WriteString(typed, text); err != nil {
			t.Error(err)
		}
	}
	typing("one\ntwo\n" + strings.Repeat("x", 10000) + "\n")
	for _, want := range []string{"one\n", "two\n", strings.Repeat("x", 10000) + "\n"} {
		if line, err := lines.ReadString('\n'); line != want {
			t.Fatalf("got %.20q, %v", line, err)
		}
	}
	// Ctrl-C ends the answer that is being written, and no other; what else is typed meanwhile waits.
	answering, over := k.answering()
	typing("next")
	typing("\x03")
	<-answering.Done()
	if !over() || ctx.Err() != nil {
		t.Error("it was not stopped, or everything was")
	}
	answering, over = k.answering()
	if answering.Err() != nil || over() {
		t.Error("the next one was stopped")
	}
	typing("\x03\n")
	if line, err := lines.ReadString('\n'); line != "next\x03\n" {
		t.Errorf("got %q, %v", line, err)
	}
	// The end of everything ends the waiting.
	end()
	if _, err := lines.ReadString('\n'); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	typed.Close()

	piped := newKeyboard(t.Context(), strings.NewReader("a\x03b"))
	answering, over = piped.answering()
	if text, err := io.ReadAll(piped); string(text) != "a\x03b" || err != nil || answering.Err() != nil || over() {
		t.Errorf("no terminal: %q, %v", text, err)
	}
}
