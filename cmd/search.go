package cmd

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/spf13/cobra"
)

// found is a hit as `quipu search --json` prints it.
type found struct {
	File    string   `json:"file"`
	Passage string   `json:"passage"`
	Title   string   `json:"title,omitempty"`
	Heading []string `json:"heading,omitempty"`
	Score   float64  `json:"score"`
	Text    string   `json:"text"`
}

func newSearch() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "search QUESTION",
		Short: "Print the passages that a question finds, without answering it",
		Example: `  quipu search "How long is the battery guaranteed?"
  quipu search --data my-data --top-k 3 --json "Who founded the company?"`,
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
			if err := a.openDocuments(cmd.Context()); err != nil {
				return err
			}
			hits, err := a.base.Search(cmd.Context(), retrieval.Query{Store: a.settings.Store, Text: question, TopK: a.settings.TopK})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.settings.JSON {
				rows := make([]found, len(hits))
				for i, h := range hits {
					rows[i] = found{File: h.Passage.File, Passage: h.Passage.ID, Title: h.Passage.Title, Heading: h.Passage.Headings, Score: h.Score, Text: h.Passage.Text}
				}
				return json.NewEncoder(out).Encode(rows)
			}
			for i, h := range hits {
				fmt.Fprintf(out, "[%d] %.3f  %s\n      %.160s\n", i+1, h.Score, place(h.Passage.File, h.Passage.Headings), oneLine(h.Passage.Text))
			}
			return nil
		},
	}
	embeddingFlags(cmd)
	cmd.Flags().String("store", "", "store of documents (default: default)")
	cmd.Flags().Int("top-k", 0, "passages to find (default: 8)")
	cmd.Flags().Bool("json", false, "print the passages as JSON")
	return cmd
}
