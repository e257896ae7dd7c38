package answer

import (
	"regexp"
	"slices"
	"strings"
)

// expectation is the kind of thing that a question asks for.
type expectation struct {
	name string
	// asks recognises the question, in lower case.
	asks *regexp.Regexp
	// shape recognises the thing in a text; nil for a name, which is recognised by its capital.
	shape *regexp.Regexp
	// frame are the stems that only say what kind is asked for: "cost" in "what does it cost". They are not looked for
	// in the passages, the shape is.
	frame map[string]bool
}

const (
	aNumber = `(\d[\d.,]*|(an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|fifteen|twenty|thirty|forty|forty-five|fifty|sixty|ninety|several|few)\b)`
	aSpan   = `(seconds?|minutes?|hours?|days?|weeks?|months?|years?|nights?|decades?|hrs?|mins?|h|secs?)`
	aTime   = `\b` + aNumber + `[\s-]*(to|or|and|–|-)?[\s-]*(\d+|[a-z]+)?[\s-]*(business|working|calendar|full|consecutive)?[\s-]*` + aSpan + `\b|\b(immediately|instantly|same[ -]day|next[ -](\w+ )?day|overnight|lifetime|indefinitely|forever|permanently|until|never|always|24/7)\b`
	aLength = `\d\s?-?(mm|cm|m|km|in|inch(es)?|ft|feet|foot|miles?|met(er|re)s?|centimet(er|re)s?|millimet(er|re)s?|kilomet(er|re)s?|"|″|x|×)(\W|$)`
	aClock  = `\b\d{1,2}([:.]\d{2})?\s?(am|pm|a\.m|p\.m|o'clock|uhr)\b|\b\d{1,2}:\d{2}\b|\b(mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(mon|tue|wed|thu|fri|sat|sun)\b|\b(january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b|\b(1[5-9]|20)\d{2}\b|\b(daily|weekly|monthly|quarterly|yearly|annually|always|noon|midnight|weekdays?|weekends?|spring|summer|autumn|winter|century|around the clock|24/7|holidays?)\b`
)

// expectations are tried in order; the first that recognises the question is what it asks for.
var expectations = []expectation{
	{name: "email", asks: regexp.MustCompile(`\be-?mail address\b|\b(what|which)( is| are|'s)?( the| your)? (\w+ )?e-?mail\b`),
		shape: regexp.MustCompile(`[\w.+-]+@[\w-]+\.\w+`), frame: set("email e mail address")},
	{name: "phone", asks: regexp.MustCompile(`\b(phone|telephone|hotline|fax) ?number\b|\bnumber (can|do|should) i (call|ring|dial)\b`),
		shape: regexp.MustCompile(`\+?\d[\d\s().\-/–]{5,}\d`), frame: set("phone telephon number call")},
	{name: "web", asks: regexp.MustCompile(`\b(url|web ?site address|web address)\b`),
		shape: regexp.MustCompile(`(?i)https?://|www\.|\b[\w-]+\.(com|org|net|io|example|test|eu|de|uk|co|app|dev|ai|shop|store)\b`), frame: set("url websit web address")},
	{name: "discount", asks: regexp.MustCompile(`\b(what|which|how (much|big|large|high))\b.*\b(percentage|percent|discount|commission|interest rate|tax rate|reduction)\b`),
		shape: regexp.MustCompile(`(?i)\d\s?(%|percent|per cent)|[$€£¥₹]\s?\d|\d\s?(euros?|dollars?|pounds?)|\b(half|third|quarter)\b`), frame: set("percentag percent discount big large")},
	{name: "weight", asks: regexp.MustCompile(`\bweighs?\b|\b(what|which|maximum|minimum|net|total)\b.*\bweight\b|\bhow (heavy|light)\b`),
		shape: regexp.MustCompile(`(?i)\d\s?-?(kg|g|mg|lbs?|pounds?|oz|ounces?|tons?|tonnes?|grams?|kilograms?|kilos?)\b`), frame: set("weigh heav light")},
	{name: "notice", asks: regexp.MustCompile(`\bhow (far|long|much earlier|many days) (ahead|in advance|before(hand)?)\b`),
		shape: regexp.MustCompile(`(?i)` + aTime), frame: set("far long ahead advanc beforehand")},
	{name: "size", asks: regexp.MustCompile(`\bhow (big|large|tall|wide|deep|high|thick|far|broad)\b|\b(what|which)\b.*\b(dimensions?|diameter|height|width|depth|range)\b`),
		shape: regexp.MustCompile(`(?i)` + aLength + `|\d\s?(gb|mb|kb|tb|l|lit(er|re)s?|gigabytes?|megabytes?|mp|megapixels?|pages|characters|percent|%)\b`), frame: set("big large tall wid deep high dimens diamet width depth")},
	{name: "storage", asks: regexp.MustCompile(`\bhow (much|many) (\w+ )?(storage|memory|disk|space|data|ram|gb|mb|gigabytes|megabytes)\b`),
		shape: regexp.MustCompile(`(?i)\d\s?(gb|mb|kb|tb|gigabytes?|megabytes?|terabytes?)\b|\bunlimited\b`), frame: set("spac gb mb")},
	{name: "temperature", asks: regexp.MustCompile(`\b(what|which|how)\b.*\b(temperatures?|degrees|hot|cold)\b`),
		shape: regexp.MustCompile(`(?i)\d\s?(°|degrees|k\b|c\b|f\b)`), frame: set("temperatur degre hot cold")},
	{name: "money", asks: regexp.MustCompile(`\bhow much\b.*\b(costs?|pay|price|charged?|fees?|spend|deposit)\b|\bhow (expensive|cheap)\b|\b(what|which)\b.*\b(prices?|costs?|fees?|charge|deposit|surcharge|salary|budget)\b|\bhow much (is|are|for)\b|\bprice of\b`),
		shape: regexp.MustCompile(`(?i)[$€£¥₹]\s?\d|\d[\d.,]*\s?(dollars?|euros?|pounds?|cents?|francs?|kr|usd|eur|gbp|chf|sek|dkk|nok|jpy|p|€|£)(\W|$)|\b(usd|eur|gbp|chf|sek|nok|dkk)\s?\d|\bfree\b|\b(no|without) (extra |additional |any )?(costs?|charges?|fees?)\b|\d\s?%|\b(half|a third|a quarter)\b|\bdoesn't cost\b|\bincluded\b`), frame: set("cost pric pay charg fee much expensiv cheap")},
	{name: "duration", asks: regexp.MustCompile(`\bhow (soon|quickly|fast)\b|\bhow many (\w+ )?(seconds|minutes|hours|days|weeks|months|years)\b|\b(what|which)\b.*\b(lead time|turnaround|response time|delivery time|notice period|duration)\b|\bwithin (what|how)\b`),
		shape: regexp.MustCompile(`(?i)` + aTime), frame: set("long tak last soon quickl fast day hour week month year minut second tim")},
	{name: "duration or length", asks: regexp.MustCompile(`\bhow (long|old)\b`),
		shape: regexp.MustCompile(`(?i)` + aTime + `|` + aLength + `|\b(1[5-9]|20)\d{2}\b`), frame: set("long tak last tim old")},
	{name: "count", asks: regexp.MustCompile(`\bhow (many|often)\b|\bwhat (number|is the (maximum|minimum)( number)?)\b`),
		shape: regexp.MustCompile(`(?i)\d|\b(no|none|once|twice|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|fifty|hundred|unlimited|single|daily|weekly|monthly|annually|yearly|every|hourly|nightly|several)\b`), frame: set("many often number")},
	{name: "year", asks: regexp.MustCompile(`\b(what|which) year\b|\bwhen was\b.*\b(founded|established|started|built|created)\b`),
		shape: regexp.MustCompile(`\b(1[5-9]|20)\d{2}\b`), frame: set("year")},
	{name: "time", asks: regexp.MustCompile(`\bhow late\b|\b(what|which) (time|date|day|year|month|hours|days)\b|\b(what|which) are (the|your) (\w+ )?hours\b|\bat what time\b|\buntil when\b|\bwhen (is|are|does|do) (the|your|you) (\w+ )?(\w+ )?(open|close|start|begin|end)\b|\bwhen was\b`),
		shape: regexp.MustCompile(`(?i)` + aClock + `|` + aTime + `|\bday \d`), frame: set("tim dat day year month late")},
	{name: "when", asks: regexp.MustCompile(`\bwhen (can|will|do|does|is|are|should|must)\b`),
		shape: regexp.MustCompile(`(?i)` + aClock + `|` + aTime + `|\b(after|before|once|within|until|when|every|during|as soon as|by)\b`)},
	{name: "address", asks: regexp.MustCompile(`\b(what|which)\b.*\b(street|postal|mailing|full) address\b|\bon (what|which) street\b|\bwhat('s| is) (the|your) address\b`),
		shape: regexp.MustCompile(`\b\d{1,4}[a-z]?,? (\p{Lu}\p{L}+ )+(Street|Road|Lane|Avenue|Quay|Square|Row|Court|Drive|Place|Way|Hill|Walk|Terrace|Close|Park)\b|\b(Street|Road|Lane|Avenue|Allee|\p{L}*([Ss]trasse|[Ss]traße|[Gg]asse|[Pp]latz|[Ww]eg|allee))\b,? \d+|\b\d{4,5} \p{Lu}\p{L}+`), frame: set("street postal mail full address")},
	{name: "name", asks: regexp.MustCompile(`^\W*who('s| is| was| are| were| founded| invented| owns| runs| leads| started| created| designed| built| made| makes| produces| supplies)\b|\bname of (the|your) (\w+ )?(founder|ceo|owner|director|manager|maker|manufacturer|supplier|company)\b|\b(which|what) (make|company|university|college|manufacturer|brand|bank|firm|supplier|maker|newspaper|band|author|artist|architect|insurer|school)\b`)},
}

// plainSpaces makes spaces that keep a figure and its unit on one line into what a shape has there.
var plainSpaces = strings.NewReplacer("\u00a0", " ", "\u202f", " ", "\u2009", " ")

// expects says what a question asks for; nil when it is nothing that has a name here.
func expects(question string) *expectation {
	q := strings.ToLower(strings.ReplaceAll(question, "’", "'"))
	for i := range expectations {
		if expectations[i].asks.MatchString(q) {
			return &expectations[i]
		}
	}
	return nil
}

// meets says whether a text, split into words, holds the kind of thing asked for; known is false where that can't be told.
// A name counts when the question doesn't have it already.
func (in *inquiry) meets(text string, ws []word) (found, known bool) {
	switch e := in.expects; {
	case e == nil:
		return false, false
	case e.shape != nil:
		return e.shape.MatchString(plainSpaces.Replace(text)), true
	}
	return slices.ContainsFunc(ws, func(w word) bool {
		return w.proper && !in.asks(w.stem)
	}), true
}

// things are those of the kind asked for that a text holds and the question doesn't.
func (in *inquiry) things(text string) int {
	n := 0
	for _, thing := range in.expects.shape.FindAllString(plainSpaces.Replace(text), -1) {
		if !strings.Contains(strings.ToLower(in.text), strings.TrimRight(strings.ToLower(thing), "s .,;)")) {
			n++
		}
	}
	return n
}

// ask drops the frame from a question's content words, as long as something is left.
func (e *expectation) ask(ws []word) []word {
	if e == nil {
		return ws
	}
	var out []word
	for _, w := range ws {
		if !e.frame[w.stem] {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		return ws
	}
	return out
}
