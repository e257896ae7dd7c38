package base

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quipu-ai/quipu/retrieval"
)

// source is a file to ingest.
type source struct {
	path string          // on this machine
	file string          // as documents name it
	text *retrieval.Text // read elsewhere, in place of a path
	err  error           // why it can't be read, found while walking
}

// key tells a source from a job's others.
func (s source) key() string {
	if s.text != nil {
		return "text:" + s.file
	}
	return s.path
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
