package lexical

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/blevesearch/snowballstem"
	"golang.org/x/text/unicode/norm"
)

// Version changes whenever the same text gives other terms.
const Version = 1

// Analyzer makes terms. It is immutable and safe for concurrent use.
type Analyzer struct {
	stem  func(*snowballstem.Env) bool // nil: words stay as they are
	stops map[string]bool
}

// Languages lists those that New knows, besides "" for any.
func Languages() []string { return slices.Sorted(maps.Keys(stemmers)) }

// New returns the analyzer of a language, whose words it stems and whose stop words it knows. "" is for any language: nothing
// is stemmed, and English stop words count as such.
func New(language string) (*Analyzer, error) {
	if language == "" {
		return &Analyzer{stops: stopWords["english"]}, nil
	}
	stem, ok := stemmers[language]
	if !ok {
		return nil, fmt.Errorf("lexical: language %q is not known; use one of %s", language, strings.Join(Languages(), ", "))
	}
	return &Analyzer{stem: stem, stops: stopWords[language]}, nil
}

// maxTerm is the most bytes of a term. Longer runs of letters are no words that anybody asks for.
const maxTerm = 64

// Terms gives a text's terms in order, with repetitions: what a passage is found by.
func (a *Analyzer) Terms(text string) []string {
	var out []string
	a.each(text, func(term string, _ bool) { out = append(out, term) })
	return out
}

// Question gives what a question is searched for: its terms without repetitions and stop words. A question of stop words alone
// keeps them.
func (a *Analyzer) Question(text string) []string {
	var terms, stops []string
	seen := map[string]bool{}
	a.each(text, func(term string, stop bool) {
		switch {
		case seen[term]:
			return
		case stop:
			stops = append(stops, term)
		default:
			terms = append(terms, term)
		}
		seen[term] = true
	})
	if len(terms) == 0 {
		return stops
	}
	return terms
}

// each calls f for each term of a text.
func (a *Analyzer) each(text string, f func(term string, stop bool)) {
	var run []rune // of one kind
	dense := false // the run's script has no spaces
	end := func() {
		switch {
		case len(run) == 0:
		case dense:
			pairs(run, f)
		default:
			a.word(string(run), f)
		}
		run = run[:0]
	}
	for _, r := range norm.NFKC.String(text) {
		switch {
		case isDense(r) != dense && len(run) > 0 && isWord(r):
			end()
			fallthrough
		case isWord(r):
			dense = isDense(r)
			run = append(run, unicode.ToLower(r))
		case r == '\'' || r == '’' || r == '\u00ad':
			// What an apostrophe joins, or a hyphen may part, is one word.
		default:
			end()
		}
	}
	end()
}

func isWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

func (a *Analyzer) word(word string, f func(term string, stop bool)) {
	folded := fold(word)
	term := folded
	if a.stem != nil { // stemmers know words with their diacritics
		env := snowballstem.NewEnv(word)
		a.stem(env)
		term = fold(env.Current())
	}
	if term != "" && len(term) <= maxTerm {
		f(term, a.stops[folded])
	}
}

// fold takes diacritics off letters that are read without them, too. Marks of scripts in which they are vowels stay.
func fold(word string) string {
	plain := true
	for i := range len(word) {
		plain = plain && word[i] < utf8.RuneSelf
	}
	if plain {
		return word
	}
	return norm.NFC.String(strings.Map(func(r rune) rune {
		if r >= 0x300 && r <= 0x36f || r >= 0x591 && r <= 0x5c7 || r >= 0x64b && r <= 0x65f || r == 0x670 {
			return -1
		}
		return r
	}, norm.NFD.String(word)))
}

// pairs gives each two neighbours of a run, or its only character.
func pairs(run []rune, f func(term string, stop bool)) {
	if len(run) == 1 {
		f(string(run), false)
	}
	for i := range len(run) - 1 {
		f(string(run[i:i+2]), false)
	}
}

// isDense reports characters of scripts that have no spaces between words.
func isDense(r rune) bool {
	return r >= 0xe00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}
