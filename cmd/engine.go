package cmd

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/spf13/cobra"
)

// engineFlags declare how the chat model's engine schedules and what it keeps.
func engineFlags(cmd *cobra.Command) {
	cmd.Flags().Int("cells", 0, "tokens in the KV cache, of all requests and kept prefixes (default: 16384 or the context, if that is more)")
	cmd.Flags().Duration("target-gap", engine.DefaultConfig().Gap, "time between the tokens of an answer that prompts beside it should not exceed")
	cmd.Flags().String("placed", "auto", "compute each passage once and place it where prompts want it: auto (where the model loses little by it), always or never")
	cmd.Flags().Bool("draft", true, "guess tokens from what was said before, while that pays; answers stay the same")
	cmd.Flags().String("draft-model", "", "small model with the same vocabulary, a name or a .gguf file, that guesses where nothing was said before (default: none)")
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
	c.Cache = engine.CacheConfig{Memory: int64(s.KVMemory) << 20, Dir: filepath.Join(s.Data, "kv"), Disk: int64(s.KVDisk) << 20}
	return c
}

// adapters reads the --adapter settings, NAME=FILE or NAME=FILE@SCALE.
func (s settings) adapters() ([]native.Adapter, error) {
	var adapters []native.Adapter
	for _, text := range s.Adapters {
		bad := func(problem string) error {
			return usageError{fmt.Errorf("--adapter %s: %s: use NAME=FILE, or NAME=FILE@SCALE as in support=support.gguf@0.8", text, problem)}
		}
		name, path, ok := strings.Cut(text, "=")
		if !ok || name == "" || path == "" {
			return nil, bad("it names no file")
		}
		a := native.Adapter{Name: name, Path: path}
		if i := strings.LastIndexByte(path, '@'); i >= 0 {
			scale, err := strconv.ParseFloat(path[i+1:], 32)
			if err != nil || scale <= 0 || scale > 100 {
				return nil, bad("the scale must be a number above 0")
			}
			a.Path, a.Scale = path[:i], float32(scale)
		}
		if slices.ContainsFunc(adapters, func(other native.Adapter) bool { return other.Name == name }) {
			return nil, bad("the name is there twice")
		}
		if _, err := os.Stat(a.Path); err != nil {
			return nil, fmt.Errorf("--adapter %s: %w", text, err)
		}
		adapters = append(adapters, a)
	}
	return adapters, nil
}

// draftFailed tells an operator that streams go on without a draft model.
func (a *app) draftFailed(err error) {
	a.log.Warn().Err(err).Str("draft_model", a.settings.DraftModel).Msg("answers go on without the draft model")
}

// placed tells an operator what the trial of placing found.
func (a *app) placed(t engine.Trial) {
	if t.Err != nil {
		a.log.Warn().Err(t.Err).Bool("placed", t.On).Msg("what placing passages costs was not found out, or could not be kept for the next start")
	}
	if t.Worth == 0 {
		return
	}
	a.log.Info().Bool("placed", t.On).Float64("loss", round(t.Loss)).Float64("width", round(t.Width)).Float64("worth", round(t.Worth)).
		Msg("passages: what right answers lose, in nats a token, when each passage is computed once and placed")
}

func round(x float64) float64 { return math.Round(x*1000) / 1000 }
