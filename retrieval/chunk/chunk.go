package chunk

import (
	"fmt"
	"sort"

	"github.com/quipu-ai/quipu/retrieval"
)

// Version changes whenever the same text gives other passages.
const Version = 1

// Counter measures texts in the embedding model's tokens, special tokens included. retrieval.Embedder has it.
type Counter interface {
	CountTokens(texts []string) ([]int, error)
}

// Config says how large passages are, in the embedding model's tokens.
type Config struct {
	Target  int // what a passage aims at
	Max     int // what no passage exceeds
	Overlap int // how much of its predecessor a passage repeats, at most, inside one section; 0 is none
	Small   int // sections of fewer tokens share a passage with their neighbours
}

// Default suits sentence embedding models trained on 256 tokens.
func Default() Config { return Config{Target: 200, Max: 256, Overlap: 0, Small: 32} }

// minMax leaves room for a path of headings and some words.
const minMax = 32

// Validate reports sizes that contradict each other.
func (c Config) Validate() error {
	if c.Max < minMax || c.Target < c.Max/4 || c.Target > c.Max || c.Overlap < 0 || c.Overlap > c.Target/2 || c.Small < 0 || c.Small > c.Target {
		return fmt.Errorf("chunk: want Max ≥ %d, Max/4 ≤ Target ≤ Max, 0 ≤ Overlap ≤ Target/2, 0 ≤ Small ≤ Target, have %+v", minMax, c)
	}
	return nil
}

// Within lowers the sizes to a model's limit.
func (c Config) Within(limit int) Config {
	if limit > 0 && limit < c.Max {
		c.Max = limit
		c.Target = min(c.Target, limit)
		c.Overlap = min(c.Overlap, c.Target/2)
		c.Small = min(c.Small, c.Target)
	}
	return c
}

// Piece is a passage and what is embedded of it. The passage's ids and the names of its document are left to the caller.
type Piece struct {
	Passage retrieval.Passage
	Input   string
}

// Split cuts a text into passages: in order, none longer than c.Max as embedded, together holding all blocks of the text.
func Split(text retrieval.Text, counter Counter, c Config) ([]Piece, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &splitter{text: text, counter: counter, config: c}
	all := sections(text)
	if err := s.units(all); err != nil {
		return nil, err
	}
	var spans []span
	for _, sec := range merge(all, c.Small) {
		spans = append(spans, s.pack(sec)...)
	}
	return s.pieces(spans)
}

// splitter cuts one text.
type splitter struct {
	text    retrieval.Text
	counter Counter
	config  Config
	special int // tokens that the model adds to any input
}

// pieces makes passages of the spans and halves those that are too long after all: tokens of a whole are not always the
// sum of its parts'.
func (s *splitter) pieces(spans []span) ([]Piece, error) {
	if len(spans) == 0 {
		return nil, nil
	}
	out := make([]Piece, len(spans))
	inputs := make([]string, len(spans))
	for i, sp := range spans {
		out[i] = s.piece(sp)
		inputs[i] = out[i].Input
	}
	counts, err := s.counter.CountTokens(inputs)
	if err != nil {
		return nil, err
	}
	var again []span
	long := false
	for i, sp := range spans {
		out[i].Passage.Tokens, out[i].Passage.Ordinal = counts[i], i
		if counts[i] <= s.config.Max {
			again = append(again, sp)
			continue
		}
		halves, err := s.halve(sp)
		if err != nil {
			return nil, err
		}
		for _, h := range halves {
			if n := len(again); n == 0 || h.end > again[n-1].end { // else it only repeats
				again = append(again, h)
			}
		}
		long = true
	}
	if long {
		return s.pieces(again)
	}
	return out, nil
}

func (s *splitter) piece(sp span) Piece {
	text := s.text.Text[sp.start:sp.end]
	input, prefix := text, s.prefix(sp.section)
	if prefix != "" {
		input = withoutHeadings(text, fullPath(s.text.Title, sp.section.path))
	}
	input = withoutRules(input)
	for _, above := range []string{sp.lead, prefix} {
		if above != "" {
			input = above + "\n" + input
		}
	}
	return Piece{Input: input, Passage: retrieval.Passage{Title: s.text.Title, Headings: sp.section.path, Lead: sp.lead, Text: text,
		Start: sp.start, End: sp.end, Page: s.page(sp.start)}}
}

// page is the one that a place of the text is on.
func (s *splitter) page(at int) int {
	n := sort.Search(len(s.text.Blocks), func(i int) bool { return s.text.Blocks[i].End > at })
	if n == len(s.text.Blocks) {
		return 0
	}
	return s.text.Blocks[n].Page
}

// bare is how long a text may be whose surroundings are to blame when it is too long.
const bare = 16

func (s *splitter) halve(sp span) ([]span, error) {
	text := s.text.Text[sp.start:sp.end]
	if len(text) <= bare && (sp.lead != "" || !sp.section.bare) {
		alone := *sp.section
		alone.bare = true
		sp.section, sp.lead = &alone, ""
		return []span{sp}, nil
	}
	middle := sp.start + wordStart(text, len(text)/2)
	a, b := sp, sp
	a.start, a.end = trim(s.text.Text, sp.start, middle)
	b.start, b.end = trim(s.text.Text, middle, sp.end)
	if a.start == a.end || b.start == b.end {
		return nil, fmt.Errorf("chunk: %q alone is more than %d tokens", text, s.config.Max)
	}
	return []span{a, b}, nil
}

// Clip shortens a text to its beginning of at most limit tokens.
func Clip(text string, counter Counter, limit int) (string, error) {
	for {
		n, err := counter.CountTokens([]string{text})
		if err != nil || n[0] <= limit || text == "" {
			return text, err
		}
		text = text[:runeStart(text, min(len(text)*limit/n[0], len(text)-1))]
	}
}
