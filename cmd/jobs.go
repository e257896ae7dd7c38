package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
)

func newJobs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List the last ingestions and what became of them",
		Long: `List the last ingestions and what became of them. A job survives its process: after a crash, quipu serve on the same data goes on
with it, and so does "quipu jobs run".`,
		Example: `  quipu jobs
  quipu jobs run
  quipu jobs cancel job_ABC`,
		Args: cobra.NoArgs,
		RunE: withBase(func(cmd *cobra.Command, a *app, _ []string) error {
			jobs, err := a.base.Jobs(cmd.Context(), 20)
			if err != nil {
				return err
			}
			if a.settings.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(jobRows(jobs))
			}
			return printJobs(cmd.OutOrStdout(), jobs)
		}),
	}
	cmd.Flags().Bool("json", false, "print the jobs as JSON")
	run := &cobra.Command{
		Use:   "run [JOB]",
		Short: "Run a job that waits or whose process died; without a name all of them",
		Example: `  quipu jobs run
  quipu jobs run job_ABC`,
		Args: cobra.MaximumNArgs(1),
		RunE: withApp(runJobs),
	}
	embeddingFlags(run)
	cancel := &cobra.Command{
		Use:     "cancel JOB…",
		Short:   "Cancel jobs; what they have done stays",
		Example: `  quipu jobs cancel job_ABC`,
		Args:    minArgs(1, "a job"),
		RunE: withBase(func(cmd *cobra.Command, a *app, args []string) error {
			for _, id := range args {
				if err := a.base.CancelJob(cmd.Context(), id); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.AddCommand(run, cancel)
	return cmd
}

// withBase runs a command with the knowledge base opened, without a model.
func withBase(do func(*cobra.Command, *app, []string) error) func(*cobra.Command, []string) error {
	return withApp(func(cmd *cobra.Command, a *app, args []string) error {
		if err := a.openRecord(cmd.Context(), base.Default(a.settings.Data)); err != nil {
			return err
		}
		return do(cmd, a, args)
	})
}

func runJobs(cmd *cobra.Command, a *app, args []string) error {
	if err := a.openEmbedding(cmd.Context()); err != nil {
		return err
	}
	id := strings.Join(args, "")
	for n := 0; ; n++ {
		report, err := a.runJob(cmd.Context(), id)
		switch {
		case errors.Is(err, retrieval.ErrNoJob) && id == "":
			if n == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no job waits")
			}
			return nil
		case report == nil:
			return err
		}
		if printed := printReport(cmd, false, report); err != nil || printed != nil || id != "" {
			return errors.Join(err, printed)
		}
	}
}

// runJob runs a job with a progress bar; with an empty id the next that waits. One that another process took is watched instead.
func (a *app) runJob(ctx context.Context, id string) (*retrieval.Report, error) {
	bar := newProgress("ingesting", 0, nil)
	defer bar.done()
	report, err := a.base.RunJob(ctx, id, bar.ingestion)
	switch {
	case err == nil:
		return report, nil
	case ctx.Err() != nil && id != "":
		// Whoever stops it wants it stopped, also for a server on the same data.
		return report, errors.Join(err, a.base.CancelJob(context.WithoutCancel(ctx), id))
	case errors.Is(err, retrieval.ErrJobLost) && report == nil:
		return a.watchJob(ctx, id, bar)
	}
	return report, err
}

// watchJob shows how a job that runs elsewhere gets on.
func (a *app) watchJob(ctx context.Context, id string, bar *progress) (*retrieval.Report, error) {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		j, err := a.base.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		bar.set(int64(j.Done), int64(j.Total))
		if j.State.Ended() {
			report, err := a.base.JobReport(ctx, id)
			switch {
			case err != nil:
			case j.State == retrieval.JobFailed:
				err = fmt.Errorf("job %s failed: %s", id, j.Error)
			case j.State == retrieval.JobCancelled:
				err = fmt.Errorf("job %s was cancelled", id)
			}
			return report, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("job %s runs in another process and goes on; quipu jobs cancel %s ends it: %w", id, id, ctx.Err())
		case <-ticker.C:
		}
	}
}

// jobRow is a job as it is printed.
type jobRow struct {
	ID        string         `json:"id"`
	Store     string         `json:"store"`
	State     string         `json:"state"`
	Paths     []string       `json:"paths"`
	Documents int            `json:"documents"`
	Total     int            `json:"total"`
	Passages  int            `json:"passages"`
	Counts    map[string]int `json:"counts"`
	Error     string         `json:"error,omitempty"`
	CreatedAt time.Time      `json:"created_at"`
	EndedAt   *time.Time     `json:"ended_at,omitempty"`
}

func jobRows(jobs []retrieval.Job) []jobRow {
	out := make([]jobRow, len(jobs))
	for i, j := range jobs {
		out[i] = jobRow{ID: j.ID, Store: j.Store, State: string(j.State), Paths: j.Work.Paths, Documents: j.Done, Total: j.Total, Passages: j.Passages,
			Counts: map[string]int{}, Error: j.Error, CreatedAt: j.CreatedAt}
		for status, n := range j.Counts {
			out[i].Counts[string(status)] = n
		}
		if !j.EndedAt.IsZero() {
			out[i].EndedAt = &j.EndedAt
		}
	}
	return out
}

func printJobs(out io.Writer, jobs []retrieval.Job) error {
	if len(jobs) == 0 {
		fmt.Fprintln(out, "there is no job")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tSTORE\tSTATE\tDOCUMENTS\tCREATED\tWHAT")
	for _, j := range jobRows(jobs) {
		var counts []string
		for _, status := range slices.Sorted(maps.Keys(j.Counts)) {
			counts = append(counts, fmt.Sprintf("%d %s", j.Counts[status], status))
		}
		what := strings.Join(j.Paths, ", ")
		if j.Error != "" {
			what += ": " + j.Error
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d of %d (%s)\t%s\t%s\n", j.ID, j.Store, j.State, j.Documents, j.Total, strings.Join(counts, ", "),
			j.CreatedAt.Format("2006-01-02 15:04"), oneLine(what))
	}
	return table.Flush()
}
