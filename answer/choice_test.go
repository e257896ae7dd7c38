package answer

import (
	"strings"
	"testing"
)

// A small model's sentence is used when it leaves out nothing that was asked for; a large model chooses itself.
func TestComplete(t *testing.T) {
	const hours = "The Vienna shop is open on Saturdays from 10:00 to 18:00 all year."
	for _, c := range []struct {
		name, document, question, says string
		trusted                        uint64
		want                           string
	}{
		{"both figures", hours, "At what time does the Vienna shop open on Saturdays?", "The Vienna shop is open from 10:00 to 18:00.", 1e9, "The Vienna shop is open from 10:00 to 18:00."},
		{"one of two", hours, "How late is the Vienna shop open on Saturdays?", "The Vienna shop is open on Saturdays at 10:00.", 1e9, hours},
		{"one of two, from a model that may choose", hours, "How late is the Vienna shop open on Saturdays?", "The Vienna shop is open on Saturdays to 18:00.", 0, "The Vienna shop is open on Saturdays to 18:00."},
		{"half of what to do", "Let the motor cool for ten minutes and switch the display off.", "What should I do about the motor?", "Let the motor cool.", 1e9, "Let the motor cool for ten minutes and switch the display off."},
		{"all there is to do", "Let the motor cool.", "What should I do about the motor?", "You should let the motor cool.", 1e9, "You should let the motor cool."},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := willing()
			config.Trusted = c.trusted
			got, err := newAnswerer(t, config, newShelf(c.document), &script{says: c.says}).GetResponse(t.Context(), c.question)
			if err != nil {
				t.Fatal(err)
			}
			if got.Answer != c.want || len(got.Citations) != 1 || got.Citations[0].Quote != c.document {
				t.Errorf("%q, citing %+v", got.Answer, got.Citations)
			}
		})
	}
}

// Two pieces of evidence that are as good are both quoted, and a small model isn't asked which it is.
func TestContested(t *testing.T) {
	const repairs = "| Repair | Price |\n|---|---|\n| Display, replacement | €179 |\n| Display, glass | €85 |\n"
	const question = "What does a display cost?"
	ask := func(change func(*Config)) (*Answer, int) {
		g := &script{says: "The price of a display glass is €85."}
		c := willing()
		c.Quotes = 3
		change(&c)
		got, err := newAnswerer(t, c, newShelf(repairs), g).GetResponse(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		return got, len(g.asked)
	}
	got, asked := ask(func(*Config) {})
	if asked != 0 || len(got.Citations) != 2 || !strings.Contains(got.Answer, "€179") || !strings.Contains(got.Answer, "€85") {
		t.Errorf("asked %d times, %q", asked, got.Answer)
	}
	if got.Usage.PromptTokens == 0 || got.Usage.GeneratedTokens != len(strings.Fields(got.Answer)) {
		t.Errorf("usage %+v of %q", got.Usage, got.Answer)
	}
	if got, asked := ask(func(c *Config) { c.Trusted = 0 }); asked != 1 || len(got.Citations) != 1 {
		t.Errorf("a model that may choose: asked %d times, %q", asked, got.Answer)
	}
	if _, asked := ask(func(c *Config) { c.MarkUnsupported = true }); asked != 1 {
		t.Errorf("where marks are wanted it was asked %d times", asked)
	}
}

// A figure that is asked for must be there.
func TestUnmet(t *testing.T) {
	for _, c := range []struct {
		document, question string
		abstains           bool
	}{
		{"The climbing wall in Freiburg is popular with children.", "What does the climbing wall in Freiburg cost?", true},
		{"The climbing wall in Freiburg costs €9.", "What does the climbing wall in Freiburg cost?", false},
		{"Northfield is the smallest club, with 750 square metres.", "What is the street address of the Northfield club?", true},
		{"The Northfield club is at 12 Mill Lane.", "What is the street address of the Northfield club?", false},
		{"The shop was opened by friends of the lake.", "Who started the shop?", true},
		{"The shop was opened by Mira Falk.", "Who started the shop?", false},
	} {
		got, err := newAnswerer(t, willing(), newShelf(c.document), &script{says: c.document}).GetResponse(t.Context(), c.question)
		if err != nil || got.Abstained != c.abstains {
			t.Errorf("%s %s: %q, %v", c.question, c.document, got.Answer, err)
		}
	}
}

// A quote of a word or two is read on.
func TestBriefQuote(t *testing.T) {
	const codes = "E04 Motor too hot. Ride without assistance for ten minutes. E05 Battery too cold. Bring it indoors and wait for a whole hour before you ride."
	got, err := newAnswerer(t, willing(), newShelf(codes), &script{says: "I cannot say."}).GetResponse(t.Context(), "The display says E04, what now?")
	if err != nil || got.Answer != "E04 Motor too hot. Ride without assistance for ten minutes." || len(got.Citations) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is asked for, and what has the shape of it.
func TestExpectations(t *testing.T) {
	for _, c := range []struct {
		question, kind, has, lacks string
	}{
		{"At what temperatures may I charge it?", "temperature", "Between 5 and 35\u00a0°C.", "For 5 hours."},
		{"How late is the shop open?", "time", "Until 18:00.", "In Vienna."},
		{"How far ahead can I book?", "notice", "Eight days ahead.", "In the app."},
		{"How far can I ride?", "size", "130 km.", "Very far."},
		{"How much of the price do you keep?", "money", "Half of it.", "A good part."},
		{"Which make are the machines?", "name", "They come from Ironworks.", "They are good machines."},
		{"What is your street address?", "address", "We are at 4 Quay Street.", "We have 750 square metres."},
		{"On which day does it stop?", "time", "On day 24.", "After a warning."},
	} {
		in := &inquiry{text: c.question, expects: expects(c.question), asked: words(c.question)}
		if in.expects == nil || in.expects.name != c.kind {
			t.Errorf("%s: %+v", c.question, in.expects)
			continue
		}
		for text, want := range map[string]bool{c.has: true, c.lacks: false} {
			if found, known := in.meets(text, words(text)); !known || found != want {
				t.Errorf("%s %s: found %v, known %v", c.question, text, found, known)
			}
		}
	}
}
