package llama

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A mutation damages a file in a way that its number decides; undo restores it.
func mutate(f *os.File, header int64, number int) (what string, undo func() error, err error) {
	r := rand.New(rand.NewPCG(uint64(number), 42))
	info, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	size := info.Size()
	replace := func(at int64, b []byte) (func() error, error) {
		old := make([]byte, len(b))
		if _, err := f.ReadAt(old, at); err != nil {
			return nil, err
		}
		_, err := f.WriteAt(b, at)
		return func() error { _, err := f.WriteAt(old, at); return err }, err
	}
	switch number % 5 {
	case 0: // cut off
		at := r.Int64N(size)
		if r.IntN(2) == 0 {
			at = r.Int64N(header)
		}
		tail := make([]byte, size-at)
		if _, err := f.ReadAt(tail, at); err != nil {
			return "", nil, err
		}
		return fmt.Sprintf("cut at %d", at), func() error { _, err := f.WriteAt(tail, at); return err }, f.Truncate(at)
	case 1: // one byte, near the start where the hyperparameters are
		at := r.Int64N(min(2000, header))
		undo, err := replace(at, []byte{byte(r.Uint32())})
		return fmt.Sprintf("byte at %d", at), undo, err
	case 2: // one bit anywhere in the header
		at := r.Int64N(header)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return "", nil, err
		}
		undo, err := replace(at, []byte{b[0] ^ 1<<r.IntN(8)})
		return fmt.Sprintf("bit at %d", at), undo, err
	case 3: // a word that is often a length, a count or a type
		at := r.Int64N(min(3000, header-8))
		words := []uint64{0, 1, 1<<32 - 1, 1 << 31, 1<<63 - 1, 1 << 40, uint64(r.Uint32())}
		w := words[r.IntN(len(words))]
		b := make([]byte, 4<<r.IntN(2))
		for i := range b {
			b[i] = byte(w >> (8 * i))
		}
		undo, err := replace(at, b)
		return fmt.Sprintf("% x at %d", b, at), undo, err
	default: // near the end of the header, where the tensors are described
		at := header - 1 - r.Int64N(min(20000, header-8))
		undo, err := replace(max(0, at-4), []byte{byte(r.Uint32()), byte(r.Uint32())})
		return fmt.Sprintf("two bytes at %d", at-4), undo, err
	}
}

// loadChild is the program of the child process: it damages FILE by the mutations FROM..TO, one after the other, and
// loads each.
func loadChild(args []string) int {
	path := args[0]
	header, _ := strconv.ParseInt(args[1], 10, 64)
	from, _ := strconv.Atoi(args[2])
	to, _ := strconv.Atoi(args[3])
	try := tryModel
	if len(args) > 4 { // an adapter of this model
		base, err := Load(context.Background(), args[4], DefaultModelParams())
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		defer base.Close()
		try = func(path string) string { return tryLoRA(base, path) }
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	defer f.Close()
	for n := from; n < to; n++ {
		what, undo, err := mutate(f, header, n)
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Println("try", n, what)
		fmt.Printf("done %d %.300q\n", n, try(path))
		if err := undo(); err != nil {
			fmt.Println("error", err)
			return 1
		}
	}
	return 0
}

// tryModel uses a file as far as it goes and says how it ended.
func tryModel(path string) string {
	p := DefaultModelParams()
	p.Load = LoadMmap
	p.VocabOnly = true
	v, err := Load(context.Background(), path, p)
	if err != nil {
		return err.Error()
	}
	_, err = v.Vocab().Tokenize("Hello <|im_end|> wörld 123", true, true)
	v.Close()
	if err != nil {
		return err.Error()
	}
	p.VocabOnly = false
	m, err := Load(context.Background(), path, p)
	if err != nil {
		return err.Error()
	}
	defer m.Close()
	cp := DefaultContextParams()
	cp.ContextSize, cp.BatchSize, cp.UBatchSize, cp.Threads, cp.BatchThreads = 256, 8, 8, 1, 1
	c, err := NewContext(m, cp)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, _ := NewBatch(2, 1)
	defer b.Close()
	_ = b.Add(1, 0, true, 0)
	if err := c.Decode(context.Background(), b); err != nil {
		return err.Error()
	}
	return "fine"
}

func tryLoRA(base *Model, path string) string {
	l, err := base.LoadLoRA(path)
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	cp := DefaultContextParams()
	cp.ContextSize, cp.BatchSize, cp.UBatchSize, cp.Threads, cp.BatchThreads = 256, 8, 8, 1, 1
	c, err := NewContext(base, cp)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if err := c.SetLoRA(AppliedLoRA{l, 1}); err != nil {
		return err.Error()
	}
	b, _ := NewBatch(2, 1)
	defer b.Close()
	_ = b.Add(1, 0, true, 0)
	if err := c.Decode(context.Background(), b); err != nil {
		return err.Error()
	}
	return "fine"
}

// TestDamagedFiles damages real files in many places. Loading them must never end the process.
func TestDamagedFiles(t *testing.T) {
	t.Run("model", func(t *testing.T) { testDamaged(t, modelFile(t, chatModel)) })
	t.Run("reranker", func(t *testing.T) { testDamaged(t, modelFile(t, rerankModel)) })
	t.Run("adapter", func(t *testing.T) { testDamaged(t, modelFile(t, loraFile), modelFile(t, chatModel)) })
}

func testDamaged(t *testing.T, source string, base ...string) {
	g, err := ReadGGUFFile(source)
	must(t, err)
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	must(t, copyFile(path, source))

	total := 200 // QUIPU_TEST_DAMAGE asks for more, after a change of release or of the checks
	if n, err := strconv.Atoi(os.Getenv("QUIPU_TEST_DAMAGE")); err == nil {
		total = n
	}
	outcomes := map[string]int{}
	for next := 0; next < total; {
		cmd := exec.Command(os.Args[0], "load-child", path, fmt.Sprint(g.Data), fmt.Sprint(next), fmt.Sprint(total))
		cmd.Args = append(cmd.Args, base...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		tried := ""
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			number, text, _ := strings.Cut(rest, " ")
			switch word {
			case "try":
				tried = text
				next, _ = strconv.Atoi(number)
			case "done":
				tried = ""
				next++
				outcomes[outcome(text)]++
			case "error":
				t.Error(rest)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("mutation %d (%s) ended the process: %v\n%s", next, tried, err, head(stderr.String(), 12))
			next++
			must(t, copyFile(path, source)) // it was not undone
		}
	}
	t.Log(outcomes)
}

// outcome groups messages by their sentinel.
func outcome(text string) string {
	for _, kind := range []error{ErrNotGGUF, ErrTruncated, ErrCorrupt, ErrMissingTensor, ErrUnsupportedArch, ErrInvalid} {
		if strings.Contains(text, kind.Error()) {
			return kind.Error()
		}
	}
	return text
}

func head(text string, lines int) string {
	parts := strings.SplitN(text, "\n", lines+1)
	return strings.Join(parts[:min(lines, len(parts))], "\n")
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
