package cmd

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
)

const ctrlC = 3

// keyboard reads what is typed in a goroutine of its own, so that the end of a context ends the waiting for it, and Ctrl-C,
// which in a terminal's raw mode is a character like any other, is seen while an answer is written. The goroutine ends with
// its input.
type keyboard struct {
	ctx    context.Context
	chunks chan []byte
	rest   []byte // of the last chunk
	raw    bool   // a terminal in raw mode: Ctrl-C is a character
	// stop ends the answer that is being written; nil between answers.
	stop atomic.Pointer[context.CancelFunc]
}

func newKeyboard(ctx context.Context, in io.Reader) *keyboard {
	k := &keyboard{ctx: ctx, chunks: make(chan []byte, 64)}
	go k.pump(in)
	return k
}

func (k *keyboard) pump(in io.Reader) {
	defer close(k.chunks)
	buffer := make([]byte, 4096)
	for {
		n, err := in.Read(buffer)
		chunk := bytes.Clone(buffer[:n])
		if stop := k.stop.Load(); stop != nil && bytes.IndexByte(chunk, ctrlC) >= 0 {
			(*stop)()
			chunk = nil
		}
		if len(chunk) > 0 {
			select {
			case k.chunks <- chunk:
			case <-k.ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader for one goroutine.
func (k *keyboard) Read(p []byte) (int, error) {
	if k.ctx.Err() != nil {
		return 0, k.ctx.Err()
	}
	if len(k.rest) == 0 {
		select {
		case chunk, more := <-k.chunks:
			if !more {
				return 0, io.EOF
			}
			k.rest = chunk
		case <-k.ctx.Done():
			return 0, k.ctx.Err()
		}
	}
	n := copy(p, k.rest)
	k.rest = k.rest[n:]
	return n, nil
}

// answering gives an answer the context that Ctrl-C ends. The returned function says that it is over, and whether it was
// stopped.
func (k *keyboard) answering() (ctx context.Context, over func() (stopped bool)) {
	ctx, cancel := context.WithCancel(k.ctx)
	if k.raw {
		k.stop.Store(&cancel)
	}
	return ctx, func() bool {
		k.stop.Store(nil)
		stopped := ctx.Err() != nil && k.ctx.Err() == nil
		cancel()
		return stopped
	}
}
