package bench

import (
	"encoding/json"
	"slices"
	"strings"
)

// Workload is a kind of load with its defaults.
type Workload struct {
	Name     string
	About    string
	Clients  int
	Requests int
	Tokens   int // that each answer has; 0 where there are none

	plan func(Config) []phase
}

// phase is a part of a workload. It ends when its counted lanes have sent all their requests.
type phase struct {
	warm  bool // not measured
	lanes []lane
}

// lane is a number of clients that take requests from one list, in its order.
type lane struct {
	clients int
	count   int  // requests; 0: endless, until the phase's other lanes are through
	timed   bool // Config.Duration ends it, where that is set
	request func(i int) request
}

// The groups of calls that some workloads tell apart.
const (
	groupAll    = "all"
	groupWarm   = "warm-up"
	groupStream = "streams"
	groupLong   = "long prompts"
	groupIdle   = "before"
	groupCut    = "cancelled"
	groupAfter  = "after"
)

const (
	poolPassages  = 40
	ragPassages   = 4
	passageWords  = 180
	prefixWords   = 900
	warmPrefixes  = 4
	quoteWords    = 300
	embedInputs   = 64
	cutAfter      = 4
	longTokens    = 16
	mixedStreams  = 3
	cancelTokens  = 1024
	embedMinWords = 40
	embedMaxWords = 160
)

// Workloads lists all.
func Workloads() []Workload {
	return []Workload{
		{"rag", "a question about 4 of 40 passages of 180 words, in any combination; each passage was asked for once before", 8, 64, 64, rag},
		{"prefix-cold", "questions that share a prefix of 900 words which the server has not seen", 16, 32, 64, prefixCold},
		{"prefix-warm", "questions behind 4 prefixes of 900 words in turn, each asked for once before", 16, 64, 64, prefixWarm},
		{"short", "short questions", 16, 96, 64, short},
		{"single", "short questions of one client", 1, 16, 64, short},
		{"mixed", "3 streams of short questions while different prompts of 900 words arrive one after the other; --requests counts those", mixedStreams + 1, 12, 64, mixed},
		{"quote", "repeat a passage of 300 words, word by word", 1, 4, 384, quote},
		{"json", "records that follow a strict JSON schema", 16, 64, 200, jsonRecords},
		{"embed", "passages of 40 to 160 words to /v1/embeddings, 64 a request: 10,048 by default", 4, 157, 0, embed},
		{"cancel", "streams cancelled after 4 tokens, as many at a time as clients; then the first token of a new request", 16, 64, 8, cancel},
		{"overload", "prompts of 900 words and long answers: what completes and what fails", 16, 32, 512, overload},
	}
}

// Find finds a workload by its name.
func Find(name string) (Workload, bool) {
	all := Workloads()
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Workload{}, false
	}
	return all[i], true
}

// closed is the phase of a workload whose clients all do the same.
func (c Config) closed(next func(i int) request) phase {
	return phase{lanes: []lane{{clients: c.Clients, count: c.Requests, timed: true, request: next}}}
}

// warmUp sends n requests that are not measured.
func (c Config) warmUp(n int, next func(i int) request) phase {
	return phase{warm: true, lanes: []lane{{clients: c.Clients, count: n, request: next}}}
}

// ask is a question behind an optional system message, answered with exactly n tokens.
func (c Config) ask(group, system, question string, n int) request {
	b := chat{MaxTokens: n, IgnoreEOS: true}
	if system != "" {
		b.Messages = append(b.Messages, message{"system", system})
	}
	b.Messages = append(b.Messages, message{"user", question})
	return c.chat(group, b)
}

func (c Config) author(kind string, i int) author { return newAuthor(c.Seed, kind, i) }

// about is the i-th question of a kind, on a machine of its own.
func (c Config) about(kind string, i int) string {
	a := c.author(kind, i)
	return a.question(a.name())
}

const grounding = "Answer the question from the documents."

func rag(c Config) []phase {
	pool := make([]passage, poolPassages)
	for i := range pool {
		pool[i] = c.author("passage", i).passage(passageWords)
	}
	from := func(group string, which []int, question string, n int) request {
		documents := make([]passage, len(which))
		for i, p := range which {
			documents[i] = pool[p]
		}
		if c.Documents == DocumentsField {
			return c.chat(group, chat{MaxTokens: n, IgnoreEOS: true, Documents: documents,
				Messages: []message{{"system", grounding}, {"user", question}}})
		}
		var system strings.Builder
		system.WriteString(grounding)
		for _, d := range documents {
			system.WriteString("\n\n# " + d.Title + "\n" + d.Text)
		}
		return c.ask(group, system.String(), question, n)
	}
	return []phase{
		c.warmUp(poolPassages, func(i int) request { return from(groupWarm, []int{i}, c.about("warm", i), 1) }),
		c.closed(func(i int) request {
			a := c.author("rag", i)
			which := a.Perm(poolPassages)[:ragPassages]
			name, _, _ := strings.Cut(pool[which[0]].Title, ":")
			if c.Order == OrderCanonical {
				slices.Sort(which)
			}
			return from(groupAll, which, a.question(name), c.Tokens)
		}),
	}
}

// prefix writes the i-th long system message of a kind.
func (c Config) prefix(kind string, i int) string {
	p := c.author(kind, i).passage(prefixWords)
	return "You help with this equipment.\n\n# " + p.Title + "\n" + p.Text
}

func prefixCold(c Config) []phase {
	prefix := c.prefix("cold", 0)
	return []phase{c.closed(func(i int) request { return c.ask(groupAll, prefix, c.about("cold question", i), c.Tokens) })}
}

func prefixWarm(c Config) []phase {
	prefixes := make([]string, warmPrefixes)
	for i := range prefixes {
		prefixes[i] = c.prefix("warm", i)
	}
	return []phase{
		c.warmUp(warmPrefixes, func(i int) request { return c.ask(groupWarm, prefixes[i], c.about("first question", i), 1) }),
		c.closed(func(i int) request {
			return c.ask(groupAll, prefixes[i%warmPrefixes], c.about("warm question", i), c.Tokens)
		}),
	}
}

func short(c Config) []phase {
	return []phase{c.closed(func(i int) request { return c.ask(groupAll, "", c.about("short", i), c.Tokens) })}
}

func mixed(c Config) []phase {
	return []phase{{lanes: []lane{
		{clients: max(1, c.Clients-1), request: func(i int) request { return c.ask(groupStream, "", c.about("stream", i), c.Tokens) }},
		{clients: 1, count: c.Requests, timed: true, request: func(i int) request {
			return c.ask(groupLong, c.prefix("long", i), c.about("long question", i), longTokens)
		}},
	}}}
}

func quote(c Config) []phase {
	return []phase{c.closed(func(i int) request {
		p := c.author("quote", i).passage(quoteWords)
		return c.ask(groupAll, "", "Repeat this text word by word, and add nothing:\n\n"+p.Text, c.Tokens)
	})}
}

// record is the schema of the JSON workload: every string and list has an end, or a small model might not find one.
var record = json.RawMessage(`{"type": "json_schema", "json_schema": {"name": "record", "strict": true, "schema": {
"type": "object", "additionalProperties": false,
"required": ["name", "maker", "weight", "count", "state", "tags"],
"properties": {
"name": {"type": "string", "maxLength": 40}, "maker": {"type": "string", "maxLength": 40},
"weight": {"type": "number"}, "count": {"type": "integer"},
"state": {"type": "string", "enum": ["new", "in use", "worn", "scrapped"]},
"tags": {"type": "array", "minItems": 2, "maxItems": 4, "items": {"type": "string", "maxLength": 20}}}}}}`)

func jsonRecords(c Config) []phase {
	return []phase{c.closed(func(i int) request {
		a := c.author("json", i)
		p := a.passage(30)
		return c.chat(groupAll, chat{MaxTokens: c.Tokens, ResponseFormat: record,
			Messages: []message{{"user", "Make an inventory record, as JSON, of this machine. " + p.Title + ". " + p.Text}}})
	})}
}

func embed(c Config) []phase {
	return []phase{c.closed(func(i int) request {
		texts := make([]string, embedInputs)
		for n := range texts {
			a := c.author("embed", i*embedInputs+n)
			texts[n] = a.passage(embedMinWords + a.IntN(embedMaxWords-embedMinWords+1)).Text
		}
		return c.embed(groupAll, texts)
	})}
}

func cancel(c Config) []phase {
	probe := func(group string, from int) phase {
		return phase{lanes: []lane{{clients: 1, count: 1, request: func(i int) request {
			return c.ask(group, "", c.about(group, from+i), c.Tokens)
		}}}}
	}
	var phases []phase
	for from := 0; from < c.Requests; from += c.Clients {
		n := min(c.Clients, c.Requests-from)
		cut := phase{lanes: []lane{{clients: n, count: n, request: func(i int) request {
			r := c.ask(groupCut, "", c.about("cut", from+i), cancelTokens)
			r.cutAfter = cutAfter
			return r
		}}}}
		phases = append(phases, probe(groupIdle, from), cut, probe(groupAfter, from))
	}
	return phases
}

func overload(c Config) []phase {
	return []phase{c.closed(func(i int) request {
		return c.ask(groupAll, c.prefix("overload", i), c.about("overload question", i), c.Tokens)
	})}
}
