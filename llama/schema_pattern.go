package llama

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// llama.cpp's converter takes patterns for text of the grammar almost as they are. So "." and "[^a]" let through quotes
// and backslashes, which end or break the JSON string around them, and what it doesn't know becomes any string. Patterns
// are therefore parsed here and written anew, with nothing in them but letters, digits, classes of code points, groups
// and counts.

const (
	maxPatternSize   = 2000 // characters, repetitions multiplied out
	maxPatternGroups = 40   // within one another
)

var (
	// foreignSyntax is what Go understands otherwise than ECMAScript, or ECMAScript alone has.
	foreignSyntax = regexp.MustCompile(`\\[^dDwWsStnrfvxp\pP\pS]|\[\^?\]|\[:|\(\?[^:<]|\(\?<[=!]`)
	// plainPattern is what llama.cpp's converter gets right by itself.
	plainPattern = regexp.MustCompile(`^\^[^.\\"^]*\$$`)
	// jsonPlain are the characters that JSON strings hold as they are, less the spaces and line ends that \S and "." of
	// ECMAScript leave out and Go's don't.
	jsonPlain = plainRunes()
)

func plainRunes() []rune {
	ranges := []rune{' ', unicode.MaxRune}
	for _, not := range [][2]rune{
		{'"', '"'}, {'\\', '\\'}, {0x7F, 0x7F}, {0xD800, 0xDFFF},
		{0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF},
	} {
		for i := 0; i < len(ranges); i += 2 {
			if ranges[i] <= not[0] && not[1] <= ranges[i+1] {
				ranges = slices.Concat(ranges[:i], []rune{ranges[i], not[0] - 1, not[1] + 1, ranges[i+1]}, ranges[i+2:])
				break
			}
		}
	}
	return ranges
}

// translatePattern writes an ECMAScript pattern so that llama.cpp's converter gets it right, and returns its size, with
// repetitions multiplied out. Strings that the result matches match the pattern and need no escape in JSON.
func translatePattern(pattern string) (text string, size int, err error) {
	if foreignSyntax.MatchString(pattern) {
		return "", 0, errors.New("it has syntax that is not supported")
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", 0, errors.New("it cannot be parsed, repeats too much, or has assertions or back references")
	}
	w := patternWriter{}
	whole, start, end := unanchor(re)
	if err := w.write(whole, 0); err != nil {
		return "", 0, err
	}
	text = w.String()
	anything := "[" + classText(jsonPlain) + "]*"
	if !start {
		text = anything + "(" + text + ")"
	}
	if !end {
		text = "(" + text + ")" + anything
	}
	size, err = patternSize(whole)
	return "^" + text + "$", size, err
}

// unanchor takes the anchors off both ends.
func unanchor(re *syntax.Regexp) (rest *syntax.Regexp, start, end bool) {
	subs := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		subs = slices.Clone(re.Sub)
	}
	for len(subs) > 0 && subs[0].Op == syntax.OpBeginText {
		subs, start = subs[1:], true
	}
	for len(subs) > 0 && subs[len(subs)-1].Op == syntax.OpEndText {
		subs, end = subs[:len(subs)-1], true
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: subs}, start, end
}

type patternWriter struct{ strings.Builder }

func (w *patternWriter) write(re *syntax.Regexp, depth int) error {
	if depth > maxPatternGroups {
		return errors.New("it is nested too deeply")
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
		return nil
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if err := w.literal(r, re.Flags&syntax.FoldCase != 0); err != nil {
				return err
			}
		}
		return nil
	case syntax.OpCharClass:
		return w.class(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return w.class([]rune{0, unicode.MaxRune})
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if err := w.write(sub, depth); err != nil {
				return err
			}
		}
		return nil
	case syntax.OpCapture:
		return w.group(re.Sub, "", depth)
	case syntax.OpAlternate:
		return w.group(re.Sub, "", depth)
	case syntax.OpStar:
		return w.group(re.Sub, "*", depth)
	case syntax.OpPlus:
		return w.group(re.Sub, "+", depth)
	case syntax.OpQuest:
		return w.group(re.Sub, "?", depth)
	case syntax.OpRepeat:
		switch {
		case re.Max == 0:
			return nil
		case re.Max < 0:
			return w.group(re.Sub, fmt.Sprintf("{%d,}", re.Min), depth)
		}
		return w.group(re.Sub, fmt.Sprintf("{%d,%d}", re.Min, re.Max), depth)
	}
	return errors.New("it has assertions, or anchors inside")
}

// group writes alternatives and how often they are repeated.
func (w *patternWriter) group(subs []*syntax.Regexp, times string, depth int) error {
	w.WriteByte('(')
	for i, sub := range subs {
		if i > 0 {
			w.WriteByte('|')
		}
		if err := w.write(sub, depth+1); err != nil {
			return err
		}
	}
	w.WriteString(")" + times)
	return nil
}

func (w *patternWriter) literal(r rune, fold bool) error {
	class := []rune{r, r}
	for f := unicode.SimpleFold(r); fold && f != r; f = unicode.SimpleFold(f) {
		class = append(class, f, f)
	}
	return w.class(class)
}

func (w *patternWriter) class(ranges []rune) error {
	ranges = intersect(ranges, jsonPlain)
	if len(ranges) == 0 {
		return errors.New("it needs quotes, backslashes, control characters or unusual spaces")
	}
	w.WriteString("[" + classText(ranges) + "]")
	return nil
}

func classText(ranges []rune) string {
	var b strings.Builder
	for i := 0; i < len(ranges); i += 2 {
		b.WriteString(classRune(ranges[i]))
		if ranges[i] != ranges[i+1] {
			b.WriteString("-" + classRune(ranges[i+1]))
		}
	}
	return b.String()
}

func classRune(r rune) string {
	if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return string(r)
	}
	return fmt.Sprintf(`\U%08X`, r)
}

// intersect returns what two lists of ranges have in common.
func intersect(a, b []rune) []rune {
	var out []rune
	for i := 0; i < len(a); i += 2 {
		for j := 0; j < len(b); j += 2 {
			if low, high := max(a[i], b[j]), min(a[i+1], b[j+1]); low <= high {
				out = append(out, low, high)
			}
		}
	}
	return out
}

// patternSize counts characters, repetitions multiplied out.
func patternSize(re *syntax.Regexp) (int, error) {
	size := len(re.Rune)
	if re.Op == syntax.OpCharClass {
		size = 1
	}
	for _, sub := range re.Sub {
		s, err := patternSize(sub)
		if err != nil {
			return 0, err
		}
		size += s
	}
	if re.Op == syntax.OpRepeat {
		size = max(size, 1) * max(re.Min, re.Max, 1)
	}
	if size > maxPatternSize {
		return 0, fmt.Errorf("it is too long: more than %d characters, with repetitions", maxPatternSize)
	}
	return size, nil
}
