package chunk

import "github.com/quipu-ai/quipu/retrieval"

// span is a passage to be: a piece of the text under a path.
type span struct {
	section    *section
	start, end int
	lead       string
}

// pack fills passages with a section's units, about evenly, so that the last one is not a leftover.
func (s *splitter) pack(sec *section) []span {
	soft, hard := s.soft(sec), s.hard(sec)
	units := glue(sec.units, hard)
	var out []span
	rest := 0
	for _, u := range units {
		rest += u.size
	}
	for first, before := 0, 0; first < len(units); {
		start, size := first, 0
		p := span{section: sec, start: units[first].start}
		if first > 0 && s.config.Overlap > 0 {
			start, size = overlap(units, before+1, first, s.config.Overlap)
			p.start = units[start].start
		}
		if l := units[start].lead; l.text != "" && l.start < p.start {
			p.lead = l.text
			size += l.size
		}
		room := max(soft-size, 0)
		aim := room
		if room > 0 {
			passages := max(1, (rest+room-1)/room)
			aim = (rest + passages - 1) / passages
		}
		taken, next := 0, first
		for next < len(units) && (next == first || taken < aim && taken+units[next].size <= room) {
			taken += units[next].size
			next++
		}
		if size+taken > hard && start < first { // a large unit leaves no room to repeat what was before it
			p.start, p.lead = units[first].start, ""
			if l := units[first].lead; l.text != "" && l.start < p.start {
				p.lead = l.text
			}
		}
		p.end = units[next-1].end
		out = append(out, p)
		rest -= taken
		before, first = first, next
	}
	return out
}

// glue puts headings, table headers and lines that end in a colon together with what follows them, where it fits.
func glue(units []unit, hard int) []unit {
	var out []unit
	for i := len(units) - 1; i >= 0; i-- {
		u := units[i]
		if n := len(out); u.keep && n > 0 && u.size+out[n-1].size <= hard {
			next := &out[n-1]
			next.start, next.size = u.start, next.size+u.size
			if next.lead.text == "" || next.lead.start >= u.start {
				next.lead = u.lead
			}
			next.kind = u.kind
			continue
		}
		out = append(out, u)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// overlap gives the first of the units between floor and at that fit limit tokens together, and their size. Rows and code
// are not repeated: half of them explains nothing.
func overlap(units []unit, floor, at, limit int) (int, int) {
	size := 0
	for at > floor {
		u := units[at-1]
		if u.kind != retrieval.Paragraph && u.kind != retrieval.Item || size+u.size > limit {
			break
		}
		size += u.size
		at--
	}
	return at, size
}
