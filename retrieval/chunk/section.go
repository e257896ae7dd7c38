package chunk

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/retrieval"
)

// section is what stands under one path of headings, the headings themselves included.
type section struct {
	path   []string
	blocks []retrieval.Block
	cost   int  // of what is embedded of the path; no less than it is
	bare   bool // nothing of the path is embedded: it would leave no room
	units  []unit
	size   int  // of the units
	body   bool // there is more than headings
	joined bool // of small neighbours; path is that of their parent
}

// sections cuts the blocks at their headings.
func sections(text retrieval.Text) []*section {
	var out []*section
	var path []string
	var levels []int
	for _, b := range text.Blocks {
		if b.Kind == retrieval.Heading {
			for len(levels) > 0 && levels[len(levels)-1] >= b.Level {
				levels, path = levels[:len(levels)-1], path[:len(path)-1]
			}
			levels, path = append(levels, b.Level), append(path, b.Heading)
		}
		if b.Kind == retrieval.Heading || len(out) == 0 {
			out = append(out, &section{path: slices.Clone(path)})
		}
		s := out[len(out)-1]
		s.blocks = append(s.blocks, b)
		s.body = s.body || b.Kind != retrieval.Heading
	}
	return out
}

// merge joins sections that are too small to be found by themselves: headings alone go with what follows, an introduction
// of a few words with its first subsection, small neighbours under the same heading with each other.
func merge(sections []*section, small int) []*section {
	var out []*section
	var headings *section // alone so far
	for _, next := range sections {
		if headings != nil {
			headings.absorb(next, next.path)
			next, headings = headings, nil
		}
		if !next.body {
			headings = next
			continue
		}
		if n := len(out); n > 0 && out[n-1].size < small {
			g := out[n-1]
			if !g.joined && len(next.path) > len(g.path) && hasPrefix(next.path, g.path) {
				g.absorb(next, next.path)
				continue
			}
			if next.size < small && g.isNeighbour(next) {
				g.absorb(next, g.parent())
				g.joined = true
				continue
			}
		}
		out = append(out, next)
	}
	switch n := len(out); {
	case headings != nil && n > 0:
		out[n-1].absorb(headings, out[n-1].path)
	case headings != nil:
		out = append(out, headings)
	}
	return out
}

func (s *section) absorb(next *section, path []string) {
	s.path = path
	s.cost = max(s.cost, next.cost)
	s.units = append(s.units, next.units...)
	s.size += next.size
	s.body = s.body || next.body
	s.bare = s.bare || next.bare
}

func (s *section) parent() []string {
	if s.joined || len(s.path) == 0 {
		return s.path
	}
	return s.path[:len(s.path)-1]
}

func (s *section) isNeighbour(next *section) bool {
	return len(s.parent())+1 == len(next.path) && hasPrefix(next.path, s.parent())
}

func hasPrefix(path, prefix []string) bool {
	return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// prefixOf joins the document's title and a path of headings, the innermost as far as limit characters allow.
func prefixOf(title string, path []string, limit int) string {
	path = fullPath(title, path)
	prefix := ""
	for i := len(path) - 1; i >= 0; i-- {
		longer := path[i]
		if prefix != "" {
			longer += " > " + prefix
		}
		if utf8.RuneCountInString(longer) > limit {
			break
		}
		prefix = longer
	}
	return prefix
}

// fullPath begins with the document's title.
func fullPath(title string, path []string) []string {
	if title == "" || len(path) > 0 && path[0] == title {
		return path
	}
	return append([]string{title}, path...)
}

// withoutHeadings cuts off the headings that a text begins with and that its path names already.
func withoutHeadings(text string, path []string) string {
	for _, h := range path {
		line, rest, _ := strings.Cut(text, "\n")
		if rest = strings.TrimSpace(rest); rest != "" && strings.Trim(line, "# \t") == h {
			text = rest
		}
	}
	return text
}

// withoutRules drops the drawn lines below tables' headers, which mean nothing to a model.
func withoutRules(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|---|") {
			b.WriteString(line)
		}
	}
	return b.String()
}
