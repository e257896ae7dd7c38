package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
again goes on where it stopped. Below a folder, hidden files are left out, and links are reported and not followed.`,
		Example: `  quipu ingest docs/
  quipu ingest --data my-data --store manuals manual.md faq.html`,
		Args: minArgs(1, "at least one file or folder"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
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
			bar := newProgress("ingesting", 0, func(n int64) string { return fmt.Sprint(n) })
			report, err := a.base.Ingest(cmd.Context(), a.settings.Store, args, func(p retrieval.Progress) {
				if p.Last != nil && p.Last.Code != "" {
					bar.line(oneLine(fmt.Sprintf("%s: %s (%s)", p.Last.File, p.Last.Reason, p.Last.Code)))
				}
				bar.at("")
				if p.Last == nil {
					bar.at(oneLine(fmt.Sprintf("%s, %d passages", p.File, p.Passages)))
				}
				bar.set(int64(p.Documents), int64(p.Total))
			})
			bar.done()
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
	cmd.Flags().Bool("json", false, "print the report as JSON")
	return cmd
}

func printReport(cmd *cobra.Command, asJSON bool, r *retrieval.Report) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "store %s: %d documents added, %d replaced, %d unchanged, %d failed, %d skipped; %d passages in %.1f s\n",
		r.Store, r.Added, r.Replaced, r.Unchanged, r.Failed, r.Skipped, r.Passages, r.Seconds)
	return err
}
