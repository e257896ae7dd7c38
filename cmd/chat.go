package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newChat() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "Ask questions in a conversation",
		Long:  "Ask questions in a conversation. Questions come from the terminal, or a line each from standard input; an empty line or Ctrl-D ends it.",
		Example: `  quipu chat --data my-data
  printf 'What does shipping cost?\nAnd abroad?\n' | quipu chat --data my-data`,
		Args: exactArgs(0, "no arguments"),
		RunE: withApp(func(cmd *cobra.Command, a *app, _ []string) error {
			answerer, err := a.openAnswerer(cmd.Context())
			if err != nil {
				return err
			}
			keys := newKeyboard(cmd.Context(), cmd.InOrStdin())
			read, out, restore, err := prompt(cmd, keys)
			if err != nil {
				return err
			}
			defer restore()
			var messages []engine.Message
			for {
				line, err := read()
				if line = strings.TrimSpace(line); err != nil || line == "" {
					if errors.Is(err, io.EOF) {
						err = nil
					}
					return err
				}
				asked := append(messages, engine.Message{Role: "user", Content: line})
				ctx, over := keys.answering()
				reply, err := converse(ctx, out, answerer, answer.Question{Store: a.settings.Store, TopK: a.settings.TopK, Messages: asked})
				if over() && errors.Is(err, context.Canceled) {
					fmt.Fprint(out, "\n(stopped)\n\n") // and as good as never asked
					continue
				}
				if err != nil {
					return err
				}
				messages = append(asked, engine.Message{Role: "assistant", Content: reply})
			}
		}),
	}
	modelFlags(cmd)
	cmd.Flags().String("store", "", "store of documents (default: default)")
	cmd.Flags().Int("top-k", 0, "passages to answer from (default: 3)")
	return cmd
}

// converse writes one answer as it comes.
func converse(ctx context.Context, out io.Writer, answerer *answer.Answerer, q answer.Question) (string, error) {
	reply := ""
	for e, err := range answerer.Stream(ctx, q) {
		if err != nil {
			return "", err
		}
		fmt.Fprint(out, visible(e.Delta))
		if e.Answer != nil {
			fmt.Fprintln(out)
			printSources(out, e.Answer)
			fmt.Fprintln(out)
			reply = e.Answer.Answer
		}
	}
	return reply, nil
}

// prompt reads lines: with editing and history from a terminal, as they come from anything else.
func prompt(cmd *cobra.Command, keys *keyboard) (read func() (string, error), out io.Writer, restore func(), err error) {
	in, isFile := cmd.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		lines := bufio.NewReader(keys)
		return func() (string, error) {
			line, err := lines.ReadString('\n')
			if errors.Is(err, io.EOF) && line != "" {
				err = nil
			}
			return line, err
		}, cmd.OutOrStdout(), func() {}, nil
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, nil, nil, err
	}
	keys.raw = true
	terminal := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, os.Stdout}, "› ")
	read = func() (string, error) {
		if width, height, err := term.GetSize(int(os.Stdout.Fd())); err == nil && width > 0 {
			_ = terminal.SetSize(width, height) // it redraws nothing yet
		}
		return terminal.ReadLine()
	}
	return read, terminal, func() {
		_ = term.Restore(int(in.Fd()), state)
		fmt.Fprintln(os.Stdout)
	}, nil
}
