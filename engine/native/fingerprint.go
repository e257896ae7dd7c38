package native

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/quipu-ai/quipu/llama"
)

const (
	sampleBytes = 64 << 10
	samples     = 64
)

// part is the end of a file's name where a model comes in several.
var part = regexp.MustCompile(`-\d{5}-of-(\d{5}\.gguf)$`)

// fingerprint tells models apart whose computed KV differs: by the build of llama.cpp, and of each file its size and samples of
// its contents, since reading the whole of a large model would hold up every start. Training and quantizing change all of the
// weights, so that samples are enough.
func fingerprint(model string, adapters []Adapter) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, llama.BuildKey())
	files := []string{model}
	if part.MatchString(model) {
		found, err := filepath.Glob(part.ReplaceAllString(model, "-[0-9][0-9][0-9][0-9][0-9]-of-$1"))
		if err == nil && len(found) > 0 {
			files = found
		}
	}
	slices.Sort(files)
	for _, a := range adapters {
		fmt.Fprintf(h, "%q %g\n", a.Name, a.Scale)
		files = append(files, a.Path)
	}
	for _, path := range files {
		if err := sample(h, path); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sample feeds a hash a file's size and pieces of it, the first and the last among them.
func sample(h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	fmt.Fprintln(h, size)
	if size <= samples*sampleBytes {
		_, err = io.Copy(h, f)
		return err
	}
	for i := range int64(samples) {
		from := (size - sampleBytes) * i / (samples - 1)
		if _, err := io.Copy(h, io.NewSectionReader(f, from, sampleBytes)); err != nil {
			return err
		}
	}
	return nil
}
