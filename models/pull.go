package models

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Step is what is being done with a file.
type Step string

// The steps.
const (
	Fetching  Step = "fetching"
	Checking  Step = "checking" // its checksum
	Importing Step = "importing"
)

// Progress of work on a file, in bytes; of an import, in tensors. Total is -1 while unknown.
type Progress struct {
	Step        Step
	File        string
	Done, Total int64
}

// heard is a listener that may be called where there may be none.
func heard(progress func(Progress)) func(Progress) {
	if progress == nil {
		return func(Progress) {}
	}
	return progress
}

// Pull makes a model available: a name of the catalogue, hf:owner/repository/file.gguf on the hub, or an http(s) URL of a GGUF
// file. sum is the sha256 that a file of the last two kinds must have; empty, the hub's own word is taken, and of another
// server's file only that it is GGUF. What is there already is not fetched again; what was cut off goes on where it stopped.
// progress may be nil; it is called from one goroutine.
func (l *Library) Pull(ctx context.Context, name, sum string, progress func(Progress)) (Installed, error) {
	progress = heard(progress)
	sum = strings.ToLower(sum)
	if sum != "" && !isChecksum(sum) {
		return Installed{}, fmt.Errorf("%q is not a sha256: 64 hexadecimal digits", sum)
	}
	e, known := l.Find(name)
	switch {
	case known && sum != "":
		return Installed{}, fmt.Errorf("%s: the catalogue has its checksum; give one with a URL or hf:… alone", e.Name)
	case !known:
		source, err := l.remote(name, sum)
		if err != nil {
			return Installed{}, err
		}
		e = Entry{File: source.File, Sources: []Source{source}}
	}
	target := filepath.Join(l.config.Dir, e.File)
	if m, ok := l.file(target); ok {
		if err := verify(ctx, target, sum, progress); err != nil {
			return Installed{}, fmt.Errorf("another file of that name is there already: %w", err)
		}
		return m, nil
	}
	for _, s := range e.Sources {
		if err := l.fetch(ctx, s, progress); err != nil {
			return Installed{}, fmt.Errorf("%s: %w", s.File, err)
		}
	}
	if e.Import != "" {
		if err := l.build(ctx, e, progress); err != nil {
			return Installed{}, err
		}
	}
	m, ok := l.file(target)
	if !ok {
		return Installed{}, fmt.Errorf("%s: %w", target, os.ErrNotExist)
	}
	return m, nil
}

// remote is the source that a hub name or a URL means.
func (l *Library) remote(name, sum string) (Source, error) {
	u, err := url.Parse(name)
	if rest, ok := strings.CutPrefix(name, "hf:"); ok {
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
			return Source{}, fmt.Errorf("%q: write hf:owner/repository/file.gguf", name)
		}
		u, err = url.Parse(hub)
		if err == nil {
			u = u.JoinPath(url.PathEscape(parts[0]), url.PathEscape(parts[1]), "resolve", "main")
			u.Path += "/" + parts[2]
		}
	}
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Source{}, l.unknown(name)
	}
	file := path.Base(u.Path)
	if !strings.EqualFold(path.Ext(file), ".gguf") || strings.HasPrefix(file, ".") || strings.ContainsAny(file, `\:`) {
		return Source{}, fmt.Errorf("%q does not name a .gguf file", name)
	}
	return Source{File: file, URL: u.String(), SHA256: sum}, nil
}
