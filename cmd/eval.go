package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quipu-ai/quipu/lab/ranking"
	"github.com/quipu-ai/quipu/retrieval"
)

func newEval() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "eval",
		Short:   "Measure how good it is",
		Example: `  quipu eval retrieval --beir scifact`,
		Args:    subcommand,
		RunE:    help,
	}
	cmd.AddCommand(newEvalRetrieval())
	return cmd
}

func newEvalRetrieval() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retrieval --beir DIR",
		Short: "Measure the search: nDCG, recall, MRR and MAP of each arm",
		Long: `Measure the search on a folder in BEIR's format (corpus.jsonl, queries.jsonl or .tsv, qrels/test.tsv), by arm: words (BM25),
meaning (dense), and both fused. The documents go into a store of --data named eval-NAME, or into a folder that is deleted at the
end; what is there already is not embedded again. Each figure has its 95 % confidence interval over the questions.`,
		Example: `  quipu eval retrieval --beir scifact --language english
  quipu eval retrieval --beir scifact --data eval-data --report scifact.json --plot scifact.svg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return evalRetrieval(cmd) },
	}
	embeddingFlags(cmd)
	flags := cmd.Flags()
	flags.String("beir", "", "folder in BEIR's format")
	flags.String("language", "", "language of the documents, whose words are stemmed (default: any, without stemming)")
	flags.StringSlice("weight", nil, "shares of the dense score in the fusion to measure, 0 to 1, joined by commas (default: the store's)")
	flags.Bool("rrf", false, "measure reciprocal rank fusion, too")
	flags.String("report", "", "file for the report as JSON")
	flags.String("plot", "", "file for the report as a plot (SVG)")
	cmd.MarkFlagRequired("beir")
	return cmd
}

func evalRetrieval(cmd *cobra.Command) (err error) {
	ctx, flags := cmd.Context(), cmd.Flags()
	folder, _ := flags.GetString("beir")
	language, _ := flags.GetString("language")
	trials, err := trialsOf(cmd)
	if err != nil {
		return err
	}
	data, err := ranking.OpenBEIR(folder)
	if err != nil {
		return err
	}
	a, err := open(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if !flags.Changed("data") {
		dir, err := os.MkdirTemp("", "quipu-eval-")
		if err != nil {
			return err
		}
		a.onClose(func() error { return os.RemoveAll(dir) })
		a.settings.Data = dir
	}
	if err := a.openEmbedding(ctx); err != nil {
		return err
	}
	store := evalStore(data.Name)
	if err := a.base.Configure(ctx, store, retrieval.Settings{Language: language}); err != nil {
		return err
	}
	report := ranking.Report{Data: data.Name, Questions: len(data.Questions)}
	if report.Documents, err = a.fill(ctx, store, data); err != nil {
		return err
	}
	for _, t := range trials {
		metrics, err := a.rank(ctx, store, data, t)
		if err != nil {
			return err
		}
		report.Arms = append(report.Arms, metrics)
	}
	fmt.Fprint(cmd.OutOrStdout(), report.Table())
	for _, out := range []struct {
		flag  string
		write func() ([]byte, error)
	}{
		{"report", func() ([]byte, error) { return json.MarshalIndent(report, "", "  ") }},
		{"plot", func() ([]byte, error) { return report.Plot(), nil }},
	} {
		if path, _ := flags.GetString(out.flag); path != "" {
			text, err := out.write()
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// trial is one way to search.
type trial struct {
	name   string
	arms   retrieval.Arms
	fusion *retrieval.Fusion
}

// trialsOf reads what is to be measured, in the order of reports.
func trialsOf(cmd *cobra.Command) ([]trial, error) {
	weights, _ := cmd.Flags().GetStringSlice("weight")
	rrf, _ := cmd.Flags().GetBool("rrf")
	out := []trial{{name: "BM25", arms: retrieval.Lexical}, {name: "dense", arms: retrieval.Dense}}
	if len(weights) == 0 {
		out = append(out, trial{name: "fused", arms: retrieval.Both})
	}
	if rrf {
		out = append(out, trial{"RRF", retrieval.Both, &retrieval.Fusion{Method: retrieval.RRF}})
	}
	for _, text := range weights {
		w, err := strconv.ParseFloat(text, 64)
		f := retrieval.Fusion{Method: retrieval.Convex, Weight: w}
		if err == nil {
			err = f.Validate()
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("--weight %s: %w", text, err)}
		}
		out = append(out, trial{"fused " + text, retrieval.Both, &f})
	}
	return out, nil
}

// evalStore is the name of a collection's store.
func evalStore(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(name)))
	return "eval-" + name[:min(len(name), 59)]
}

// fill ingests a collection and gives how many documents it has.
func (a *app) fill(ctx context.Context, store string, data *ranking.BEIR) (int, error) {
	bar := newProgress("ingesting", 0, nil)
	defer bar.done()
	texts := func(yield func(retrieval.Named, error) bool) {
		for d, err := range data.Documents() {
			if !yield(retrieval.Named{File: d.ID, Text: plainText(d)}, err) {
				return
			}
		}
	}
	report, err := a.base.Ingest(ctx, retrieval.Ingestion{Store: store, Texts: texts}, bar.ingestion)
	if err != nil {
		return 0, err
	}
	return len(report.Documents), nil
}

// plainText is a document of a title and one paragraph.
func plainText(d ranking.Document) retrieval.Text {
	text := retrieval.Text{Title: d.Title, MediaType: "text/plain", Text: d.Text}
	if strings.TrimSpace(d.Text) != "" {
		text.Blocks = []retrieval.Block{{Kind: retrieval.Paragraph, End: len(d.Text)}}
	}
	return text
}

// rank asks all questions.
func (a *app) rank(ctx context.Context, store string, data *ranking.BEIR, t trial) (ranking.Metrics, error) {
	bar := newProgress("searching, "+t.name, int64(len(data.Questions)), nil)
	defer bar.done()
	var rankings [][]string
	var grades []ranking.Grades
	var took []float64
	for i, q := range data.Questions {
		began := time.Now()
		hits, err := a.base.Search(ctx, retrieval.Query{Store: store, Text: q.Text, TopK: 200, Arms: t.arms, Fusion: t.fusion})
		if err != nil {
			return ranking.Metrics{}, fmt.Errorf("question %s: %w", q.ID, err)
		}
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
		seen := map[string]bool{}
		var ranked []string
		for _, h := range hits { // a document ranks where its best passage does
			if !seen[h.Passage.File] {
				seen[h.Passage.File] = true
				ranked = append(ranked, h.Passage.File)
			}
		}
		rankings, grades = append(rankings, ranked), append(grades, q.Grades)
		bar.set(int64(i+1), int64(len(data.Questions)))
	}
	return ranking.Measure(t.name, rankings, grades, took), nil
}
