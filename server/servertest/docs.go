package servertest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Row is one row of a table in the documentation, cell by cell.
type Row []string

var code = regexp.MustCompile("`([^`]+)`")

// Words are the words of a cell that are set as code.
func (r Row) Words(cell int) []string {
	var words []string
	for _, m := range code.FindAllStringSubmatch(r[cell], -1) {
		words = append(words, m[1])
	}
	return words
}

// Documented gives the rows of the first table under a heading of docs/api.md, so that tests can hold the page to the
// code. Root leads from the test's folder to the repository's.
func Documented(t testing.TB, root, heading string) []Row {
	t.Helper()
	page, err := os.ReadFile(root + "/docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, under, found := strings.Cut("\n"+string(page), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/api.md has no heading %q", heading)
	}
	var rows []Row
	for line := range strings.Lines(under) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if rows != nil || strings.HasPrefix(line, "#") {
				break
			}
			continue
		}
		var row Row
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	if len(rows) < 3 {
		t.Fatalf("docs/api.md has no table under %q", heading)
	}
	return rows[2:] // without the head
}
