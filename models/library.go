package models

import (
	"context"
	_ "embed" // the catalogue
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed catalogue.json
var catalogueJSON []byte

// Entry is a model that the catalogue knows.
type Entry struct {
	Name        string   `json:"name"`
	Aliases     []string `json:"aliases"`
	Kind        string   `json:"kind"` // chat or embedding
	Description string   `json:"description"`
	Licence     string   `json:"licence"`
	File        string   `json:"file"` // the GGUF file in the folder
	// Import is the folder of sources that File is made from; empty when File itself is the source.
	Import  string   `json:"import,omitempty"`
	Sources []Source `json:"sources"`
}

// Source is a file to get.
type Source struct {
	File   string `json:"file"` // relative to the folder
	URL    string `json:"url"`
	SHA256 string `json:"sha256"` // empty when unknown
	Bytes  int64  `json:"bytes"`
}

// Bytes is what has to be fetched for the model.
func (e Entry) Bytes() int64 {
	var sum int64
	for _, s := range e.Sources {
		sum += s.Bytes
	}
	return sum
}

// Config says where models are kept and how they are fetched.
type Config struct {
	Dir string // the folder; created when something is fetched
	// Endpoint replaces https://huggingface.co, for mirrors; Token is sent to it and to no other host.
	Endpoint string
	Token    string
	// Client is what downloads use; nil is one without an overall time limit.
	Client *http.Client
}

const hub = "https://huggingface.co"

// Library is a folder of models with the catalogue. Safe for concurrent use.
type Library struct {
	config    Config
	catalogue []Entry
}

// New opens a library; nothing is read or fetched yet.
func New(c Config) (*Library, error) {
	if c.Dir == "" {
		return nil, errors.New("models: no folder is named")
	}
	if c.Endpoint == "" {
		c.Endpoint = hub
	}
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if c.Client == nil {
		c.Client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: time.Minute,
		}}
	}
	l := &Library{config: c}
	if err := json.Unmarshal(catalogueJSON, &l.catalogue); err != nil {
		return nil, fmt.Errorf("models: the catalogue: %w", err)
	}
	return l, nil
}

// Catalogue lists the known models.
func (l *Library) Catalogue() []Entry { return slices.Clone(l.catalogue) }

// Find looks a name or alias up in the catalogue, in any case.
func (l *Library) Find(name string) (Entry, bool) {
	for _, e := range l.catalogue {
		if strings.EqualFold(e.Name, name) || slices.ContainsFunc(e.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return e, true
		}
	}
	return Entry{}, false
}

// Installed is a model file in the folder.
type Installed struct {
	Name  string // of the catalogue, else the file's name without .gguf
	Path  string
	Bytes int64
	Entry *Entry // nil when the catalogue does not know it
}

// List gives the GGUF files of the folder by name.
func (l *Library) List() ([]Installed, error) {
	files, err := os.ReadDir(l.config.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Installed
	for _, f := range files {
		if !f.Type().IsRegular() || !strings.EqualFold(filepath.Ext(f.Name()), ".gguf") || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		m := Installed{Name: strings.TrimSuffix(f.Name(), filepath.Ext(f.Name())), Path: filepath.Join(l.config.Dir, f.Name()), Bytes: info.Size()}
		for _, e := range l.catalogue {
			if e.File == f.Name() {
				m.Name, m.Entry = e.Name, &e
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// Resolve gives the model file that a name means: a path to a .gguf file, a name of the catalogue, or a file of the folder
// with or without .gguf. See UnknownError and NotPulledError. An imported model whose sources are complete is made at once.
func (l *Library) Resolve(ctx context.Context, name string) (Installed, error) {
	if e, ok := l.Find(name); ok {
		m := Installed{Name: e.Name, Path: filepath.Join(l.config.Dir, e.File), Entry: &e}
		info, err := os.Stat(m.Path)
		if errors.Is(err, fs.ErrNotExist) && e.Import != "" {
			if err = l.build(ctx, e, nil); err == nil {
				info, err = os.Stat(m.Path)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return m, &NotPulledError{Name: e.Name}
		}
		if err != nil {
			return m, err
		}
		m.Bytes = info.Size()
		return m, nil
	}
	for _, path := range []string{name, filepath.Join(l.config.Dir, name), filepath.Join(l.config.Dir, name+".gguf")} {
		if path != name && strings.ContainsAny(name, `/\`) {
			continue // names of the folder have no folders in them
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || !strings.EqualFold(filepath.Ext(path), ".gguf") {
			continue
		}
		base := filepath.Base(path)
		return Installed{Name: strings.TrimSuffix(base, filepath.Ext(base)), Path: path, Bytes: info.Size()}, nil
	}
	var known []string
	for _, e := range l.catalogue {
		known = append(known, e.Name)
	}
	return Installed{}, &UnknownError{Name: name, Known: known}
}

// Remove deletes a model's file and what it was imported from.
func (l *Library) Remove(name string) (Installed, error) {
	m, err := l.Resolve(context.Background(), name)
	if err != nil {
		return m, err
	}
	if filepath.Dir(m.Path) != filepath.Clean(l.config.Dir) {
		return m, fmt.Errorf("%s is not in the models folder %s: remove it yourself", m.Path, l.config.Dir)
	}
	if m.Entry != nil && m.Entry.Import != "" {
		if err := os.RemoveAll(filepath.Join(l.config.Dir, m.Entry.Import)); err != nil {
			return m, err
		}
	}
	return m, os.Remove(m.Path)
}

// build makes an imported model from its sources, when they are all there and unchanged.
func (l *Library) build(ctx context.Context, e Entry, progress func(done, total int)) error {
	for _, s := range e.Sources {
		if err := verify(filepath.Join(l.config.Dir, filepath.FromSlash(s.File)), s.SHA256); err != nil {
			return err
		}
	}
	return Import(ctx, filepath.Join(l.config.Dir, e.Import), filepath.Join(l.config.Dir, e.File), ImportOptions{Name: e.Import, Progress: progress})
}
