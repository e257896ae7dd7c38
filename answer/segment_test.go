package answer

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestSentences(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"two", "We ship daily. Orders leave at noon.", []string{"We ship daily.", "Orders leave at noon."}},
		{"abbreviations", "Ask Dr. Meier, e.g. by phone. The fee is approx. 4 EUR.", []string{"Ask Dr. Meier, e.g. by phone.", "The fee is approx. 4 EUR."}},
		{"initials", "It was J. R. Smith. He left.", []string{"It was J. R. Smith.", "He left."}},
		{"numbers", "It weighs 2.4 kg. Version 1.2.3 is out.", []string{"It weighs 2.4 kg.", "Version 1.2.3 is out."}},
		{"times", "Open until 5 p.m. on Friday. Closed else.", []string{"Open until 5 p.m. on Friday.", "Closed else."}},
		{"quotes", `He said "Stop!" Then he left. (It was late.) Good.`, []string{`He said "Stop!"`, "Then he left.", "(It was late.)", "Good."}},
		{"ellipsis", "Wait… Done?! Yes.", []string{"Wait…", "Done?!", "Yes."}},
		{"wide marks", "これは本です。次です。", []string{"これは本です。", "次です。"}},
		{"numbered item", "1. Open the app. Tap Add.", []string{"1. Open the app.", "Tap Add."}},
		{"no end", "free returns", []string{"free returns"}},
		{"nothing", "  \n ", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, s := range sentences(c.text) {
				got = append(got, c.text[s[0]:s[1]])
			}
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("sentences(%q)\n got %q\nwant %q", c.text, got, c.want)
			}
		})
	}
}

// TestSegmentGolden shows every unit of a document with all kinds of structure.
func TestSegmentGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/structure.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	var b strings.Builder
	for _, u := range segment(text, "") {
		b.WriteString([]string{"prose", "item", "row", "heading", "header"}[u.kind] + "\n  raw   " + strings.ReplaceAll(text[u.start:u.end], "\n", "⏎"))
		b.WriteString("\n  plain " + u.plain(text))
		if u.lead != "" {
			b.WriteString("\n  lead  " + u.lead)
		}
		b.WriteString("\n")
	}
	golden(t, "structure.golden", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and look at the difference\n%s", name, got)
	}
}

// FuzzSegment: units are in order, don't overlap, are trimmed, whole characters, and nothing but white space and drawing
// is lost.
func FuzzSegment(f *testing.F) {
	for _, s := range []string{"A. B.\n- c\n  d\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "# H\ntext: \n1. x\n2) y", "```\ncode # x\n```\n", "é。ü\u2028x…", "a\tb\n1\t2", "\xff.\xfe A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		kept := 0
		for _, u := range segment(text, "") {
			if u.start < last || u.end <= u.start || u.end > len(text) {
				t.Fatalf("unit [%d:%d] after %d in %d bytes", u.start, u.end, last, len(text))
			}
			raw := text[u.start:u.end]
			if strings.TrimSpace(raw) != raw {
				t.Fatalf("unit %q isn't trimmed", raw)
			}
			if utf8.ValidString(text) && !utf8.ValidString(raw) {
				t.Fatalf("unit %q cuts a character", raw)
			}
			_ = u.plain(text)
			kept += letters(raw)
			last = u.end
		}
		if want := letters(text); kept > want || kept < want && !strings.Contains(text, "```") && !strings.Contains(text, "~~~") {
			t.Fatalf("%d of %d letters in units", kept, want)
		}
	})
}

func letters(s string) int {
	n := 0
	for _, w := range words(s) {
		n += w.end - w.start
	}
	return n
}

func TestRowText(t *testing.T) {
	for _, c := range []struct{ row, header, want string }{
		{"| Range | 75 km | 130 km |", "| | City | Tour |", "Range; City: 75 km; Tour: 130 km"},
		{"| Basic | $9 |", "| Plan | Price |", "Plan: Basic; Price: $9"},
		{"| Basic | | $9 |", "| Plan | Extra | Price |", "Plan: Basic; Price: $9"},
		{"26.5 cm\t42", "Size\tEU", "Size: 26.5 cm; EU: 42"},
		{"| Basic | $9 |", "", "Basic; $9"},
	} {
		if got := rowText(c.row, c.header); got != c.want {
			t.Errorf("row %q under %q reads %q, want %q", c.row, c.header, got, c.want)
		}
	}
}
