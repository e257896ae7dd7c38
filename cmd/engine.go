package cmd

import (
	"path/filepath"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"github.com/spf13/cobra"
)

// engineFlags declare how the chat model's engine schedules and what it keeps.
func engineFlags(cmd *cobra.Command) {
	cmd.Flags().Int("cells", 0, "tokens in the KV cache, of all requests and kept prefixes (default: 16384 or the context, if that is more)")
	cmd.Flags().Duration("target-gap", 100*time.Millisecond, "time between the tokens of an answer that prompts beside it should not exceed")
	cmd.Flags().String("placed", "auto", "compute each passage once and place it where prompts want it: auto (where the model loses little by it), always or never")
	cmd.Flags().Bool("draft", true, "guess tokens from what was said before, while that pays; answers stay the same")
	cmd.Flags().Int("kv-memory", 512, "megabytes of memory for what was computed of passages and prompts, outside of the KV cache")
	cmd.Flags().Int("kv-disk", 0, "megabytes on disk for the same, so that it outlives a restart; it holds what documents and prompts say")
}

var placings = map[string]engine.Placing{"auto": engine.PlaceAuto, "always": engine.PlaceAlways, "never": engine.PlaceNever}

// engineConfig is what the settings say about the engine.
func (a *app) engineConfig() engine.Config {
	s := a.settings
	c := engine.DefaultConfig()
	c.Measure = true
	if s.TargetGap > 0 {
		c.Gap = s.TargetGap
	}
	if s.Placed != "" {
		c.Placing = placings[s.Placed]
	}
	c.Draft = s.Draft
	c.Cache = engine.CacheConfig{Memory: int64(s.KVMemory) << 20, Disk: int64(s.KVDisk) << 20}
	if s.KVDisk > 0 {
		c.Cache.Dir = filepath.Join(s.Data, "kv")
	}
	return c
}
