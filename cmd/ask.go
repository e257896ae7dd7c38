package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/spf13/cobra"
)

func newAsk() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ask QUESTION",
		Short: "Answer one question from the documents, with citations",
		Example: `  quipu ask "How long is the battery guaranteed?"
  quipu ask --data my-data --json "Who founded the company?"`,
		Args: minArgs(1, "a question"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			question, err := questionOf(args)
			if err != nil {
				return err
			}
			a, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.close()) }()
			answerer, err := a.openAnswerer(cmd.Context())
			if err != nil {
				return err
			}
			q := answer.Question{Store: a.settings.Store, TopK: a.settings.TopK, Messages: []engine.Message{{Role: "user", Content: question}}}
			out := cmd.OutOrStdout()
			if a.settings.JSON {
				got, err := answerer.Answer(cmd.Context(), q)
				if err != nil {
					return err
				}
				return json.NewEncoder(out).Encode(got)
			}
			for e, err := range answerer.Stream(cmd.Context(), q) {
				if err != nil {
					return err
				}
				fmt.Fprint(out, visible(e.Delta))
				if e.Answer != nil {
					fmt.Fprintln(out)
					printSources(out, e.Answer)
				}
			}
			return nil
		},
	}
	modelFlags(cmd)
	cmd.Flags().String("store", "", "store of documents (default: default)")
	cmd.Flags().Int("top-k", 0, "passages to answer from (default: 3)")
	cmd.Flags().Bool("json", false, "print the answer as JSON: answer, abstained, citations, unsupported, timings")
	return cmd
}

// questionOf joins the words of a question that was written without quotation marks.
func questionOf(args []string) (string, error) {
	question := strings.TrimSpace(strings.Join(args, " "))
	if question == "" {
		return "", usageError{errors.New("the question is empty")}
	}
	return question, nil
}
