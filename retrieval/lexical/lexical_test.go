package lexical

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func analyzer(t testing.TB, language string) *Analyzer {
	t.Helper()
	a, err := New(language)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTerms(t *testing.T) {
	for _, c := range []struct{ language, text, want string }{
		{"", "The Übersee-Café’s 3.5 kWh battery", "the ubersee cafes 3 5 kwh battery"},
		{"", "running RUNNING runs", "running running runs"},
		{"english", "running RUNNING runs", "run run run"},
		{"german", "Die Häuser der Städte", "die haus der stadt"},
		{"", "ﬁle № 5", "file no 5"},
		{"", "東京都の天気", "東京 京都 都の の天 天気"},
		{"", "犬", "犬"},
		{"", "iPhone15を買う", "iphone15 を買 買う"},
		{"", "co\u00adoperate", "cooperate"},
		{"", "  \x00\xff —", ""},
		{"french", "les activités créées", "le activ cre"},
		{"", "हिन्दी", "हिन्दी"},
		{"", "Ελληνικά Русский عربى", "ελληνικα русскии عربى"},
	} {
		if got := strings.Join(analyzer(t, c.language).Terms(c.text), " "); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.language, c.text, got, c.want)
		}
	}
}

func TestQuestion(t *testing.T) {
	for _, c := range []struct{ language, text, want string }{
		{"", "How long is the battery of the battery guaranteed?", "long battery guaranteed"},
		{"", "Who is it?", "who is it"},
		{"german", "Wie lange hält die Batterie?", "lang halt batteri"},
		{"", "", ""},
	} {
		if got := strings.Join(analyzer(t, c.language).Question(c.text), " "); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.language, c.text, got, c.want)
		}
	}
}

func TestLanguages(t *testing.T) {
	if _, err := New("klingon"); err == nil || !strings.Contains(err.Error(), "swedish") {
		t.Errorf("an unknown language: %v", err)
	}
	for _, l := range Languages() {
		if got := analyzer(t, l).Terms("Alpha 12"); len(got) != 2 {
			t.Errorf("%s: %q", l, got)
		}
	}
	for l := range stopWords {
		a := analyzer(t, l)
		for w := range stopWords[l] {
			// Otherwise it would never be met.
			if folded := analyzer(t, "").Terms(w); len(folded) != 1 || folded[0] != w {
				t.Errorf("%s: %q is read as %q", l, w, folded)
			}
		}
		if got := a.Question("xylophone"); len(got) != 1 {
			t.Errorf("%s: %q", l, got)
		}
	}
}

func FuzzTerms(f *testing.F) {
	languages := append(Languages(), "")
	f.Add("The quick brown ﬁsh", byte(2))
	f.Add("東京都 ไทย \xff\u0301", byte(len(languages)-1))
	f.Fuzz(func(t *testing.T, text string, language byte) {
		a := analyzer(t, languages[int(language)%len(languages)])
		terms := a.Terms(text)
		for _, term := range terms {
			if term == "" || len(term) > maxTerm || !utf8.ValidString(term) || strings.ContainsAny(term, " \"\x00") {
				t.Errorf("term %q of %q", term, text)
			}
		}
		for _, term := range a.Question(text) {
			if !slices.Contains(terms, term) {
				t.Errorf("%q of a question is none of the passage's %q", term, terms)
			}
		}
	})
}
