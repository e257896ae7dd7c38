package models

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnknownModel: no file, no entry of the catalogue and no model in the folder has the name. See UnknownError.
	ErrUnknownModel = errors.New("unknown model")
	// ErrNotPulled: the catalogue knows the model, but its file is not in the folder.
	ErrNotPulled = errors.New("model is not on this machine")
	// ErrChecksum: what was received is not what was asked for; it was removed.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrBusy: another process is fetching the same file.
	ErrBusy = errors.New("it is being fetched already")
	// ErrDownload: the server did not give the file.
	ErrDownload = errors.New("download failed")
	// ErrInvalidFile: the file is not what its place says it is: not GGUF, not safetensors, contradicting itself.
	ErrInvalidFile = errors.New("invalid file")
	// ErrUnsupported: the importer does not know the architecture.
	ErrUnsupported = errors.New("unsupported architecture")
)

// UnknownError names the model that was not found and what there is. It unwraps to ErrUnknownModel.
type UnknownError struct {
	Name  string
	Known []string
	Meant string // the one of Known that the name was perhaps meant to be; empty when none is near
}

func (e *UnknownError) Error() string {
	meant := ""
	if e.Meant != "" {
		meant = fmt.Sprintf("did you mean %s? If not, ", e.Meant)
	}
	return fmt.Sprintf("there is no model %q: %suse a path to a .gguf file, one of %s, or pull one with `quipu models pull hf:owner/repository/file.gguf`",
		e.Name, meant, strings.Join(e.Known, ", "))
}

func (e *UnknownError) Unwrap() error { return ErrUnknownModel }

// NotPulledError names a model of the catalogue whose file is missing. It unwraps to ErrNotPulled.
type NotPulledError struct{ Name string }

func (e *NotPulledError) Error() string {
	return fmt.Sprintf("the model %s is not on this machine: get it with `quipu models pull %s`", e.Name, e.Name)
}

func (e *NotPulledError) Unwrap() error { return ErrNotPulled }
