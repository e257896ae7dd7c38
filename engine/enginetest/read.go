package enginetest

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/quipu-ai/quipu/engine"
)

// Read reads a stream to its end and gives its text and its last event. On an error it gives what came before. It leaves closing to
// the caller.
func Read(ctx context.Context, s *engine.Stream) (text string, last engine.Event, err error) {
	var b strings.Builder
	for {
		e, err := s.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return b.String(), last, nil
		}
		if err != nil {
			return b.String(), last, err
		}
		b.WriteString(e.Text)
		last = e
	}
}
