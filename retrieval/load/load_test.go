package load

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"

	"github.com/quipu-ai/quipu/retrieval"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// dump shows a text with its blocks.
func dump(text retrieval.Text) string {
	var b strings.Builder
	fmt.Fprintf(&b, "title: %q\nmedia type: %s\n", text.Title, text.MediaType)
	for _, block := range text.Blocks {
		fmt.Fprintf(&b, "%-9s %4d %4d ", block.Kind, block.Start, block.End)
		if block.Kind == retrieval.Heading {
			fmt.Fprintf(&b, "h%d %q ", block.Level, block.Heading)
		}
		fmt.Fprintf(&b, "%q\n", text.Text[block.Start:block.End])
	}
	return b.String() + "-----\n" + text.Text + "\n"
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	l := New(Default())
	for _, input := range inputs {
		if strings.HasSuffix(input, ".golden") {
			continue
		}
		t.Run(filepath.Base(input), func(t *testing.T) {
			content, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			text, err := l.Load(filepath.Base(input), content)
			if err != nil {
				t.Fatal(err)
			}
			check(t, text)
			golden := input + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(dump(text)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(text); got != string(want) {
				t.Errorf("differs from %s (-update rewrites it):\n%s", golden, got)
			}
		})
	}
}

// check holds a text against what retrieval.Text promises.
func check(t *testing.T, text retrieval.Text) {
	t.Helper()
	if !utf8.ValidString(text.Text) || !utf8.ValidString(text.Title) {
		t.Fatalf("not UTF-8: %q", text.Text)
	}
	if strings.ContainsAny(text.Text, "\r\x00") {
		t.Fatalf("line ends or NULs: %q", text.Text)
	}
	end := 0
	for _, b := range text.Blocks {
		if b.Start < end || b.End <= b.Start || b.End > len(text.Text) {
			t.Fatalf("block %+v after %d in %d bytes", b, end, len(text.Text))
		}
		if gap := text.Text[end:b.Start]; strings.Trim(gap, " \t\n\v\f\u0085\u00a0\u2028\u2029\u3000=-~#") != strings.TrimSpace(strings.Trim(gap, " \t\n=-~#")) {
			t.Fatalf("%q is in no block", gap)
		}
		if s := text.Text[b.Start:b.End]; strings.TrimSpace(s) != s {
			t.Fatalf("block with blank ends: %q", s)
		}
		if (b.Kind == retrieval.Heading) != (b.Heading != "") {
			t.Fatalf("block %+v", b)
		}
		end = b.End
	}
}

func TestErrors(t *testing.T) {
	small := New(Config{MaxBytes: 100, MaxCharacters: 10, MaxDepth: 5})
	png := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"
	for _, c := range []struct {
		name, file, content, code string
	}{
		{"no bytes", "a.md", "", retrieval.CodeEmpty},
		{"no text", "a.md", " \n\n---\n<!-- nothing -->", retrieval.CodeEmpty},
		{"no words on the page", "a.html", "<html><script>x()</script><body> </body>", retrieval.CodeEmpty},
		{"blank", "a.txt", " \n\t\f\n", retrieval.CodeEmpty},
		{"image", "a.png", png, retrieval.CodeUnsupported},
		{"image named text", "a.txt", png, retrieval.CodeInvalid},
		{"binary", "a.bin", "\x00\x01\x02\x03\x04\xff\xfe\xfd", retrieval.CodeUnsupported},
		{"binary named Markdown", "a.md", "\x00\x01\x02\x03\x04\xff\xfe\xfd", retrieval.CodeInvalid},
		{"control characters", "a.txt", strings.Repeat("a\x01\x02", 30), retrieval.CodeInvalid},
		{"PDF of letters", "a.pdf", "%PDF-1.4 hello", retrieval.CodeUnsupported},
		{"RTF", "a.rtf", `{\rtf1 hello}`, retrieval.CodeUnsupported},
		{"zip", "a.zip", "PK\x03\x04\x14\x00\x00\x00", retrieval.CodeUnsupported},
		{"long text", "a.txt", "more than ten", retrieval.CodeTooLarge},
		{"deep quotes", "a.md", strings.Repeat(">", 6) + " x", retrieval.CodeInvalid},
		{"deep lists on one line", "a.md", strings.Repeat("- ", 6) + "x", retrieval.CodeInvalid},
		{"deep lists on many lines", "a.md", "- a\n  - b\n    - c\n      - d\n        - e\n          - f\n", retrieval.CodeInvalid},
		{"deep elements", "a.html", strings.Repeat("<div>", 600) + "x", retrieval.CodeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := small.Load(c.file, []byte(c.content))
			var d *retrieval.DocumentError
			if !errors.As(err, &d) || d.Code != c.code || d.Reason == "" {
				t.Errorf("%v (%+v), want code %s", err, d, c.code)
			}
		})
	}
	if _, err := small.Read(strings.NewReader(strings.Repeat("x", 101))); codeOf(err) != retrieval.CodeTooLarge {
		t.Errorf("101 of 100 bytes: %v", err)
	}
	if _, err := small.Read(broken{}); codeOf(err) != retrieval.CodeUnreadable {
		t.Errorf("broken file: %v", err)
	}
	if content, err := small.Read(strings.NewReader(strings.Repeat("x", 100))); err != nil || len(content) != 100 {
		t.Errorf("100 of 100 bytes: %d, %v", len(content), err)
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no limits are valid")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

func TestCharsets(t *testing.T) {
	const german = "Größe und Gewicht: Die Kettenschaltung läßt sich mühelos öffnen. Für Ärger sorgt höchstens die Übersetzung.\n"
	const russian = "Гарантия действует два года со дня покупки. Сохраните чек, он понадобится при обращении в сервис.\n"
	const japan = "保証期間は購入日から二年間です。領収書を保管してください。サービスセンターにお持ちください。\n"
	for _, c := range []struct {
		name     string
		encoding encoding.Encoding
		text     string
	}{
		{"windows-1252", charmap.Windows1252, german},
		{"windows-1251", charmap.Windows1251, russian},
		{"koi8-r", charmap.KOI8R, russian},
		{"shift_jis", japanese.ShiftJIS, japan},
		{"euc-jp", japanese.EUCJP, japan},
		{"iso-2022-jp", japanese.ISO2022JP, japan},
		{"utf-8 with mark", unicode.UTF8BOM, german},
		{"utf-16le with mark", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), russian},
		{"utf-16be with mark", unicode.UTF16(unicode.BigEndian, unicode.UseBOM), japan},
		{"utf-16le", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), german},
		{"utf-16be", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), german},
		{"utf-32le with mark", utf32.UTF32(utf32.LittleEndian, utf32.UseBOM), japan},
	} {
		t.Run(c.name, func(t *testing.T) {
			content, err := c.encoding.NewEncoder().String(c.text)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"a.txt", "a.md"} {
				text, err := New(Default()).Load(file, []byte(content))
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				if strings.TrimSpace(text.Text) != strings.TrimSpace(c.text) {
					t.Errorf("%s: got %q", file, text.Text)
				}
			}
		})
	}
	declared, _ := charmap.ISO8859_2.NewEncoder().String("<html><head><meta charset=iso-8859-2></head><body><p>Zażółć gęślą jaźń.</p>")
	text, err := New(Default()).Load("a.html", []byte(declared))
	if err != nil || text.Text != "Zażółć gęślą jaźń." {
		t.Errorf("charset of a meta element: %q, %v", text.Text, err)
	}
	text, err = New(Default()).Load("a.txt", []byte("Größe ähnlich übrig öde \xff Maß.\r\nzweite\rdritte"))
	if want := "Größe ähnlich übrig öde \uFFFD Maß.\nzweite\ndritte"; err != nil || text.Text != want {
		t.Errorf("UTF-8 with a bad byte: %q, %v", text.Text, err)
	}
}

func TestMediaTypes(t *testing.T) {
	for _, c := range []struct{ file, content, mediaType string }{
		{"readme.md", "<h1 align=center>Lumen</h1>\n\nText.", "text/markdown"},
		{"README", "Just text.", "text/plain"},
		{"page", "<!doctype html><p>Text.</p>", "text/html"},
		{"data.json", `{"a": 1}`, "application/json"},
		{"run.py", "#!/usr/bin/python3\nprint(1)\n", "text/x-python"},
		{"note.txt", "%PDF is how such a file begins? No: MZ.", "application/pdf"},
		{"bitmap", "BM is how a bitmap begins, but this is a sentence.", "text/plain"},
	} {
		text, err := New(Default()).Load(c.file, []byte(c.content))
		if c.mediaType == "application/pdf" {
			continue
		}
		if err != nil || text.MediaType != c.mediaType {
			t.Errorf("%s: %q, %v, want %q", c.file, text.MediaType, err, c.mediaType)
		}
	}
}

func TestPlainStaysAsItIs(t *testing.T) {
	const content = "  Lumen Bikes\n\n\tFirst  line,\n  second.\f\n* item\n"
	text, err := New(Default()).Load("a.txt", []byte(content))
	if err != nil || text.Text != content || text.Title != "Lumen Bikes" {
		t.Errorf("%q, %q, %v", text.Title, text.Text, err)
	}
}

func FuzzLoad(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/*.*")
	for _, input := range inputs {
		content, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range byte(4) {
			f.Add(kind, content)
		}
	}
	l := New(Config{MaxBytes: 1 << 20, MaxCharacters: 1 << 20, MaxDepth: 100})
	f.Fuzz(func(t *testing.T, kind byte, content []byte) {
		text, err := l.Load([]string{"a.md", "a.html", "a.txt", "a"}[kind%4], content)
		if err != nil {
			var d *retrieval.DocumentError
			if !errors.As(err, &d) || d.Code == "" {
				t.Fatalf("not typed: %v", err)
			}
			return
		}
		if len(text.Blocks) == 0 || text.MediaType == "" {
			t.Fatalf("no blocks: %+v", text)
		}
		check(t, text)
	})
}

// Hostile patterns must cost about as much as their bytes, not their square.
func TestHostilePatterns(t *testing.T) {
	l := New(Default())
	for name, unit := range map[string]string{
		"brackets": "[", "emphasis": "*a_", "links": "[a](", "code": "`a``", "images": "![", "entities": "&amp", "autolinks": "<a",
		"quotes on lines": ">\n", "lists": "- \n", "tables": "|a", "html": "<b>", "footnotes": "[^1]", "escapes": `\`, "tildes": "~~a",
		"references": "[a]: b\n", "underscores": "_", "spaces": "a  ", "html blocks": "<div>\n\n", "hash": "#\n",
	} {
		for _, file := range []string{"a.md", "a.html", "a.txt"} {
			t.Run(name+" "+file, func(t *testing.T) {
				text, err := l.Load(file, []byte(strings.Repeat(unit, 100_000/len(unit))))
				if err == nil {
					check(t, text)
				}
			})
		}
	}
}

// codeOf is the code of a DocumentError, or nothing.
func codeOf(err error) string {
	var d *retrieval.DocumentError
	if !errors.As(err, &d) {
		return ""
	}
	return d.Code
}
