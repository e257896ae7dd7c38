package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
	"github.com/spf13/cobra"
)

func newIngest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ingest PATH…",
		Short: "Read files and folders into the knowledge base",
		Long: `Read files and folders into the knowledge base. What was read before and has not changed is left as it is; what changed is
replaced. A document that can't be read is reported and the others go on. Stopping loses nothing that was reported; running
again goes on where it stopped, and after a crash so does a quipu serve on the same data (see quipu jobs). Below a folder, hidden
files are left out, and links are reported and not followed.`,
		Example: `  quipu ingest docs/
  quipu ingest --data my-data --store manuals manual.md faq.html
  quipu ingest --attribute year=2026 --attribute team=support docs/`,
		Args: minArgs(1, "at least one file or folder"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			attributes, err := attributesOf(cmd)
			if err != nil {
				return err
			}
			a, err := open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.close()) }()
			if _, err := base.Roots(args); err != nil {
				return err
			}
			m, err := a.embeddingModel(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := a.store(cmd.Context()); err != nil {
				return err
			}
			if err := a.openBase(cmd.Context(), m); err != nil {
				return err
			}
			job, err := a.base.Enqueue(cmd.Context(), retrieval.Ingestion{Store: a.settings.Store, Paths: args, Attributes: attributes})
			if err != nil {
				return err
			}
			report, err := a.runJob(cmd.Context(), job.ID)
			if report != nil {
				if printErr := printReport(cmd, a.settings.JSON, report); err == nil {
					err = printErr
				}
			}
			switch {
			case err != nil:
			case len(report.Documents) == report.Skipped:
				fmt.Fprintln(os.Stderr, "there is no file in "+oneLine(strings.Join(args, ", ")))
			case len(report.Documents) == 1 && report.Failed == 1:
				err = errors.New("the document could not be read")
			case report.Failed > 0 && report.Failed+report.Skipped == len(report.Documents):
				err = fmt.Errorf("none of the %d documents could be read", report.Failed)
			}
			return err
		},
	}
	embeddingFlags(cmd)
	cmd.Flags().String("store", "", "store to read into (default: default)")
	cmd.Flags().StringArray("attribute", nil, "attribute of each document, as key=value, by which searches can be filtered; may be repeated")
	cmd.Flags().Bool("json", false, "print the report as JSON")
	return cmd
}

// attributesOf reads --attribute: true and false are truth values, what reads as a number is one.
func attributesOf(cmd *cobra.Command) (retrieval.Attributes, error) {
	pairs, _ := cmd.Flags().GetStringArray("attribute")
	if len(pairs) == 0 {
		return nil, nil
	}
	out := retrieval.Attributes{}
	for _, pair := range pairs {
		key, text, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--attribute %s: use key=value", pair)}
		}
		out[key] = text
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			out[key] = n
		} else if text == "true" || text == "false" {
			out[key] = text == "true"
		}
	}
	if err := out.Validate(); err != nil {
		return nil, usageError{fmt.Errorf("--attribute: %w", err)}
	}
	return out, nil
}

func printReport(cmd *cobra.Command, asJSON bool, r *retrieval.Report) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "store %s: %d documents added, %d replaced, %d unchanged, %d failed, %d skipped; %d passages in %.1f s\n",
		r.Store, r.Added, r.Replaced, r.Unchanged, r.Failed, r.Skipped, r.Passages, r.Seconds)
	return err
}
