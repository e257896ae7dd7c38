package bench

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// passage is a text about one fictional piece of equipment.
type passage struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// author writes texts that look like manuals and are of no machine. What it writes depends on its seed alone.
type author struct{ *rand.Rand }

// newAuthor gives the i-th text of a kind an author of its own, so that no text depends on who asked first.
func newAuthor(seed uint64, kind string, i int) author {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", kind, i)
	return author{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

func (a author) pick(words []string) string { return words[a.IntN(len(words))] }

// name names a machine.
func (a author) name() string {
	return fmt.Sprintf("%s%s%s %d", a.pick(heads), a.pick(middles), a.pick(tails), 100+a.IntN(900))
}

// passage writes exactly n words.
func (a author) passage(n int) passage {
	name := a.name()
	return passage{Title: name + ": " + a.pick(chapters), Text: a.prose(name, n)}
}

func (a author) prose(name string, n int) string {
	var words []string
	for len(words) < n {
		words = append(words, strings.Fields(a.fill(a.pick(statements), name))...)
	}
	words = words[:n]
	words[n-1] = strings.TrimRight(words[n-1], ".,;") + "."
	return strings.Join(words, " ")
}

func (a author) question(name string) string { return a.fill(a.pick(questions), name) }

// fill puts words into a sentence's places.
func (a author) fill(sentence, name string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(sentence, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		place, after, _ := strings.Cut(rest, "}")
		switch place {
		case "name":
			b.WriteString(name)
		case "n":
			fmt.Fprint(&b, 2+a.IntN(480))
		default:
			b.WriteString(a.pick(vocabulary[place]))
		}
		sentence = after
	}
}

var (
	heads    = []string{"Tav", "Bren", "Ost", "Mir", "Kel", "Dor", "Ven", "Sal", "Hul", "Pra", "Lor", "Zan", "Fen", "Gar", "Ild", "Nor"}
	middles  = []string{"o", "a", "e", "i", "u", "ira", "ane", "olo", "eri", "uma"}
	tails    = []string{"ren", "dax", "mil", "vek", "lun", "tor", "pas", "nix", "gan", "sor", "bel", "rim"}
	chapters = []string{"maintenance", "safety", "first start", "faults", "storage", "spare parts", "cleaning", "transport", "calibration", "wiring"}

	vocabulary = map[string][]string{
		"part": {"inlet valve", "drive belt", "control panel", "filter housing", "pressure gauge", "main bearing", "coolant pump", "drain hose",
			"power supply", "side cover", "feed roller", "heating plate", "relay board", "safety switch", "air duct", "spindle", "gearbox", "fuse holder"},
		"unit":   {"seconds", "minutes", "hours", "days", "litres", "grams", "degrees", "millimetres", "volts", "watts", "revolutions", "strokes"},
		"how":    {"slowly", "by hand", "with a torque wrench", "without force", "from the left side", "while the machine rests", "after each shift", "once a week"},
		"state":  {"worn", "loose", "dry", "blocked", "too warm", "open", "out of line", "covered with dust", "noisy", "discoloured"},
		"who":    {"the operator", "a trained fitter", "the night shift", "the service partner", "an electrician", "the store keeper"},
		"place":  {"workshop", "store room", "loading bay", "test bench", "boiler room", "second hall", "drying chamber", "yard"},
		"stuff":  {"grease", "distilled water", "light oil", "compressed air", "a lint-free cloth", "mild soap", "sealing paste", "a copper brush"},
		"colour": {"green", "amber", "red", "blue", "white", "violet"},
		"does":   {"stops", "restarts", "lowers its speed", "sounds an alarm", "closes the shutter", "writes an entry into the log", "asks for a code"},
		"adj":    {"spare", "front", "rear", "upper", "lower", "sealed", "flexible", "short", "reinforced", "early"},
	}

	statements = []string{
		"The {part} of the {name} is checked every {n} {unit} by {who}.",
		"If the {part} is {state}, the machine {does} and the {colour} lamp blinks {n} times.",
		"Clean the {adj} {part} with {stuff} and let it rest for {n} minutes before the next start.",
		"In the {place} the {name} needs a free space of {n} millimetres behind the {part}.",
		"A {state} {part} may be used for another {n} hours, but {who} must sign for it.",
		"Order the {adj} {part} under number {n} and the {part} under number {n}.",
		"The {part} is turned {how} until the scale shows {n} {unit}.",
		"Since the last revision, the {name} {does} when the {part} has run for {n} hours.",
		"Only {who} may open the {part}; the seal on the {adj} cover is {colour}.",
		"At temperatures below {n} degrees the {part} is warmed up {how}.",
		"The guarantee covers the {part} for {n} months unless it was treated with {stuff}.",
		"After {n} {unit} of work the {part} is {state} more often than the {adj} {part}.",
		"Between the {part} and the {part} there is a {adj} washer of {n} millimetres.",
		"Write down the reading of the {part} before {who} moves the {name} out of the {place}.",
		"Where the {colour} cable meets the {part}, a voltage of {n} volts is allowed.",
		"The {name} weighs {n} kilograms with its {part} and {n} without.",
	}

	questions = []string{
		"What must be done when the {part} of the {name} is {state}?",
		"How often does {who} check the {part} of the {name}?",
		"Which number does the {adj} {part} of the {name} have, and who may order it?",
		"What happens after {n} {unit} if nobody cleans the {part} of the {name} with {stuff}?",
		"How is the {part} of the {name} turned, and what does the {colour} lamp mean then?",
		"Explain why the {name} {does} in the {place} when its {part} is {state}.",
	}
)
