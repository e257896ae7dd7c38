package answer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a token of a text: a run of letters and digits, with the marks inside a number kept.
type word struct {
	text   string // lower case
	stem   string
	start  int // byte offset
	end    int
	name   bool // with a capital inside a sentence, of letters and digits mixed, or a number right after a name
	proper bool // a name that is neither in capitals throughout nor mixed with digits
	number bool // begins with a digit
	stop   bool // carries no content
}

// words splits a text.
func words(text string) []word {
	var out []word
	opening := true // whether the next word opens a sentence
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			opening = opening || strings.ContainsRune(".!?:\n•|", r)
			i += n
			continue
		}
		end := wordEnd(text, i)
		w := newWord(text[i:end], opening)
		w.start, w.end = i, end
		if n := len(out); w.number && n > 0 && out[n-1].name && i == out[n-1].end+1 {
			w.name = true // the 2 of Ridgeline 2
		}
		out = append(out, w)
		opening = false
		i = end
	}
	return out
}

// wordEnd finds the end of the word that begins at i. An apostrophe, and in numbers a separator, is part of a word when
// the word goes on behind it.
func wordEnd(text string, i int) int {
	digits := text[i] >= '0' && text[i] <= '9'
	for i < len(text) {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
		case r == '\'' || r == '’' || digits && (r == '.' || r == ',' || r == ':'):
			next, _ := utf8.DecodeRuneInString(text[i+n:])
			if digits && !unicode.IsDigit(next) || !unicode.IsLetter(next) && !unicode.IsDigit(next) {
				return i
			}
		default:
			return i
		}
		i += n
	}
	return i
}

func newWord(raw string, opening bool) word {
	lower := strings.ToLower(strings.ReplaceAll(raw, "’", "'"))
	lower = strings.TrimSuffix(lower, "'s")
	first, _ := utf8.DecodeRuneInString(raw)
	w := word{text: lower, number: unicode.IsDigit(first)}
	mixed := !w.number && strings.IndexFunc(raw, unicode.IsDigit) > 0
	allCaps := len(raw) > 1 && raw == strings.ToUpper(raw) && !w.number
	w.stop = stopWords[lower] && (raw != "US" && raw != "IT")
	w.name = mixed || !w.stop && (allCaps || unicode.IsUpper(first) && !opening)
	if calendarWords[lower] {
		w.name = false // Wednesday is met by a range of days
	}
	w.proper = w.name && !mixed && !allCaps
	if digits, ok := numberWords[lower]; ok {
		w.number, w.stem = true, digits
		w.name = !opening && unicode.IsUpper(first)
		return w
	}
	if w.number {
		w.stem = strings.ReplaceAll(lower, ",", "")
		return w
	}
	w.stem = stem(lower)
	return w
}

// content drops the words that carry no content, and repeated ones.
func content(ws []word) []word {
	seen := make(map[string]bool, len(ws))
	var out []word
	for _, w := range ws {
		if !w.stop && !seen[w.stem] {
			seen[w.stem] = true
			out = append(out, w)
		}
	}
	return out
}

// stem takes common English endings off, so that ship, ships, shipped and shipping meet. It errs towards joining: it is
// only used to compare words of one question with words of a few passages.
func stem(w string) string {
	if same, ok := irregular[w]; ok {
		return same
	}
	if len(w) < 4 {
		return w
	}
	for _, e := range endings {
		if root := len(w) - len(e.suffix); root >= e.keep && strings.HasSuffix(w, e.suffix) {
			w = w[:root] + e.put
			break
		}
	}
	if n := len(w); n > 3 && w[n-1] == w[n-2] && !strings.ContainsRune("aeious", rune(w[n-1])) {
		w = w[:n-1]
	}
	if n := len(w); n > 3 && (w[n-1] == 'e' || w[n-1] == 'y') {
		w = w[:n-1]
	}
	return w
}

type ending struct {
	suffix string
	keep   int // letters that must remain
	put    string
}

// endings are tried in order; the first that fits is taken off.
var endings = []ending{
	{"ations", 3, ""}, {"ation", 3, ""}, {"ities", 4, ""}, {"ments", 4, ""}, {"ment", 4, ""}, {"ables", 4, ""},
	{"able", 4, ""}, {"ible", 4, ""}, {"ity", 4, ""}, {"ings", 3, ""}, {"ing", 3, ""}, {"ions", 4, ""}, {"ion", 4, ""},
	{"ness", 4, ""}, {"ies", 2, "y"}, {"ied", 2, "y"}, {"sses", 2, "ss"}, {"ers", 4, ""}, {"er", 4, ""}, {"ors", 4, ""},
	{"or", 4, ""}, {"ally", 4, ""}, {"ly", 4, ""}, {"ed", 3, ""}, {"es", 3, ""}, {"ss", 1, "ss"}, {"us", 2, "us"},
	{"is", 2, "is"}, {"s", 3, ""}, {"al", 4, ""},
}

// irregular joins forms that no ending explains.
var irregular = map[string]string{
	"bought": "buy", "paid": "pay", "sent": "send", "made": "make", "got": "get", "given": "giv", "gave": "giv",
	"taken": "tak", "took": "tak", "kept": "keep", "held": "hold", "left": "leav", "lost": "lose", "built": "build",
	"people": "person", "children": "child", "deliver": "deliver", "delivers": "deliver", "delivery": "deliver", "deliveries": "deliver", "shipment": "ship",
	"shipments": "ship", "weight": "weigh", "weights": "weigh", "began": "begin", "begun": "begin", "chose": "choos",
	"chosen": "choos", "sold": "sell", "sale": "sell", "sales": "sell", "spoke": "speak", "spoken": "speak",
	"wrote": "writ", "written": "writ", "broken": "break", "broke": "break", "payment": "pay", "payments": "pay",
	"founder": "found", "britain": "uk", "gb": "uk",
	"usa": "us", "america": "us", "founders": "found", "costs": "cost", "length": "long", "height": "high", "hq": "headquarter",
}

// stopWords carry no content in a question or an answer.
var stopWords = set("a about above after again all also am an and any are aren't as at be because been before being below " +
	"between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each else ever " +
	"every few for from further had hadn't has hasn't have haven't having he hello her here hers hi him his how i i'd i'll " +
	"i'm i've if in into is isn't it its itself just know let like many may me might mine more most much must my need of off " +
	"on once only or other our ours out over own per please same shall she should shouldn't so some such tell than thank " +
	"thanks that the their theirs them then there there's these they this those through to too under until up us use used " +
	"very want was wasn't we were weren't what what's when where which while who whom whose why will with won't would " +
	"wouldn't you your yours you're possible give get got exactly actually anything something someone somebody via " +
	"take takes taken come comes go goes happen happens find say says look put able way ways kind type sort thing things " +
	"without within per")

// numberWords are compared as digits.
var numberWords = map[string]string{
	"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
	"nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15",
	"sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30",
	"forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90", "hundred": "100",
}

// calendarWords have a capital and are no names.
var calendarWords = set("monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays " +
	"fridays saturdays sundays january february march april may june july august september october november december")

// negations turn a sentence's meaning round.
var negations = set("no not never none nothing cannot can't don't doesn't isn't aren't won't didn't wasn't weren't " +
	"shouldn't wouldn't couldn't hasn't haven't without neither nor unable unavailable")

func negated(ws []word) bool {
	for _, w := range ws {
		if negations[w.text] {
			return true
		}
	}
	return false
}
