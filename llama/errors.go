package llama

import (
	"errors"
	"fmt"
)

// Errors of computing.
var (
	// ErrNoKVSlot: the KV cache has no room for the batch; nothing was computed. Remove sequences or send fewer tokens.
	ErrNoKVSlot = errors.New("no room in the KV cache")
	// ErrAborted: the computation was stopped because its context ended. Micro-batches that were already computed stay
	// in memory; ask Memory.PosMax.
	ErrAborted = errors.New("computation stopped")
	// ErrBatch: the batch contradicts itself, the context or what is in memory; nothing was computed.
	ErrBatch = errors.New("invalid batch")
	// ErrNoOutput: the row asked for was not marked as an output of the last Decode or Encode, or the context computes
	// no such thing.
	ErrNoOutput = errors.New("no such output")
	// ErrCompute: the backend failed while computing.
	ErrCompute = errors.New("computation failed")
)

// Errors of files.
var (
	// ErrNotGGUF: the file is something else.
	ErrNotGGUF = errors.New("not a GGUF file")
	// ErrTruncated: the file is shorter than its header says; a download was probably cut off.
	ErrTruncated = errors.New("truncated file")
	// ErrCorrupt: the file contradicts itself.
	ErrCorrupt = errors.New("corrupt file")
	// ErrMissingTensor: the file lacks a tensor that its architecture needs.
	ErrMissingTensor = errors.New("missing tensor")
	// ErrUnsupportedArch: this release of llama.cpp does not know the architecture.
	ErrUnsupportedArch = errors.New("unsupported architecture")
	// ErrWrongState: a saved state belongs to another model or to a context with other parameters.
	ErrWrongState = errors.New("state of another model or context")
)

// Errors of use.
var (
	// ErrClosed: the object, or its model, was closed.
	ErrClosed = errors.New("closed")
	// ErrInUse: something that depends on the object is still open; close that first.
	ErrInUse = errors.New("still in use")
	// ErrInvalid: a parameter is out of its range.
	ErrInvalid = errors.New("invalid parameter")
	// ErrUnsupported: this model or context cannot do that.
	ErrUnsupported = errors.New("unsupported by this model or context")
	// ErrTextTooLong: the text is longer than the tokenizer can take.
	ErrTextTooLong = errors.New("text too long for the tokenizer")
	// ErrToken: a token id lies outside the vocabulary.
	ErrToken = errors.New("no such token")
	// ErrGrammar: the grammar cannot be parsed.
	ErrGrammar = errors.New("invalid grammar")
	// ErrRejected: the grammar forbids this token here, or every token.
	ErrRejected = errors.New("rejected by the grammar")
	// ErrNoMemory: llama.cpp could not allocate.
	ErrNoMemory = errors.New("out of memory")
	// ErrCPU: the library was built for a processor with features that this one lacks.
	ErrCPU = errors.New("built for another processor")
)

// Error says what llama.cpp refused. It unwraps to one of the sentinels.
type Error struct {
	Op   string // decode, load model …
	Code int    // llama.cpp's return code where it has one, else 0
	Msg  string // what llama.cpp, or a check before it, said
	Kind error  // the sentinel
}

func (e *Error) Error() string {
	text := e.Op + ": "
	if e.Kind != nil {
		text += e.Kind.Error()
	}
	if e.Code != 0 {
		text += fmt.Sprintf(" (code %d)", e.Code)
	}
	if e.Msg != "" {
		text += ": " + e.Msg
	}
	return text
}

func (e *Error) Unwrap() error { return e.Kind }

func fail(op string, kind error, format string, args ...any) error {
	return &Error{Op: op, Kind: kind, Msg: fmt.Sprintf(format, args...)}
}
