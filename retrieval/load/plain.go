package load

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/quipu-ai/quipu/retrieval"
)

// plain keeps the text letter by letter and finds its structure: paragraphs between blank lines, list items, and headings
// that are underlined, in capitals or marked with #.
func (l *Loader) plain(content string) (retrieval.Text, error) {
	s := &plainScanner{text: content, open: -1}
	for pos := 0; pos < len(content); {
		end := strings.IndexByte(content[pos:], '\n')
		if end < 0 {
			end = len(content)
		} else {
			end += pos
		}
		s.line(pos, end)
		pos = end + 1
	}
	s.flush()
	s.name()
	title := ""
	if len(s.blocks) > 0 {
		title = s.blocks[0].Heading
	}
	return retrieval.Text{Title: title, Text: content, Blocks: s.blocks}, nil
}

type plainScanner struct {
	text      string
	blocks    []retrieval.Block
	open, end int // of the open block; open is -1 between blocks
	lines     int // of the open block
	kind      retrieval.BlockKind
}

var (
	itemMark  = regexp.MustCompile(`^([-*+•‣◦–]|[0-9]{1,3}[.)])[ \t]`)
	underline = regexp.MustCompile(`^(={3,}|-{3,}|~{3,})$`)
	hashes    = regexp.MustCompile(`^(#{1,6}) +(.*?)[ #]*$`)
)

func (s *plainScanner) line(start, end int) {
	start, end = trim(s.text, start, end)
	line := s.text[start:end]
	switch {
	case line == "":
		s.flush()
	case underline.MatchString(line):
		if s.open >= 0 && s.lines == 1 && s.kind == retrieval.Paragraph && end-start >= (s.end-s.open)/2 {
			level := 3
			if line[0] == '=' {
				level = 2
			}
			s.heading(level, s.open, s.end, s.text[s.open:s.end])
			return
		}
		s.flush()
	case hashes.MatchString(line):
		s.flush()
		m := hashes.FindStringSubmatch(line)
		if m[2] != "" {
			s.heading(len(m[1]), start, end, m[2])
		}
	case itemMark.MatchString(line):
		s.flush()
		s.begin(retrieval.Item, start, end)
	case s.open < 0:
		s.begin(retrieval.Paragraph, start, end)
	default:
		s.end = end
		s.lines++
	}
}

func (s *plainScanner) begin(kind retrieval.BlockKind, start, end int) {
	s.kind, s.open, s.end, s.lines = kind, start, end, 1
}

func (s *plainScanner) flush() {
	if s.open < 0 {
		return
	}
	text := s.text[s.open:s.end]
	if s.kind == retrieval.Paragraph && s.lines == 1 && isShout(text) {
		s.heading(2, s.open, s.end, text)
		return
	}
	s.blocks = append(s.blocks, retrieval.Block{Kind: s.kind, Start: s.open, End: s.end})
	s.open = -1
}

func (s *plainScanner) heading(level, start, end int, text string) {
	s.blocks = append(s.blocks, retrieval.Block{Kind: retrieval.Heading, Level: level, Heading: text, Start: start, End: end})
	s.open = -1
}

// name makes a title of a short first line that stands alone.
func (s *plainScanner) name() {
	if len(s.blocks) < 2 || s.blocks[0].Kind == retrieval.Item {
		return
	}
	b := &s.blocks[0]
	text := s.text[b.Start:b.End]
	if b.Kind == retrieval.Paragraph && len(text) <= 100 && !strings.ContainsAny(text[len(text)-1:], ".!?:;,") &&
		!strings.Contains(text, "\n") {
		*b = retrieval.Block{Kind: retrieval.Heading, Level: 1, Heading: text, Start: b.Start, End: b.End}
	}
}

// isShout reports a short line in capitals: a heading of plain text.
func isShout(line string) bool {
	letters := 0
	for _, r := range line {
		if unicode.IsLower(r) {
			return false
		}
		if unicode.IsUpper(r) {
			letters++
		}
	}
	return letters >= 4 && len(line) <= 80 && !strings.ContainsAny(line[len(line)-1:], ".!?;,")
}

// trim narrows text[start:end] to what is not white space.
func trim(text string, start, end int) (int, int) {
	body := strings.TrimLeftFunc(text[start:end], unicode.IsSpace)
	start = end - len(body)
	return start, start + len(strings.TrimRightFunc(body, unicode.IsSpace))
}
