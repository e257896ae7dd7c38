package answer

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// cutPassage is a passage cut into units, with what comparing needs. It never changes once made.
type cutPassage struct {
	units []cutUnit
	// around are the stems of the passage's title, headings and text.
	around map[string]bool
}

type cutUnit struct {
	unit
	index  int // in the passage
	plain  string
	words  []word // of the unit and its lead
	stems  map[string]bool
	path   []string     // headings above it, outermost first
	above  []word       // of the title and the path
	ranges [][2]float64 // numbers from … to …
	vector []float32    // of headings, lead and unit together
	bare   []float32    // of the unit alone
	back   []float32    // of the unit behind the sentence before it
}

// cutter cuts passages and keeps what it cut.
type cutter struct {
	embedder Embedder
	passages *lru[string, *cutPassage]
	words    *lru[string, []float32]
}

// cut gives the hits' passages in units, embedding all that is new in one batch.
func (c *cutter) cut(ctx context.Context, hits []retrieval.Hit) ([]*cutPassage, error) {
	out := make([]*cutPassage, len(hits))
	var texts []string
	var fresh []*cutPassage
	for i, h := range hits {
		if p, ok := c.passages.get(h.Passage.ID); ok {
			out[i] = p
			continue
		}
		p := newCutPassage(h.Passage)
		out[i] = p
		fresh = append(fresh, p)
		for i := range p.units {
			u := &p.units[i]
			texts = append(texts, clip(contextOf(h.Passage, u)), clip(u.plain), clip(p.before(i)+u.plain))
		}
	}
	if len(fresh) == 0 {
		return out, nil
	}
	vectors, err := c.embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	for _, p := range fresh {
		for i := range p.units {
			u := &p.units[i]
			u.vector, u.bare, u.back = vectors[0], vectors[1], vectors[2]
			vectors = vectors[3:]
		}
	}
	for i, h := range hits {
		c.passages.put(h.Passage.ID, out[i])
	}
	return out, nil
}

func newCutPassage(p retrieval.Passage) *cutPassage {
	c := &cutPassage{around: make(map[string]bool)}
	path := p.Headings
	for _, u := range segment(p.Text, p.Lead) {
		switch u.kind {
		case heading:
			path = under(p.Headings, p.Text[u.start:u.end])
			continue
		case header:
			continue
		}
		cu := cutUnit{unit: u, plain: u.plain(p.Text), stems: make(map[string]bool), path: path}
		cu.words = words(joinLead(u.lead, cu.plain))
		if cu.plain == "" || len(cu.words) == 0 {
			continue
		}
		cu.above = words(p.Title + ". " + strings.Join(path, ". ") + ". " + u.asked)
		cu.ranges = ranges(cu.plain)
		for _, w := range cu.words {
			cu.stems[w.stem] = true
			c.around[w.stem] = true
		}
		for _, w := range cu.above {
			c.around[w.stem] = true
		}
		cu.index = len(c.units)
		c.units = append(c.units, cu)
	}
	return c
}

// under is the path to a Markdown heading inside a passage: the passage's own path down to the heading's level.
func under(headings []string, line string) []string {
	name := strings.TrimLeft(line, "#")
	level := len(line) - len(name)
	name = strings.TrimSpace(name)
	return append(slices.Clone(headings[:min(level-1, len(headings))]), name)
}

// before is the text of the unit before one, where the two are read in one go, and a space; or nothing.
func (p *cutPassage) before(i int) string {
	if i == 0 || p.units[i].kind == row || p.units[i-1].kind == row || !slices.Equal(p.units[i].path, p.units[i-1].path) {
		return ""
	}
	return p.units[i-1].plain + " "
}

var span = regexp.MustCompile(`(\d+(?:[.,]\d+)?)\s*(?:–|-|to|and)\s*(\d+(?:[.,]\d+)?)`)

// ranges finds spans of numbers, as in "83–89 cm" and "between 5 and 35".
func ranges(text string) [][2]float64 {
	var out [][2]float64
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		from, errFrom := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", "."), 64)
		to, errTo := strconv.ParseFloat(strings.ReplaceAll(m[2], ",", "."), 64)
		if errFrom == nil && errTo == nil && from < to {
			out = append(out, [2]float64{from, to})
		}
	}
	return out
}

// isAbove reports a stem of the title or the headings.
func (u *cutUnit) isAbove(stem string) bool {
	for _, w := range u.above {
		if w.stem == stem {
			return true
		}
	}
	return false
}

// joinLead puts a list's introduction before its item; a table's header already stands in the row's plain text.
func joinLead(lead, plain string) string {
	if lead == "" || strings.Contains(lead, "|") || strings.Contains(lead, "\t") {
		return plain
	}
	return strings.TrimSpace(lead) + " " + plain
}

// contextOf is a unit as it is understood where it stands: under its nearest heading, after its lead.
func contextOf(p retrieval.Passage, u *cutUnit) string {
	above := p.Title
	if n := len(u.path); n > 0 {
		above = u.path[n-1]
	}
	if u.asked != "" {
		above = u.asked
	}
	if above == "" {
		return joinLead(u.lead, u.plain)
	}
	return above + ": " + joinLead(u.lead, u.plain)
}

// embedRunes bounds what is embedded of one unit, well inside what sentence models read.
const embedRunes = 600

func clip(text string) string {
	n := 0
	for i := range text {
		if n++; n > embedRunes {
			return text[:i]
		}
	}
	return text
}

// wordVectors gives the embedding of each word by itself.
func (c *cutter) wordVectors(ctx context.Context, texts []string) (map[string][]float32, error) {
	out := make(map[string][]float32, len(texts))
	var fresh []string
	for _, t := range texts {
		if _, seen := out[t]; seen {
			continue
		}
		v, ok := c.words.get(t)
		out[t] = v
		if !ok {
			fresh = append(fresh, t)
		}
	}
	if len(fresh) == 0 {
		return out, nil
	}
	vectors, err := c.embed(ctx, fresh)
	if err != nil {
		return nil, err
	}
	for i, t := range fresh {
		out[t] = vectors[i]
		c.words.put(t, vectors[i])
	}
	return out, nil
}

func (c *cutter) embed(ctx context.Context, texts []string) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	for {
		vectors, err := c.embedder.Embed(ctx, texts)
		long, ok := errors.AsType[*engine.OverflowError](err)
		if !ok || long.Index >= len(texts) || utf8.RuneCountInString(texts[long.Index]) < 2 {
			return vectors, err
		}
		// In some scripts a letter is several tokens. What is only compared may be cut; nothing that is said is.
		texts = slices.Clone(texts)
		runes := []rune(texts[long.Index])
		texts[long.Index] = string(runes[:len(runes)/2])
	}
}

// cosine of two unit-length vectors; 0 where one is missing.
func cosine(a, b []float32) float64 {
	if len(a) != len(b) {
		return 0
	}
	var sum float32
	for i := range a {
		sum += a[i] * b[i]
	}
	return float64(sum)
}
