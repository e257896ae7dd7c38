package cmd

import (
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// newLogger writes to standard error: JSON for machines, a readable form on a terminal.
func newLogger(level, format string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || l < zerolog.DebugLevel || l > zerolog.ErrorLevel {
		return zerolog.Nop(), usageError{fmt.Errorf("--log-level %s: use debug, info, warn or error", level)}
	}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	var logger zerolog.Logger
	switch {
	case format == "console", format == "auto" && terminal:
		logger = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.TimeOnly, NoColor: !terminal})
	case format == "json", format == "auto":
		logger = zerolog.New(os.Stderr)
	default:
		return zerolog.Nop(), usageError{fmt.Errorf("--log-format %s: use json, console or auto", format)}
	}
	return logger.Level(l).With().Timestamp().Logger(), nil
}
