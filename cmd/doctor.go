package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quipu-ai/quipu/llama"
	"github.com/quipu-ai/quipu/retrieval/base"
	"github.com/quipu-ai/quipu/retrieval/store/sqlite"
	"github.com/spf13/cobra"
)

// finding is what the doctor says of one thing.
type finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Check processor, models and data folder",
		Example: "  quipu doctor --data my-data",
		Args:    exactArgs(0, "no arguments"),
		RunE: withApp(func(cmd *cobra.Command, a *app, _ []string) error {
			findings := a.examine(cmd.Context())
			var err error
			bad := 0
			for _, f := range findings {
				if !f.OK {
					bad++
				}
			}
			if a.settings.JSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(findings)
			} else {
				for _, f := range findings {
					mark := "ok  "
					if !f.OK {
						mark = "BAD "
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s %-16s %s\n", mark, f.Name, f.Detail)
				}
			}
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d of %d checks failed", bad, len(findings))
			}
			return err
		}),
	}
	cmd.Flags().String("model", defaultChat, "chat model to look for")
	cmd.Flags().String("embedding-model", defaultEmbedding, "embedding model to look for")
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

func (a *app) examine(ctx context.Context) []finding {
	var out []finding
	add := func(name string, err error, detail string) {
		if err != nil {
			detail = err.Error()
		}
		out = append(out, finding{name, err == nil, detail})
	}
	add("processor", llama.CheckCPU(), llama.SystemInfo())
	for _, d := range llama.Devices() {
		add("device", nil, fmt.Sprintf("%s: %s", d.Name, d.Description))
	}
	for _, want := range []struct{ name, model string }{{"chat model", a.settings.Model}, {"embedding model", a.settings.EmbeddingModel}} {
		m, err := a.resolve(ctx, want.model)
		if err == nil && m.Entry != nil && m.Entry.Import == "" {
			var sum string
			if sum, err = a.checksum(ctx, m.Path); err == nil && sum != m.Entry.Sources[0].SHA256 {
				err = fmt.Errorf("%s is damaged: its sha256 is %s; remove it and pull it again", m.Path, sum)
			}
		}
		add(want.name, err, m.Path)
	}
	// Looking must not make a record.
	if _, err := os.Stat(filepath.Join(a.settings.Data, sqlite.File)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		add("data folder", err, a.settings.Data+" holds no documents yet")
		return out
	}
	b, err := base.Open(ctx, base.Default(a.settings.Data))
	if err != nil {
		add("data folder", err, "")
		return out
	}
	defer b.Close()
	add("record", b.Check(ctx), a.settings.Data+" is whole")
	stores, err := b.Stores(ctx)
	add("stores", err, fmt.Sprintf("%d", len(stores)))
	for _, s := range stores {
		add("store "+s.Name, nil, fmt.Sprintf("%d documents, %d passages, embedded with %s", s.Documents, s.Passages, s.Embedder.Name))
	}
	return out
}
