package cmd

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/quipu-ai/quipu/llama"
	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print quipu's version and what its inference was built for",
		Example: "  quipu version --json",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Quipu    string `json:"quipu"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
				Llama    string `json:"llama"`
				System   string `json:"system"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, llama.BuildKey(), llama.SystemInfo()}
			out := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(v)
			}
			_, err := fmt.Fprintf(out, "quipu      %s\ngo         %s\nplatform   %s\nllama.cpp  %s\nfeatures   %s\n", v.Quipu, v.Go, v.Platform, v.Llama, v.System)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
