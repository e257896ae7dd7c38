package load

import (
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// maxMarks is how many brackets and emphasis marks one paragraph may have. The parser's time grows with their square;
// people's paragraphs have a few dozen.
const maxMarks = 500

// markGuard is an inline parser that runs before all others and takes the marks over the limit as plain characters.
// It serves one document.
type markGuard struct{ seen int }

// Trigger implements parser.InlineParser.
func (*markGuard) Trigger() []byte { return []byte("[]!*_~") }

// Parse implements parser.InlineParser.
func (g *markGuard) Parse(_ ast.Node, block text.Reader, _ parser.Context) ast.Node {
	if g.seen++; g.seen <= maxMarks {
		return nil
	}
	_, at := block.PeekLine()
	block.Advance(1)
	return ast.NewTextSegment(at.WithStop(at.Start + 1))
}

// CloseBlock implements parser.CloseBlocker: the next paragraph counts from 0.
func (g *markGuard) CloseBlock(ast.Node, text.Reader, parser.Context) { g.seen = 0 }

// maxDefinitions is how many link definitions may follow each other without a blank line, for the same reason.
const maxDefinitions = 200

// spaceDefinitions puts a blank line into longer runs, which changes nothing else.
func spaceDefinitions(content string) string {
	if strings.Count(content, "]:") < maxDefinitions {
		return content
	}
	var b strings.Builder
	run := 0
	for line := range strings.Lines(content) {
		b.WriteString(line)
		switch {
		case strings.TrimSpace(line) == "":
			run = 0
		case strings.Contains(line, "]:"):
			if run++; run == maxDefinitions {
				b.WriteByte('\n')
				run = 0
			}
		}
	}
	return b.String()
}
