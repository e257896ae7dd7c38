package cmd

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/quipu-ai/quipu/answer"
)

// printSources lists under an answer what it rests on, one line a citation and one a sentence that nothing supports.
func printSources(w io.Writer, a *answer.Answer) {
	if len(a.Citations) == 0 && len(a.Unsupported) == 0 {
		return
	}
	fmt.Fprintln(w)
	for i, c := range a.Citations {
		fmt.Fprintf(w, "  [%d] %s\n      “%s”\n", i+1, place(c.File, c.Heading), oneLine(c.Quote))
	}
	for _, s := range a.Unsupported {
		fmt.Fprintf(w, "  [!] no document supports: %s\n", oneLine(s.Text))
	}
}

// visible keeps what a terminal would take for a command, and documents and file names may hold, from reaching it.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// oneLine folds white space, so that a quote of several lines stays one line of the terminal.
func oneLine(s string) string { return visible(strings.Join(strings.Fields(s), " ")) }

// place is where in the documents something stands: file and path of headings.
func place(file string, headings []string) string {
	return oneLine(strings.Join(append([]string{file}, headings...), " › "))
}
