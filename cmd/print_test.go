package cmd

import (
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/answer"
)

func TestPrintSources(t *testing.T) {
	var out strings.Builder
	printSources(&out, &answer.Answer{Answer: "The documents don't say.", Abstained: true})
	if out.Len() != 0 {
		t.Errorf("an abstention has the sources %q", out.String())
	}
	printSources(&out, &answer.Answer{
		Citations: []answer.Citation{
			{File: "warranty.md", Heading: []string{"Warranty", "Battery"}, Quote: "Two years,\n  or 700 charges."},
			{File: "no\ntes.txt", Quote: "\x1b[31mRed.\x1b[0m"},
		},
		Unsupported: []answer.Span{{Text: "It is\nblue."}},
	})
	want := strings.ReplaceAll(`
  [1] warranty.md › Warranty › Battery
      “Two years, or 700 charges.”
  [2] no tes.txt
      “\ufffd[31mRed.\ufffd[0m”
  [!] no document supports: It is blue.
`, `\ufffd`, "\ufffd")
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", out.String(), want)
	}
}

func TestVisible(t *testing.T) {
	const r = "\ufffd"
	for in, want := range map[string]string{"a\n\tb — é 🌻": "a\n\tb — é 🌻", "\x1b]0;x\a": r + "]0;x" + r, "\x00\r\x7f\u009b1A": r + r + r + r + "1A", "a\xffb": "a" + r + "b"} {
		if got := visible(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
