package base

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/chunk"
	"github.com/quipu-ai/quipu/retrieval/load"
	"github.com/quipu-ai/quipu/retrieval/store/sqlite"
)

// source is a file to ingest.
type source struct {
	path string // on this machine
	file string // as documents name it
	err  error  // why it can't be read, found while walking
}

// Ingest reads files and folders into a store, which it creates if it is missing. Each document is committed on its own:
// what was reported is stored, whatever happens afterwards, and running again goes on where it stopped. A document that
// can't be ingested is reported as failed and the others go on; errors that concern all (disk full, a wrong embedding model,
// ctx) stop it. The report says what was done, also when an error comes with it.
//
// Folders are walked in order of names; hidden files are left out. Links below a folder are not followed, and neither are pipes
// and devices opened: the report has them as skipped. progress may be nil.
func (b *Base) Ingest(ctx context.Context, store string, paths []string, progress func(retrieval.Progress)) (*retrieval.Report, error) {
	if b.config.Embedder == nil {
		return nil, retrieval.ErrNoEmbedder
	}
	name, err := checkName(store)
	if err != nil {
		return nil, err
	}
	sources, err := walk(paths)
	if err != nil {
		return nil, err
	}
	s, err := b.record.EnsureStore(ctx, name, b.config.Info)
	if err != nil {
		return nil, err
	}
	have, err := b.record.Documents(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	known := make(map[string]retrieval.Document, len(have))
	for _, d := range have {
		known[d.File] = d
	}
	began := time.Now()
	report := &retrieval.Report{Store: name, Documents: []retrieval.DocumentResult{}}
	seen := map[string]bool{}
	for i, src := range sources {
		if progress != nil {
			progress(retrieval.Progress{File: src.file, Documents: i, Total: len(sources), Passages: report.Passages})
		}
		result, err := b.ingest(ctx, s, src, known[src.file], seen, func(embedded int) {
			if progress != nil {
				progress(retrieval.Progress{File: src.file, Documents: i, Total: len(sources), Passages: report.Passages + embedded})
			}
		})
		report.Seconds = time.Since(began).Seconds()
		if err != nil {
			return report, fmt.Errorf("%s: %w", src.file, err)
		}
		report.Add(result)
		if progress != nil {
			progress(retrieval.Progress{File: src.file, Documents: i + 1, Total: len(sources), Passages: report.Passages, Last: &result})
		}
	}
	return report, nil
}

// ingest takes in one document. The error is one that concerns all documents.
func (b *Base) ingest(ctx context.Context, s retrieval.Store, src source, known retrieval.Document, seen map[string]bool, embedded func(int)) (retrieval.DocumentResult, error) {
	result := retrieval.DocumentResult{File: src.file, Status: retrieval.Failed}
	if err := ctx.Err(); err != nil {
		return result, err
	}
	var refused *retrieval.DocumentError
	err := src.err
	if err == nil && seen[src.file] {
		err = &retrieval.DocumentError{Code: retrieval.CodeDuplicate, Reason: "another document of this ingestion has the same name"}
	}
	seen[src.file] = true
	var content []byte
	if err == nil {
		content, err = b.read(src.path)
	}
	if err == nil {
		result.Status, result.Passages, err = b.take(ctx, s, src.file, content, known, embedded)
	}
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &refused):
		result.Status, result.Code, result.Reason = retrieval.Failed, refused.Code, refused.Reason
		if refused.Code == retrieval.CodeNoFile {
			result.Status = retrieval.Skipped
		}
		return result, nil
	}
	return result, err
}

func (b *Base) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &retrieval.DocumentError{Code: retrieval.CodeUnreadable, Reason: "it can't be opened: " + err.Error(), Err: err}
	}
	defer f.Close()
	return b.loader.Read(f)
}

// embedTogether is how many passages are embedded in one call: enough to fill batches, few enough to show that it goes on.
const embedTogether = 64

// take turns a document's bytes into passages and commits them. embedded hears how many have their vectors.
func (b *Base) take(ctx context.Context, s retrieval.Store, file string, content []byte, known retrieval.Document, embedded func(int)) (retrieval.Status, int, error) {
	sum := sha256.Sum256(content)
	d := retrieval.Document{
		ID: identity("doc", fmt.Sprint(s.ID), file), Store: s.Name, File: file, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(content)),
		Recipe: fmt.Sprintf("load %d, chunk %d %+v", load.Version, chunk.Version, b.config.Chunk), IngestedAt: time.Now(),
	}
	if known.SHA256 == d.SHA256 && known.Recipe == d.Recipe {
		return retrieval.Unchanged, known.Passages, nil
	}
	text, err := b.loader.Load(file, content)
	if err != nil {
		return retrieval.Failed, 0, err
	}
	d.Title, d.MediaType = text.Title, text.MediaType
	pieces, err := chunk.Split(text, b.config.Embedder, b.config.Chunk)
	if err != nil {
		return retrieval.Failed, 0, err
	}
	c := sqlite.Content{Text: text.Text}
	inputs := make([]string, len(pieces))
	for i, p := range pieces {
		p.Passage.ID = identity("psg", d.ID, d.SHA256, d.Recipe, fmt.Sprint(i))
		c.Passages = append(c.Passages, p.Passage)
		inputs[i] = p.Input
	}
	for some := range slices.Chunk(inputs, embedTogether) {
		vectors, err := b.config.Embedder.Embed(ctx, some)
		if err != nil {
			return retrieval.Failed, 0, fmt.Errorf("embed: %w", err)
		}
		c.Vectors = append(c.Vectors, vectors...)
		embedded(len(c.Vectors))
	}
	status, err := b.record.Put(ctx, s.ID, d, c)
	return status, len(c.Passages), err
}

// identity makes an id out of what it stands for.
func identity(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return kind + "_" + hex.EncodeToString(h.Sum(nil))[:24]
}

// Roots gives what paths to ingest stand for: a link to a folder stands for the folder. What is not there is an error, and so
// is what is neither a file nor a folder, such as a pipe or a device, which might never end. Ingest asks it itself; ask it
// before where loading an embedding model first would be in vain.
func Roots(paths []string) ([]string, error) {
	roots := make([]string, len(paths))
	for i, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			if path, err = filepath.EvalSymlinks(path); err != nil {
				return nil, err
			}
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is neither a file nor a folder", path)
		}
		roots[i] = path
	}
	return roots, nil
}

// walk lists the files that paths name. See Roots for what is an error; what can't be read below a folder is reported with its
// document.
func walk(paths []string) ([]source, error) {
	roots, err := Roots(paths)
	if err != nil {
		return nil, err
	}
	var out []source
	for _, root := range roots {
		info, err := os.Stat(root)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, source{path: root, file: filepath.Base(root)})
			continue
		}
		var below []source
		err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			name, relErr := filepath.Rel(root, path)
			if relErr != nil {
				return relErr
			}
			name = filepath.ToSlash(name)
			switch {
			case err != nil:
				below = append(below, source{path: path, file: name, err: &retrieval.DocumentError{Code: retrieval.CodeUnreadable, Reason: "it can't be read: " + err.Error(), Err: err}})
				if e != nil && e.IsDir() {
					return fs.SkipDir
				}
			case name != "." && strings.HasPrefix(e.Name(), "."):
				if e.IsDir() {
					return fs.SkipDir
				}
			case e.IsDir():
			case e.Type().IsRegular():
				below = append(below, source{path: path, file: name})
			default:
				reason := "it is neither a file nor a folder"
				if e.Type()&fs.ModeSymlink != 0 {
					reason = "it is a link, and links below a folder are not followed: name what it leads to"
				}
				below = append(below, source{path: path, file: name, err: &retrieval.DocumentError{Code: retrieval.CodeNoFile, Reason: reason}})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(below, func(a, b source) int { return strings.Compare(a.file, b.file) })
		out = append(out, below...)
	}
	return out, nil
}
