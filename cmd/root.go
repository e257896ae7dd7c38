package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker; see Makefile.
var version = "dev"

// Exit codes: what a script can tell apart.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitStopped = 130 // by a signal
)

// usageError is a mistake in the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Execute runs the command that the arguments name and returns the process's exit code.
func Execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process the default way, for the impatient.
	context.AfterFunc(ctx, stop)

	root := newRoot()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	said, code := strings.ReplaceAll(visible(err.Error()), "\n", " "), exitError // names of files may hold line ends
	switch {
	case errors.As(err, new(usageError)):
		code = exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		said, code = "stopped", exitStopped
	}
	fmt.Fprintln(os.Stderr, "quipu: "+said)
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "quipu",
		Short: "Answers from your own documents, on your own hardware",
		Long: `quipu answers questions from your own documents, on your own hardware, from one binary:
it finds the passages, lets a local model answer from them, checks each sentence against them,
cites what holds and says so when the documents don't know.

Each flag can also be set in the environment, --log-level as QUIPU_LOG_LEVEL, or by its name in the config file.`,
		Example: `  quipu ingest docs/                      # read a folder into the knowledge base
  quipu ask "How long is the guarantee?"  # one grounded, cited answer
  quipu serve                             # the OpenAI API on 127.0.0.1:8080`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args:          subcommand,
		RunE:          help,
	}
	root.SetVersionTemplate("quipu {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.String("config", "", "config file (default: config.yaml in the user's quipu config folder, when it is there)")
	flags.String("data", defaultDataDir(), "data folder of the knowledge base")
	flags.String("cache", defaultCacheDir(), "cache folder of models")
	flags.String("log-level", "info", "debug, info, warn or error")
	flags.String("log-format", "auto", "json, console, or auto: console on a terminal")
	root.AddCommand(newServe(), newAsk(), newChat(), newSearch(), newIngest(), newJobs(), newModels(), newTune(), newEval(), newDoctor(), newBench(), newVersion(), newWorker())
	return root
}

// exactArgs and minArgs are cobra's, as usage errors.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return takes(cmd, what)
		}
		return nil
	}
}

func minArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return takes(cmd, what)
		}
		return nil
	}
}

func takes(cmd *cobra.Command, what string) error {
	return usageError{fmt.Errorf("%[1]s takes %[2]s (see %[1]s --help)", cmd.CommandPath(), what)}
}

// subcommand is the check of commands that only hold others: a word that reached them names none of those.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	cmd.SuggestionsMinimumDistance = 2 // letters that may differ
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("%[1]s has no command %[2]q%[3]s (see %[1]s --help)", cmd.CommandPath(), args[0], meant)}
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func defaultCacheDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "quipu")
	}
	return ".quipu-cache"
}

func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "quipu")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "quipu")
	}
	return "quipu-data"
}
