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
			{File: "notes.txt", Quote: "Red."},
		},
		Unsupported: []answer.Span{{Text: "It is\nblue."}},
	})
	want := `
  [1] warranty.md › Warranty › Battery
      “Two years, or 700 charges.”
  [2] notes.txt
      “Red.”
  [!] no document supports: It is blue.
`
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", out.String(), want)
	}
}
