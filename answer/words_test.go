package answer

import (
	"strings"
	"testing"
)

func TestStemJoins(t *testing.T) {
	for _, group := range []string{
		"ship ships shipped shipping shipment", "return returns returned returning", "deliver delivers delivery deliveries delivered",
		"cancel cancelled cancelling cancellation", "repair repairs repaired", "price prices", "weigh weighs weight",
		"battery batteries", "found founded founder", "pay pays paid payment", "refund refunds refunded refundable",
	} {
		forms := strings.Fields(group)
		for _, f := range forms {
			if stem(f) != stem(forms[0]) {
				t.Errorf("stem(%s) = %s, stem(%s) = %s", f, stem(f), forms[0], stem(forms[0]))
			}
		}
	}
}

func TestStemParts(t *testing.T) {
	for _, pair := range []string{"price prize", "refund return", "weight wait", "lamp lump"} {
		ws := strings.Fields(pair)
		if stem(ws[0]) == stem(ws[1]) {
			t.Errorf("%s and %s have the same stem %s", ws[0], ws[1], stem(ws[0]))
		}
	}
}

func TestWords(t *testing.T) {
	show := func(ws []word) string {
		var out []string
		for _, w := range ws {
			s := w.stem
			if w.name {
				s += "/name"
			}
			if w.number {
				s += "/number"
			}
			if w.stop {
				s += "/stop"
			}
			out = append(out, s)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ text, want string }{
		{"Does it ship to Japan?", "doe/stop it/stop ship to/stop japan/name"},
		{"The Ridgeline 2 weighs 2.1 kg.", "the/stop ridgelin/name 2/name/number weigh 2.1/number kg"},
		{"two weeks, 1,200 items at 10:30", "2/number week 1200/number item at/stop 10:30/number"},
		{"Is the A7 here? Yes.", "is/stop the/stop a7/name her/stop yes"},
		{"closed on Sunday", "clos on/stop sunda"},
		{"the firm's don’t", "the/stop firm don't/stop"},
	} {
		if got := show(words(c.text)); got != c.want {
			t.Errorf("words(%q)\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestExpects(t *testing.T) {
	for _, c := range []struct{ question, want, met, unmet string }{
		{"How much does express cost?", "money", "It is €12.50.", "It takes 2 days."},
		{"What is the price of the lamp?", "money", "The lamp is free.", "The lamp is green."},
		{"How much does the tent weigh?", "weight", "Weight: 2.1 kg", "It has 2 poles."},
		{"How long is the warranty?", "duration or length", "three-year warranty", "We give a warranty."},
		{"How many days do I have?", "duration", "within 45 days", "within reason"},
		{"How many lamps fit?", "count", "up to five lamps", "many lamps"},
		{"When does the shop open?", "time", "from 9:00 to 17:30", "The shop has a café"},
		{"In which year was Acme founded?", "year", "since 1998", "within 14 days"},
		{"Who founded Acme?", "name", "It was Mirthe Dolan.", "It was founded here by Acme."},
		{"Which company makes the lamps?", "name", "The lamps come from Brightside.", "We make all lamps here."},
		{"What is the street address of the shop?", "address", "You find us at Market Street 12.", "You find us in town."},
		{"What is your phone number?", "phone", "Call +31 13 555 0142.", "Call us."},
		{"What's your e-mail address?", "email", "care@acme.example", "write to us"},
		{"How tall is it?", "size", "1.62 m high", "very high"},
		{"Is it free?", "", "", ""},
	} {
		e := expects(c.question)
		if e == nil {
			if c.want != "" {
				t.Errorf("%q asks for nothing, want %s", c.question, c.want)
			}
			continue
		}
		if e.name != c.want {
			t.Errorf("%q asks for %s, want %s", c.question, e.name, c.want)
		}
		in := &inquiry{expects: e, asked: words(c.question)}
		if ok, _ := in.meets(c.met, words(c.met)); !ok {
			t.Errorf("%q doesn't meet %s", c.met, e.name)
		}
		if ok, _ := in.meets(c.unmet, words(c.unmet)); ok {
			t.Errorf("%q meets %s", c.unmet, e.name)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("It's 3.5 kg, isn’t it? A7 — £5")
	f.Add("é 1,0 a'b '' .5")
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for _, w := range words(text) {
			if w.start < last || w.end <= w.start || w.end > len(text) {
				t.Fatalf("word [%d:%d] after %d", w.start, w.end, last)
			}
			last = w.end
		}
		(&inquiry{expects: expects(text), asked: words(text)}).meets(text, words(text))
	})
}
