package cmd

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/models"
	"github.com/spf13/cobra"
)

func newModels() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List, get, import and remove models",
		Example: `  quipu models list
  quipu models pull qwen2.5-coder-0.5b
  quipu models pull hf:owner/repository/file.gguf`,
		Args: subcommand,
		RunE: help,
	}
	cmd.AddCommand(newModelsList(), newModelsPull(), newModelsShow(), newModelsImport(), newModelsRemove())
	return cmd
}

func newModelsList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the models here and those of the catalogue",
		Example: "  quipu models list --json", Args: exactArgs(0, "no arguments"),
		RunE: withApp(func(cmd *cobra.Command, a *app, _ []string) error {
			installed, err := a.library.List()
			if err != nil {
				return err
			}
			type row struct {
				Name        string `json:"name"`
				Kind        string `json:"kind,omitempty"`
				Installed   bool   `json:"installed"`
				Bytes       int64  `json:"bytes"`
				Memory      int64  `json:"memory,omitempty"` // bytes that running it takes
				Licence     string `json:"licence,omitempty"`
				Description string `json:"description,omitempty"`
			}
			describe := func(r row, e models.Entry) row {
				r.Kind, r.Memory, r.Licence, r.Description = e.Kind, e.Needs.Memory, e.Licence, e.Description
				return r
			}
			var rows []row
			here := map[string]bool{}
			for _, m := range installed {
				r := row{Name: m.Name, Installed: true, Bytes: m.Bytes}
				if m.Entry != nil {
					r = describe(r, *m.Entry)
				}
				here[m.Name] = true
				rows = append(rows, r)
			}
			for _, e := range a.library.Catalogue() {
				if !here[e.Name] {
					rows = append(rows, describe(row{Name: e.Name, Bytes: e.Bytes()}, e))
				}
			}
			if a.settings.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(rows)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tKIND\tSIZE\tMEMORY\tLICENCE\tHERE\tABOUT")
			for _, r := range rows {
				mark := "–"
				if r.Installed {
					mark = "yes"
				}
				memory := "–"
				if r.Memory > 0 {
					memory = byteSize(r.Memory)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Kind, byteSize(r.Bytes), memory, r.Licence, mark, r.Description)
			}
			return w.Flush()
		}),
	}
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

func newModelsPull() *cobra.Command {
	var sum string
	cmd := &cobra.Command{
		Use: "pull NAME", Short: "Get a model: a name of the catalogue, hf:owner/repository/file.gguf or a URL",
		Example: `  quipu models pull qwen2.5-coder-0.5b
  quipu models pull hf:owner/repository/file.gguf
  quipu models pull --sha256 SUM https://models.example/file.gguf`,
		Args: exactArgs(1, "one model"),
		RunE: withApp(func(cmd *cobra.Command, a *app, args []string) error {
			var s steps
			m, err := a.library.Pull(cmd.Context(), args[0], sum, s.show)
			s.done()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is here: %s (%s)\n", m.Name, m.Path, byteSize(m.Bytes))
			return err
		}),
	}
	cmd.Flags().StringVar(&sum, "sha256", "", "checksum that a file from a URL must have")
	return cmd
}

func newModelsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Print what a model's file says of itself",
		Example: "  quipu models show smollm2-135m", Args: exactArgs(1, "one model"),
		RunE: withApp(func(cmd *cobra.Command, a *app, args []string) error {
			m, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := llama.DefaultModelParams()
			p.VocabOnly = true
			model, err := llama.Load(cmd.Context(), m.Path, p)
			if err != nil {
				return err
			}
			defer model.Close()
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			f := model.Facts()
			return encoder.Encode(map[string]any{
				"name": m.Name, "file": m.Path, "bytes": m.Bytes, "architecture": f.Architecture, "quantization": f.FileType,
				"context": f.ContextTrain, "layers": f.Layers, "embedding": f.Embedding,
			})
		}),
	}
}

func newModelsImport() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "import FOLDER FILE.gguf", Short: "Turn a BERT-family safetensors folder into GGUF",
		Example: "  quipu models import --type q8_0 path/to/folder embedding.gguf", Args: exactArgs(2, "a folder and the file to write"),
		RunE: withApp(func(cmd *cobra.Command, _ *app, args []string) error {
			bar := newProgress("importing", 0, nil)
			err := models.Import(cmd.Context(), args[0], args[1], models.ImportOptions{Type: kind, Progress: func(done, total int) { bar.set(int64(done), int64(total)) }})
			bar.done()
			return err
		}),
	}
	cmd.Flags().StringVar(&kind, "type", "f16", "f16 or q8_0")
	return cmd
}

func newModelsRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a model's file",
		Example: "  quipu models rm qwen2.5-coder-0.5b", Args: exactArgs(1, "one model"),
		RunE: withApp(func(cmd *cobra.Command, a *app, args []string) error {
			m, err := a.library.Remove(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", m.Path)
			return err
		}),
	}
}
