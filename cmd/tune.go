package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/models/tune"
	"github.com/spf13/cobra"
)

func newTune() *cobra.Command {
	c := tune.Default()
	var text string
	cmd := &cobra.Command{
		Use:   "tune [MODEL…]",
		Short: "Find the fastest number format of a model on this processor",
		Long: `Measure how fast this processor reads and generates with a model's file as it is and requantized to other number formats, and
what each of them costs in quality: how much less likely than with the original file a text becomes. The fastest one whose cost
is within the bound is chosen; --write keeps it in the models folder. Let nothing else work on the machine meanwhile.`,
		Example: `  quipu tune
  quipu tune --write smollm2-135m
  quipu tune --types Q4_0,Q8_0 --text manual.md path/to/model.gguf`,
		Args: minArgs(0, "models"),
		RunE: withApp(func(cmd *cobra.Command, a *app, args []string) error {
			if a.settings.Threads > 0 {
				c.Threads = a.settings.Threads
			}
			if err := c.Validate(); err != nil {
				return usageError{err}
			}
			if text != "" {
				content, err := os.ReadFile(text)
				if err != nil {
					return err
				}
				c.Text = string(content)
			}
			if len(args) == 0 {
				args = []string{a.settings.Model}
			}
			var all []*tune.Tuning
			for _, name := range args {
				m, err := a.resolve(cmd.Context(), name)
				if err != nil {
					return err
				}
				bar := newProgress("tuning "+m.Name, 0, nil)
				c.Progress = func(step string, done, total int) {
					bar.at(step)
					bar.set(int64(done), int64(total))
				}
				t, err := tune.Run(cmd.Context(), a.library, m, c)
				bar.done()
				if err != nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
				if all = append(all, t); !a.settings.JSON {
					printTuning(cmd.OutOrStdout(), t, c)
				}
			}
			if a.settings.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			return nil
		}),
	}
	cmd.Flags().String("model", defaultChat, "chat model to tune when none is named")
	cmd.Flags().Int("threads", 0, "threads to compute with, and the most to try (default: the processors this process may use)")
	cmd.Flags().StringSliceVar(&c.Types, "types", c.Types, "number formats to try beside the file's own: "+strings.Join(llama.FileTypes(), ", "))
	cmd.Flags().StringVar(&text, "text", "", "file whose beginning quality is measured on (default: the sample's documents)")
	cmd.Flags().Float64Var(&c.Bound, "bound", c.Bound, "nats per token that may be lost")
	cmd.Flags().BoolVar(&c.Write, "write", false, "keep the chosen file in the models folder")
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

// hintFormat tells an operator of a number format that costs speed. What a GPU computes is another matter.
func (a *app) hintFormat(model, quantization string) {
	cpu := a.settings.GPULayers < 0 || strings.Contains(llama.BuildKey(), "-cpu-")
	if cpu && tune.SlowOnCPU(quantization) {
		a.log.Info().Str("model", model).Str("quantization", quantization).
			Msg("processors compute this number format slowly: `quipu tune` finds a faster one and what it costs in quality")
	}
}

func printTuning(out io.Writer, t *tune.Tuning, c tune.Config) {
	fmt.Fprintf(out, "%s, tokens per second with %d threads, cost in nats per token (bound %g)\n", t.Model, c.Threads, c.Bound)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FORMAT\tPREFILL\tDECODE\tSIZE\tCOST\t")
	for i, f := range t.Formats {
		cost, mark := fmt.Sprintf("%+.4f ± %.4f", f.Cost, f.Error), ""
		if i == 0 {
			cost = "as it is"
		}
		switch {
		case i == t.Best:
			mark = "chosen"
		case !f.Fits:
			mark = "costs too much"
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%s\t%s\t%s\n", f.Quantization, f.Prefill, f.Decode, byteSize(f.Bytes), cost, mark)
	}
	w.Flush()
	best := t.Formats[t.Best].Quantization
	fmt.Fprintf(out, "\nTHREADS  PREFILL  DECODE  (%s)\n", best)
	for _, r := range t.Threads {
		fmt.Fprintf(out, "%7d  %7.0f  %6.0f\n", r.Threads, r.Prefill, r.Decode)
	}
	switch {
	case t.Best == 0:
		fmt.Fprintln(out, "\nThe file is as fast as it gets here.")
	case t.Written != "":
		fmt.Fprintf(out, "\n%s is kept: quipu serve --model %s\n", t.Written, strings.TrimSuffix(filepath.Base(t.Written), ".gguf"))
	default:
		fmt.Fprintf(out, "\nKeep it with: quipu tune --write --types %s %s\n", best, t.Model)
	}
}
