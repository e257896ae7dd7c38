package chunk

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/load"
	"github.com/quipu-ai/quipu/retrieval/retrievaltest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// bytesCounter is the most unlike: every byte is a token, as in byte-level models at their worst.
type bytesCounter struct{}

func (bytesCounter) CountTokens(texts []string) ([]int, error) {
	out := make([]int, len(texts))
	for i, t := range texts {
		out[i] = len(t) + 1
	}
	return out, nil
}

// greedyCounter counts less for a whole than for its parts and, at word borders, more.
type greedyCounter struct{}

func (greedyCounter) CountTokens(texts []string) ([]int, error) {
	out := make([]int, len(texts))
	for i, t := range texts {
		out[i] = 3*strings.Count(t, " ") + len(t)/10 + 2*strings.Count(t, "\n")
	}
	return out, nil
}

// check holds pieces against what Split promises.
func check(t *testing.T, text retrieval.Text, pieces []Piece, counter Counter, c Config) {
	t.Helper()
	covered := make([]bool, len(text.Text))
	start, end := -1, 0
	for i, piece := range pieces {
		p := piece.Passage
		if p.Start < 0 || p.End > len(text.Text) || p.Start >= p.End || p.Text != text.Text[p.Start:p.End] {
			t.Fatalf("passage %d: [%d:%d] of %d bytes is not %q", i, p.Start, p.End, len(text.Text), p.Text)
		}
		if p.End <= end || c.Overlap == 0 && p.Start < end {
			t.Fatalf("passage %d: [%d:%d] after [%d:%d]", i, p.Start, p.End, start, end)
		}
		start, end = p.Start, p.End
		if !utf8.ValidString(p.Text) && utf8.ValidString(text.Text) || strings.TrimSpace(p.Text) != p.Text {
			t.Fatalf("passage %d: %q", i, p.Text)
		}
		n, _ := counter.CountTokens([]string{piece.Input})
		if n[0] > c.Max || n[0] != p.Tokens {
			t.Fatalf("passage %d: %d tokens, said %d, of %d: %q", i, n[0], p.Tokens, c.Max, piece.Input)
		}
		if p.Ordinal != i || p.Title != text.Title {
			t.Fatalf("passage %d: %+v", i, p)
		}
		for j := p.Start; j < p.End; j++ {
			covered[j] = true
		}
	}
	for _, b := range text.Blocks {
		for j := b.Start; j < b.End; j++ {
			if !covered[j] && strings.TrimSpace(text.Text[j:j+1]) != "" && text.Text[j] < utf8.RuneSelf {
				t.Fatalf("byte %d %q of %q is in no passage", j, text.Text[j], text.Text[b.Start:b.End])
			}
		}
	}
}

func split(t *testing.T, file, content string, counter Counter, c Config) (retrieval.Text, []Piece) {
	t.Helper()
	text, err := load.New(load.Default()).Load(file, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := Split(text, counter, c)
	if err != nil {
		t.Fatal(err)
	}
	check(t, text, pieces, counter, c)
	return text, pieces
}

func dump(pieces []Piece) string {
	var b strings.Builder
	for _, p := range pieces {
		fmt.Fprintf(&b, "== %d [%d:%d] %d tokens, under %q, lead %q\n%s\n-- embedded\n%s\n", p.Passage.Ordinal, p.Passage.Start, p.Passage.End,
			p.Passage.Tokens, p.Passage.Headings, p.Passage.Lead, p.Passage.Text, p.Input)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, input := range inputs {
		for name, c := range map[string]Config{"default": Default(), "tight": {Target: 48, Max: 64, Overlap: 12, Small: 16}} {
			t.Run(filepath.Base(input)+" "+name, func(t *testing.T) {
				content, err := os.ReadFile(input)
				if err != nil {
					t.Fatal(err)
				}
				_, pieces := split(t, input, string(content), retrievaltest.Hashing{}, c)
				golden := fmt.Sprintf("%s.%s.golden", input, name)
				if *update {
					if err := os.WriteFile(golden, []byte(dump(pieces)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if got := dump(pieces); got != string(want) {
					t.Errorf("differs from %s (-update rewrites it):\n%s", golden, got)
				}
			})
		}
	}
}

func TestTableRowsStayWhole(t *testing.T) {
	var table strings.Builder
	table.WriteString("# Prices\n\n| Article | Price |\n|---|---|\n")
	for i := range 100 {
		fmt.Fprintf(&table, "| Bicycle number %d of the catalogue | %d.00 |\n", i, i)
	}
	_, pieces := split(t, "a.md", table.String(), retrievaltest.Hashing{}, Default())
	if len(pieces) < 5 {
		t.Fatalf("%d passages", len(pieces))
	}
	for i, p := range pieces {
		if !strings.HasPrefix(p.Passage.Text, "| ") && i > 0 || !strings.HasSuffix(p.Passage.Text, ".00 |") {
			t.Errorf("passage %d cuts a row: %q", i, p.Passage.Text)
		}
		if lead := i > 0; lead != (p.Passage.Lead == "| Article | Price |") || !strings.Contains(p.Input, "| Article | Price |") {
			t.Errorf("passage %d has the lead %q: %q", i, p.Passage.Lead, p.Input)
		}
	}
}

func TestCodeStaysWhole(t *testing.T) {
	code := "```\n" + strings.Repeat("a = b\n", 50) + "```"
	_, pieces := split(t, "a.md", strings.Repeat("Some words before it. ", 20)+"\n\n"+code+"\n\n"+strings.Repeat("And after it. ", 30), retrievaltest.Hashing{}, Default())
	for _, p := range pieces {
		if strings.Contains(p.Passage.Text, code) {
			return
		}
	}
	t.Errorf("the block is cut:\n%s", dump(pieces))
}

func TestLongRuns(t *testing.T) {
	for name, run := range map[string]string{
		"letters": strings.Repeat("a", 100_000), "signs": strings.Repeat("語", 30_000), "one line": strings.Repeat("word ", 20_000),
		"emoji": strings.Repeat("👩‍🚀", 5_000), "no spaces": strings.Repeat("a,b", 20_000),
	} {
		for _, file := range []string{"a.txt", "a.md"} {
			for _, form := range []string{"%s", "- %s", "# %s\n\nbody", "| a | b |\n|---|---|\n| %s | d |", "```\n%s\n```", "# Head\n\n%s"} {
				_, pieces := split(t, file, fmt.Sprintf(form, run), retrievaltest.Hashing{}, Default())
				if len(pieces) < 10 {
					t.Errorf("%s in %s as %q: %d passages", name, file, form, len(pieces))
				}
				split(t, file, fmt.Sprintf(form, run[:3000]), bytesCounter{}, Config{Target: 50, Max: 64, Small: 10, Overlap: 10})
			}
		}
	}
}

// randomDocument writes Markdown of any structure.
func randomDocument(r *rand.Rand) string {
	var b strings.Builder
	sentence := func() {
		for range 3 + r.IntN(20) {
			b.WriteString([]string{"bike ", "warranty ", "a ", "Grösse ", "部品 ", "x", "e.g. ", "12.50 ", "don't ", "(see) "}[r.IntN(10)])
		}
		b.WriteString([]string{". ", "! ", "? ", ".\n", ": "}[r.IntN(5)])
	}
	for range r.IntN(30) {
		switch r.IntN(7) {
		case 0, 1:
			fmt.Fprintf(&b, "\n%s Heading %d\n\n", strings.Repeat("#", 1+r.IntN(4)), r.IntN(9))
		case 2:
			b.WriteString("\n| a | b |\n|---|---|\n")
			for range r.IntN(20) {
				fmt.Fprintf(&b, "| cell %d | %s |\n", r.IntN(1000), strings.Repeat("value ", r.IntN(20)))
			}
		case 3:
			b.WriteString("\n```\n" + strings.Repeat("code(line)\n", r.IntN(80)) + "```\n")
		case 4:
			for range r.IntN(8) {
				b.WriteString("- ")
				sentence()
				b.WriteString("\n")
			}
		default:
			for range r.IntN(20) {
				sentence()
			}
			b.WriteString("\n\n")
		}
	}
	return b.String() + "end"
}

func TestProperties(t *testing.T) {
	l := load.New(load.Default())
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		text, err := l.Load([]string{"a.md", "a.txt"}[seed%2], []byte(randomDocument(r)))
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Max: minMax + r.IntN(300)}
		c.Target = c.Max/4 + r.IntN(c.Max-c.Max/4+1)
		c.Overlap, c.Small = r.IntN(c.Target/2+1)*r.IntN(2), r.IntN(c.Target+1)
		for _, counter := range []Counter{retrievaltest.Hashing{}, bytesCounter{}, greedyCounter{}} {
			pieces, err := Split(text, counter, c)
			if err != nil {
				t.Fatalf("seed %d, %T, %+v: %v", seed, counter, c, err)
			}
			check(t, text, pieces, counter, c)
		}
	}
}

func FuzzSplit(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 6 {
		f.Add(randomDocument(r), "a.md", uint16(40+50*i), uint16(i), uint16(3*i))
	}
	f.Add("A\n=\n\n"+strings.Repeat("x", 2000), "a.txt", uint16(64), uint16(8), uint16(5))
	l := load.New(load.Config{MaxBytes: 1 << 16, MaxCharacters: 1 << 16, MaxDepth: 50})
	f.Fuzz(func(t *testing.T, content, file string, limit, overlap, small uint16) {
		if len(content) > 1<<14 {
			return
		}
		text, err := l.Load(file, []byte(content))
		if err != nil {
			return
		}
		c := Config{Max: minMax + int(limit)%400}
		c.Target = c.Max * 3 / 4
		c.Overlap, c.Small = int(overlap)%(c.Target/2), int(small)%c.Target
		for _, counter := range []Counter{retrievaltest.Hashing{}, bytesCounter{}} {
			pieces, err := Split(text, counter, c)
			if err != nil {
				t.Fatal(err)
			}
			check(t, text, pieces, counter, c)
		}
	})
}

// countingCounter counts calls.
type countingCounter struct {
	retrievaltest.Hashing
	calls, texts int
}

func (c *countingCounter) CountTokens(texts []string) ([]int, error) {
	c.calls++
	c.texts += len(texts)
	return c.Hashing.CountTokens(texts)
}

func TestCountsInBatches(t *testing.T) {
	counter := &countingCounter{}
	_, err := Split(mustLoad(t, strings.Repeat("# A heading\n\n"+strings.Repeat("A sentence of some words. ", 60)+"\n\n", 50)), counter, Default())
	if err != nil {
		t.Fatal(err)
	}
	if counter.calls > 4 {
		t.Errorf("%d calls with %d texts", counter.calls, counter.texts)
	}
}

func mustLoad(t *testing.T, content string) retrieval.Text {
	t.Helper()
	text, err := load.New(load.Default()).Load("a.md", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type failing struct{}

var errCount = errors.New("no tokenizer")

func (failing) CountTokens([]string) ([]int, error) { return nil, errCount }

// endless says that everything is too long.
type endless struct{}

func (endless) CountTokens(texts []string) ([]int, error) {
	out := make([]int, len(texts))
	for i := range out {
		out[i] = 1_000_000
	}
	return out, nil
}

func TestErrors(t *testing.T) {
	text := mustLoad(t, "# A\n\ntext of some words")
	if _, err := Split(text, failing{}, Default()); !errors.Is(err, errCount) {
		t.Errorf("got %v", err)
	}
	if _, err := Split(text, endless{}, Default()); err == nil {
		t.Error("a passage of a million tokens is fine")
	}
	if _, err := Clip("text", failing{}, 5); !errors.Is(err, errCount) {
		t.Errorf("got %v", err)
	}
	for _, c := range []Config{{}, {Target: 200, Max: 100}, {Target: 100, Max: 100, Overlap: 90}, {Target: 5, Max: 100}, {Target: 50, Max: 100, Small: 60}} {
		if _, err := Split(text, retrievaltest.Hashing{}, c); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	if pieces, err := Split(retrieval.Text{}, retrievaltest.Hashing{}, Default()); err != nil || len(pieces) != 0 {
		t.Errorf("no text: %v, %v", pieces, err)
	}
	if err := Default().Within(64).Validate(); err != nil {
		t.Error(err)
	}
}

func TestClip(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("word ", 5000), strings.Repeat("語", 5000)} {
		got, err := Clip(text, bytesCounter{}, 100)
		if err != nil || !strings.HasPrefix(text, got) || len(got) > 99 || !utf8.ValidString(got) || len(text) > 99 && len(got) < 90 {
			t.Errorf("%.20q: %d bytes, %v", text, len(got), err)
		}
	}
}
