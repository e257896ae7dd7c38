package llama

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// withPreTokenizer writes a copy of a model's vocabulary, without tensors, that names another pre-tokenizer.
func withPreTokenizer(tb testing.TB, source, pre string) string {
	tb.Helper()
	g, err := ReadGGUFFile(source)
	must(tb, err)
	b := make([]byte, g.Data)
	f, err := os.Open(source)
	must(tb, err)
	defer f.Close()
	_, err = f.ReadAt(b, 0)
	must(tb, err)

	const key = "tokenizer.ggml.pre"
	at := bytes.Index(b, []byte(key)) + len(key) + 4
	old := binary.LittleEndian.Uint64(b[at:])
	var out []byte
	out = append(out, b[:at]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(pre)))
	out = append(out, pre...)
	out = append(out, b[at+8+int(old):]...)
	binary.LittleEndian.PutUint64(out[8:], 0) // no tensors
	first := bytes.Index(out, append(binary.LittleEndian.AppendUint64(nil, uint64(len(g.Tensors[0].Name))), g.Tensors[0].Name...))
	path := filepath.Join(tb.TempDir(), pre+".gguf")
	must(tb, os.WriteFile(path, out[:first], 0o644))
	return path
}

// runChild is the program of a child process: it tokenizes N times CHAR with the vocabulary of FILE, in some goroutines at
// once where their number is given.
func runChild(args []string) int {
	p := DefaultModelParams()
	p.VocabOnly = true
	m, err := Load(context.Background(), args[0], p)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	n, _ := strconv.Atoi(args[2])
	goroutines := 1
	if len(args) > 3 {
		goroutines, _ = strconv.Atoi(args[3])
	}
	counts, errs := make([]int, goroutines), make([]error, goroutines)
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			var tokens []Token
			tokens, errs[i] = m.Vocab().Tokenize(strings.Repeat(args[1], n), false, false)
			counts[i] = len(tokens)
		})
	}
	wg.Wait()
	fmt.Println(counts[0], errs[0])
	if errs[0] != nil || len(slices.Compact(counts)) != 1 {
		return 4
	}
	return 0
}

func TestMeasureRuns(t *testing.T) {
	if os.Getenv("QUIPU_TEST_RUNS") == "" {
		t.Skip("a measurement: set QUIPU_TEST_RUNS")
	}
	source := modelFile(t, chatModel)
	for _, pre := range strings.Fields(os.Getenv("QUIPU_TEST_RUNS")) {
		path := withPreTokenizer(t, source, pre)
		var line []string
		for _, char := range []string{"a", "A", "7", "!", " ", "\n", "中", "é", "word ", "!\n", "a1"} {
			low, high := 0, 1<<20
			if exec.Command(os.Args[0], "run-child", path, char, fmt.Sprint(high)).Run() == nil {
				line = append(line, fmt.Sprintf("%q ok", char))
				continue
			}
			for high-low > high/32+1 {
				mid := (low + high) / 2
				if exec.Command(os.Args[0], "run-child", path, char, fmt.Sprint(mid)).Run() == nil {
					low = mid
				} else {
					high = mid
				}
			}
			line = append(line, fmt.Sprintf("%q %d", char, low))
		}
		t.Log(pre, line)
	}
}
