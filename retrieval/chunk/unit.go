package chunk

import (
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/sentences"

	"github.com/quipu-ai/quipu/retrieval"
)

// unit is a span of the text that passages are put together from: a block, or a piece of one that is too long.
type unit struct {
	section    *section
	kind       retrieval.BlockKind
	grain      grain
	start, end int
	size       int // tokens
	limit      int // of size; a larger unit is cut
	keep       bool
	lead       lead
}

// grain says what a unit is a piece of its block by.
type grain uint8

const (
	byBlock grain = iota
	byPart        // sentences, or lines of code
	byLength
)

// lead is the header of the table that a row stands in.
type lead struct {
	text  string
	start int
	size  int
}

// units measures prefixes and blocks in one batch, cuts what is too long, and hands the units to their sections.
func (s *splitter) units(all []*section) error {
	texts := []string{""}
	for _, sec := range all {
		texts = append(texts, s.prefix(sec))
		for _, b := range sec.blocks {
			texts = append(texts, s.text.Text[b.Start:b.End])
		}
	}
	sizes, err := s.sizes(texts)
	if err != nil {
		return err
	}
	s.special, sizes = sizes[0], sizes[1:]
	var units []unit
	for _, sec := range all {
		if sec.cost = sizes[0] - s.special; sec.cost > s.config.Max/2 {
			sec.cost, sec.bare = 0, true
		}
		sizes = sizes[1:]
		var above lead
		for i, b := range sec.blocks {
			u := unit{section: sec, kind: b.Kind, start: b.Start, end: b.End, size: sizes[i] - s.special}
			switch b.Kind {
			case retrieval.Header:
				above = lead{s.text.Text[b.Start:b.End], b.Start, u.size}
				if above.size > s.config.Max/4 {
					above = lead{}
				}
			case retrieval.Row:
				u.lead = above
			default:
				above = lead{}
			}
			u.keep = b.Kind == retrieval.Heading || b.Kind == retrieval.Header || b.Kind == retrieval.Paragraph && s.text.Text[b.End-1] == ':'
			u.limit = s.hard(sec) - u.lead.size
			if b.Kind == retrieval.Paragraph || b.Kind == retrieval.Item {
				u.limit = s.soft(sec)
			}
			units = append(units, u)
		}
		sizes = sizes[len(sec.blocks):]
	}
	if units, err = s.cutLong(units); err != nil {
		return err
	}
	for _, u := range units {
		u.section.units = append(u.section.units, u)
		u.section.size += u.size
	}
	return nil
}

// prefix is what is embedded of a section's path.
func (s *splitter) prefix(sec *section) string {
	if sec.bare {
		return ""
	}
	return prefixOf(s.text.Title, sec.path, s.config.Max)
}

// hard is the room that a section's prefix leaves for text, at least a quarter of Max less what the model adds.
func (s *splitter) hard(sec *section) int {
	return max(s.config.Max-s.special-sec.cost, s.config.Max/4)
}

// soft is the room that passages aim to fill.
func (s *splitter) soft(sec *section) int {
	return min(max(s.config.Target-s.special-sec.cost, s.config.Target/4), s.hard(sec))
}

// cutLong cuts units over their limit, finer each time, and measures the pieces of each round in one batch.
func (s *splitter) cutLong(units []unit) ([]unit, error) {
	for {
		var out []unit
		var fresh []int
		var texts []string
		for _, u := range units {
			if u.size <= u.limit || utf8.RuneCountInString(s.text.Text[u.start:u.end]) == 1 {
				out = append(out, u)
				continue
			}
			for _, piece := range s.cut(u) {
				fresh = append(fresh, len(out))
				texts = append(texts, s.text.Text[piece.start:piece.end])
				out = append(out, piece)
			}
		}
		if len(fresh) == 0 {
			return out, nil
		}
		sizes, err := s.sizes(texts)
		if err != nil {
			return nil, err
		}
		for i, at := range fresh {
			out[at].size = sizes[i] - s.special
		}
		units = out
	}
}

// cut cuts one unit into pieces of the next grain. The pieces hold all of it but white space.
func (s *splitter) cut(u unit) []unit {
	text := s.text.Text[u.start:u.end]
	var ends []int
	if u.grain == byBlock {
		switch u.kind {
		case retrieval.Code:
			ends = lineEnds(text)
		case retrieval.Paragraph, retrieval.Item:
			ends = sentenceEnds(text)
		}
	}
	next := byPart
	if len(ends) < 2 {
		next = byLength
		ends = windowEnds(text, max(1, len(text)*u.limit/u.size*3/4))
	}
	keep := u.keep
	u.grain, u.limit = next, max(1, s.hard(u.section)-u.lead.size)
	var out []unit
	from := u.start
	for _, end := range ends {
		piece := u
		piece.start, piece.end = trim(s.text.Text, from, u.start+end)
		piece.keep = keep && end == len(text)
		from = u.start + end
		if piece.start < piece.end {
			out = append(out, piece)
		}
	}
	return out
}

func lineEnds(text string) []int {
	var ends []int
	at := 0
	for line := range strings.Lines(text) {
		at += len(line)
		ends = append(ends, at)
	}
	return ends
}

// sentenceEnds finds where sentences end by Unicode's rules (UAX 29), except that a line's end is not a sentence's.
func sentenceEnds(text string) []int {
	var ends []int
	for it := sentences.FromString(strings.ReplaceAll(text, "\n", " ")); it.Next(); {
		ends = append(ends, it.End())
	}
	return ends
}

// windowEnds cuts every step bytes or a little before, at white space if there is some, else between characters.
func windowEnds(text string, step int) []int {
	var ends []int
	for at := 0; at < len(text); {
		if len(text)-at <= step {
			at = len(text)
		} else {
			at += wordStart(text[at:], step)
		}
		ends = append(ends, at)
	}
	return ends
}
