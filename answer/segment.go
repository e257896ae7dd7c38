package answer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind says what a unit of text is.
type kind uint8

const (
	prose   kind = iota // a sentence of running text
	item                // a list item, or one of its sentences
	row                 // a row of a table
	heading             // a heading line
	header              // the names of a table's columns
)

// unit is the smallest piece of a text that is quoted: a sentence, a list item, a table row. Start and end are byte
// offsets in the text it was cut from.
type unit struct {
	kind       kind
	start, end int
	// lead is what the unit needs around it to be understood: the line that introduces its list, its table's header.
	lead string
	// asked is the question that the unit stands behind, as in a list of frequent questions.
	asked string
}

// segment cuts text at its structure and its sentences. Units are in order, don't overlap, are not empty and hold all of
// the text but white space, table rules and code fences. A text that begins inside a table has that table's header above.
func segment(text, above string) []unit {
	s := segmenter{text: text, header: above, table: above != ""}
	for pos := 0; pos < len(text); {
		end := strings.IndexByte(text[pos:], '\n')
		if end < 0 {
			end = len(text)
		} else {
			end += pos
		}
		s.line(pos, end)
		pos = end + 1
	}
	s.flush()
	return s.units
}

// segmenter collects lines into blocks, and cuts a block when it is complete.
type segmenter struct {
	text  string
	units []unit
	// The open block.
	open       bool
	kind       kind
	start, end int
	// lead is the last sentence that ended in a colon; header is the first row of the open table.
	lead, header string
	table        bool
	asked        string // the last sentence, while it is a question
	listed       bool   // an item followed the lead
	ordered      bool   // the last item was numbered
	code         bool   // between code fences
}

func (s *segmenter) line(start, end int) {
	start, end = trim(s.text, start, end)
	line := s.text[start:end]
	switch {
	case line == "":
		s.flush()
		s.header, s.table = "", false
	case isFence(line):
		s.flush()
		s.code = !s.code
	case s.code:
		s.flush()
		s.begin(prose, start, end)
	case isRule(line):
		s.flush()
		s.nameColumns()
	case isHeading(line):
		s.flush()
		s.add(unit{kind: heading, start: start, end: end})
		s.lead, s.asked, s.header, s.table = "", "", "", false
	case isRow(line):
		s.flush()
		s.row(start, end)
	case markerLength(line) > 0:
		s.flush()
		if ordered := line[0] >= '0' && line[0] <= '9'; ordered != s.ordered {
			if s.listed {
				s.lead = "" // another list
			}
			s.ordered = ordered
		}
		s.listed = true
		s.begin(item, start, end)
	case s.open && !isPair(line):
		s.end = end
	default:
		s.flush()
		if s.listed {
			s.lead, s.listed = "", false
		}
		s.begin(prose, start, end)
	}
}

// nameColumns makes a header of the first row of a table, which a rule follows.
func (s *segmenter) nameColumns() {
	if n := len(s.units); s.table && s.header == "" && n > 0 && s.units[n-1].kind == row {
		s.units[n-1].kind = header
		s.header = s.text[s.units[n-1].start:s.units[n-1].end]
	}
}

// row adds a row of a table. Where no rule tells, a first row without a digit names the columns of the others.
func (s *segmenter) row(start, end int) {
	line := s.text[start:end]
	switch {
	case !s.table && !strings.ContainsAny(line, "0123456789"):
		s.header = line
		s.add(unit{kind: header, start: start, end: end})
	default:
		s.add(unit{kind: row, start: start, end: end, lead: s.header})
	}
	s.table = true
}

func (s *segmenter) begin(k kind, start, end int) {
	s.open, s.kind, s.start, s.end = true, k, start, end
}

// flush cuts the open block into sentences.
func (s *segmenter) flush() {
	if !s.open {
		return
	}
	s.open = false
	lead := ""
	if s.kind == item || isPair(s.text[s.start:s.end]) {
		lead = s.lead
	}
	asked := s.asked
	for _, span := range sentences(s.text[s.start:s.end]) {
		u := unit{kind: s.kind, start: s.start + span[0], end: s.start + span[1], lead: lead, asked: asked}
		if text := s.text[u.start:u.end]; isQuestion(text) {
			u.asked, asked = "", text
		}
		s.add(u)
	}
	// An answer is the block behind its question; a list may follow too.
	if last := s.units[len(s.units)-1]; s.kind == item || isQuestion(s.text[last.start:last.end]) {
		s.asked = asked
	} else {
		s.asked = ""
	}
	if s.kind == prose {
		s.lead = ""
		if last := s.units[len(s.units)-1]; s.text[last.end-1] == ':' {
			s.lead = s.text[last.start:last.end]
		}
	}
}

func (s *segmenter) add(u unit) { s.units = append(s.units, u) }

// isHeading reports a Markdown heading.
func isHeading(line string) bool {
	n := len(line) - len(strings.TrimLeft(line, "#"))
	return n >= 1 && n <= 6 && n < len(line) && line[n] == ' '
}

func isQuestion(sentence string) bool {
	return strings.HasSuffix(strings.TrimRight(sentence, "\"'”’»)*_"), "?")
}

// isTitle reports a text in capitals, as plain text files have above their sections.
func isTitle(text string) bool {
	return text == strings.ToUpper(text) && len(strings.Fields(text)) > 1 && !strings.ContainsAny(text, "0123456789.!?;")
}

func isFence(line string) bool {
	return strings.HasPrefix(line, "```") || strings.HasPrefix(line, "~~~")
}

// isRule reports a line that is only drawing: a table's rule, an underline.
func isRule(line string) bool {
	return len(line) > 1 && strings.Trim(line, "-=*_|:+ \t") == ""
}

func isRow(line string) bool {
	return strings.Count(line, "|") >= 2 && (line[0] == '|' || strings.Contains(line, " | ")) || strings.Contains(line, "\t")
}

// isPair reports a line of the form "Weight: 1.2 kg", which stands for itself in a list of such lines.
func isPair(line string) bool {
	at := strings.Index(line, ": ")
	if at < 1 || at > 48 {
		return false
	}
	key := line[:at]
	return !strings.ContainsAny(key, ".!?,;") && len(strings.Fields(key)) <= 5
}

// markerLength is the length of a list item's marker with the space after it, 0 without one.
func markerLength(line string) int {
	r, n := utf8.DecodeRuneInString(line)
	switch {
	case strings.ContainsRune("-*+•‣◦–", r):
	case r >= '0' && r <= '9':
		for n < len(line) && n < 4 && line[n] >= '0' && line[n] <= '9' {
			n++
		}
		if n >= len(line) || line[n] != '.' && line[n] != ')' {
			return 0
		}
		n++
	default:
		return 0
	}
	if n >= len(line) || line[n] != ' ' && line[n] != '\t' {
		return 0
	}
	return n + 1
}

// sentences gives the byte spans of the sentences of a block. A list marker stays with its first sentence.
func sentences(text string) [][2]int {
	var spans [][2]int
	start := 0
	cut := func(end int) {
		if a, b := trim(text, start, end); a < b {
			spans = append(spans, [2]int{a, b})
		}
		start = end
	}
	for i := markerLength(text); i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch r {
		case '。', '！', '？':
			cut(i)
		case '.', '!', '?', '…':
			end := i
			for end < len(text) { // closing quotes and repeated marks belong to the sentence
				c, n := utf8.DecodeRuneInString(text[end:])
				if !strings.ContainsRune(".!?…\"'”’»)]*_", c) {
					break
				}
				end += n
			}
			if sentenceEnds(text, i-size, end, r) {
				cut(end)
			}
			i = end
		}
	}
	cut(len(text))
	return spans
}

// sentenceEnds decides whether the mark at text[mark:] with its closing characters up to end closes a sentence.
func sentenceEnds(text string, mark, end int, r rune) bool {
	if end == len(text) {
		return true
	}
	next, size := utf8.DecodeRuneInString(text[end:])
	if !unicode.IsSpace(next) {
		return false
	}
	for next != utf8.RuneError && unicode.IsSpace(next) {
		end += size
		next, size = utf8.DecodeRuneInString(text[end:])
	}
	if unicode.IsLower(next) {
		return false
	}
	if r != '.' {
		return true
	}
	word := lastWord(text[:mark])
	if abbreviations[strings.ToLower(word)] {
		return false
	}
	// A single capital is an initial: J. Smith.
	first, n := utf8.DecodeRuneInString(word)
	return n != len(word) || !unicode.IsUpper(first)
}

func lastWord(text string) string {
	return text[strings.LastIndexFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("(\"'“‘[", r)
	})+1:]
}

// abbreviations end in a period that does not end the sentence, when a capital or a digit follows.
var abbreviations = set("mr mrs ms dr prof sr jr st no nos vs e.g i.e eg ie etc approx fig vol ca cf al inc ltd co corp " +
	"gen col sgt capt rev hon dept est min max tel ext jan feb mar apr jun jul aug sep sept oct nov dec")

// plain is a unit as it reads in an answer: without list marker, emphasis and table bars.
func (u unit) plain(text string) string {
	raw := text[u.start:u.end]
	if u.kind == row {
		return rowText(raw, u.lead)
	}
	raw = raw[markerLength(raw):]
	return strings.Join(strings.Fields(unmark(raw)), " ")
}

// rowText reads a table row with its header: "Plan: Basic; Price: $9".
func rowText(raw, header string) string {
	values := cells(raw)
	names := cells(header)
	var b strings.Builder
	for i, v := range values {
		if v == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		if len(names) == len(values) && names[i] != "" {
			b.WriteString(names[i] + ": ")
		}
		b.WriteString(v)
	}
	return b.String()
}

func cells(line string) []string {
	bar := "|"
	if !strings.Contains(line, bar) {
		bar = "\t"
	}
	line = strings.TrimSpace(line)
	if bar == "|" { // the outer bars part nothing, an empty cell beside them is one
		line = strings.TrimSuffix(strings.TrimPrefix(line, bar), bar)
	}
	parts := strings.Split(line, bar)
	for i, p := range parts {
		parts[i] = strings.Join(strings.Fields(unmark(p)), " ")
	}
	return parts
}

// unmark drops Markdown's emphasis and code marks.
func unmark(s string) string {
	return strings.NewReplacer("**", "", "__", "", "`", "").Replace(s)
}

// trim narrows text[start:end] to what is not white space.
func trim(text string, start, end int) (int, int) {
	body := strings.TrimLeftFunc(text[start:end], unicode.IsSpace)
	start = end - len(body)
	return start, start + len(strings.TrimRightFunc(body, unicode.IsSpace))
}

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}
