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
	Needs   Needs    `json:"needs"`
}

// Needs is what running a model takes with quipu's defaults.
type Needs struct {
	Memory  int64 `json:"memory"`  // bytes of main memory, weights and KV cache included, on a processor
	Context int   `json:"context"` // tokens of one request at most
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
	// pause is what the waits between tries grow from; stall is how long a connection may bring nothing. Tests shorten them.
	pause, stall time.Duration
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
	l := &Library{config: c, pause: 200 * time.Millisecond, stall: time.Minute}
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
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if m, ok := l.file(filepath.Join(l.config.Dir, f.Name())); ok {
			out = append(out, m)
		}
	}
	return out, nil
}

// file describes the GGUF file at path, if there is one. In the folder it has the name that the catalogue gives it.
func (l *Library) file(path string) (Installed, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || !strings.EqualFold(filepath.Ext(path), ".gguf") {
		return Installed{}, false
	}
	base := filepath.Base(path)
	m := Installed{Name: strings.TrimSuffix(base, filepath.Ext(base)), Path: path, Bytes: info.Size()}
	for _, e := range l.catalogue {
		if e.File == base && l.holds(path) {
			m.Name, m.Entry = e.Name, &e
		}
	}
	return m, true
}

// holds tells whether a path lies in the folder itself, however the two are written.
func (l *Library) holds(path string) bool {
	dir, err := filepath.Abs(l.config.Dir)
	if err != nil {
		return false
	}
	full, err := filepath.Abs(path)
	return err == nil && filepath.Dir(full) == dir
}

// Resolve gives the model file that a name means: a name of the catalogue, a path to a .gguf file, or a file of the folder
// with or without .gguf. See UnknownError and NotPulledError. An imported model whose sources are complete is made at once;
// progress, which may be nil, hears of it.
func (l *Library) Resolve(ctx context.Context, name string, progress func(Progress)) (Installed, error) {
	m, err := l.look(name)
	if !errors.Is(err, ErrNotPulled) || m.Entry.Import == "" {
		return m, err
	}
	if made := l.build(ctx, *m.Entry, heard(progress)); errors.Is(made, fs.ErrNotExist) {
		return m, err
	} else if made != nil {
		return m, made
	}
	return l.look(name)
}

// look is Resolve for what is there already.
func (l *Library) look(name string) (Installed, error) {
	if e, ok := l.Find(name); ok {
		path := filepath.Join(l.config.Dir, e.File)
		if m, ok := l.file(path); ok {
			return m, nil
		}
		return Installed{Name: e.Name, Path: path, Entry: &e}, &NotPulledError{Name: e.Name}
	}
	paths := []string{name}
	if !strings.ContainsAny(name, `/\`) { // names of the folder have no folders in them
		paths = append(paths, filepath.Join(l.config.Dir, name), filepath.Join(l.config.Dir, name+".gguf"))
	}
	for _, path := range paths {
		if m, ok := l.file(path); ok {
			return m, nil
		}
	}
	return Installed{}, l.unknown(name)
}

func (l *Library) unknown(name string) error {
	e := &UnknownError{Name: name}
	nearest := 1 + min(len(name)/3, 4) // letters that may differ
	consider := func(known, written string) {
		if d := distance(strings.ToLower(name), strings.ToLower(written)); d < nearest {
			nearest, e.Meant = d, known
		}
	}
	for _, known := range l.catalogue {
		e.Known = append(e.Known, known.Name)
		for _, written := range append([]string{known.Name, known.File}, known.Aliases...) {
			consider(known.Name, written)
		}
	}
	installed, _ := l.List() // what can't be listed can't be suggested
	for _, m := range installed {
		if m.Entry == nil {
			e.Known = append(e.Known, m.Name)
			consider(m.Name, m.Name)
		}
	}
	return e
}

// distance is Levenshtein's: how many bytes have to be inserted, deleted or replaced. A word that is a part of the other is
// as near as a single mistake.
func distance(a, b string) int {
	if len(a) > 3 && strings.Contains(b, a) {
		return 1
	}
	if len(a) > 100 || len(b) > 100 {
		return max(len(a), len(b)) // no name, and slow
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// Remove deletes a model's file from the folder, with what it was imported from and what a cut-off pull left of it.
func (l *Library) Remove(name string) (Installed, error) {
	m, err := l.look(name)
	if err != nil && !errors.Is(err, ErrNotPulled) {
		return m, err
	}
	if !l.holds(m.Path) {
		return m, fmt.Errorf("%s is not in the models folder %s: remove it yourself", m.Path, l.config.Dir)
	}
	note, noteErr := l.note(m.Path)
	if noteErr != nil {
		return m, noteErr
	}
	paths := []string{m.Path, m.Path + ".part", m.Path + ".part.from", note}
	if m.Entry != nil && m.Entry.Import != "" {
		paths = append(paths, filepath.Join(l.config.Dir, m.Entry.Import))
	}
	for _, path := range paths {
		if _, there := os.Lstat(path); there != nil {
			continue
		}
		if failed := os.RemoveAll(path); failed != nil {
			return m, failed
		}
		err = nil // a part of it was there
	}
	return m, err
}

// build makes an imported model from its sources, when they are all there and unchanged.
func (l *Library) build(ctx context.Context, e Entry, progress func(Progress)) error {
	for _, s := range e.Sources {
		if err := verify(ctx, filepath.Join(l.config.Dir, filepath.FromSlash(s.File)), s.SHA256, progress); err != nil {
			return err
		}
	}
	return Import(ctx, filepath.Join(l.config.Dir, e.Import), filepath.Join(l.config.Dir, e.File), ImportOptions{Name: e.Import, Progress: func(done, total int) {
		progress(Progress{Step: Importing, File: e.File, Done: int64(done), Total: int64(total)})
	}})
}
