package answer

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// evidence is a unit of a retrieved passage, judged as an answer to the question.
type evidence struct {
	hit      int // index of the passage's hit
	unit     *cutUnit
	features features
	score    float64 // logit: how well it answers, before the chat model was asked
	rank     float64 // logit: the same after
}

// features say how a unit meets the question. All are about 0 to 1; what lies around a unit is the unit before and the one
// behind it in its passage, and what stands above it are title, headings, and the question that it answers.
type features struct {
	Dense   float64 // cosine of the question and the unit under its heading
	Bare    float64 // cosine of the question and the unit alone
	Back    float64 // cosine of the question and the unit behind the one before it
	Before  float64 // Dense of the unit before
	Behind  float64 // Dense of the unit behind
	Passage float64 // cosine of the question and the whole passage
	Literal float64 // share of the question's content that the unit has by stem
	Own     float64 // the same, of the unit or what stands above it, by stem or by meaning
	Above   float64 // the same, of what stands above it
	Near    float64 // the same, of all this and what lies around
	Wide    float64 // the same, of the passage
	Weak    float64 // how well the worst covered content word is covered by the unit and what stands above it
	Weakest float64 // the same by the passage
	Absent  float64 // share of names and numbers of the question that the unit and what stands above it lack
	Missing float64 // the same of the passage
	Met     float64 // 1 when the unit holds the kind of thing asked for
	Unmet   float64 // 1 when it doesn't
	Focus   float64 // how well the first content word, what is asked about, is covered by the unit or above it
	Denies  float64 // 1 when the question denies and the unit doesn't
	Short   float64 // 1 for a unit of a word or two, falling to 0 with length
	// Nats that the unit adds to the question's likelihood: per token, per content word, and for the word that gains least.
	Gain, GainWord, GainLeast float64
	// Nats by which the question's content words still surprise behind the unit: on average, and the most surprising one.
	Left, LeftMost float64
}

// inquiry is a question with what judging needs.
type inquiry struct {
	text    string
	expects *expectation
	asked   []word
	words   []word // of them, the content words
	weights []float64
	phrases []string // for each content word, itself with the content word next to it; or empty
	denies  bool
	vector  []float32
}

// judge scores every unit of the passages for the question, best first.
func (c *cutter) judge(ctx context.Context, question string, hits []retrieval.Hit) (*inquiry, []*evidence, error) {
	passages, err := c.cut(ctx, hits)
	if err != nil {
		return nil, nil, err
	}
	in := &inquiry{text: question, expects: expects(question), asked: words(question)}
	in.words = in.expects.ask(content(in.asked))
	in.phrases = phrases(in.words)
	in.denies = negated(in.asked)
	in.weigh(passages)
	vectors, err := c.embed(ctx, []string{clip(question)})
	if err != nil {
		return nil, nil, err
	}
	in.vector = vectors[0]
	meaning, err := c.wordVectors(ctx, vocabulary(in, passages))
	if err != nil {
		return nil, nil, err
	}
	var all []*evidence
	for h, p := range passages {
		near := newCoverage(in, p, meaning)
		for i := range p.units {
			u := &p.units[i]
			if isQuestion(u.plain) || isTitle(u.plain) || !in.learns(u.words) {
				continue
			}
			e := &evidence{hit: h, unit: u, features: near.features(in, i)}
			e.features.Passage = hits[h].Dense
			e.score = evidenceModel.logit(e.features.vector())
			e.rank = e.score
			all = append(all, e)
		}
	}
	sortEvidence(all)
	return in, all, nil
}

// sortEvidence puts the best first, before the chat model was asked.
func sortEvidence(all []*evidence) {
	slices.SortStableFunc(all, func(a, b *evidence) int { return cmp.Compare(b.score, a.score) })
}

// rankEvidence puts the best first, once it was.
func rankEvidence(all []*evidence) {
	slices.SortStableFunc(all, func(a, b *evidence) int { return cmp.Compare(b.rank, a.rank) })
}

// situation is what the evidence, best first, comes to: the greater of each feature of the first two.
func situation(all []*evidence) []float64 {
	x := all[0].features.vector()
	if len(all) > 1 {
		for i, other := range all[1].features.vector() {
			x[i] = max(x[i], other)
		}
	}
	return x
}

// weigh gives each content word of the question its weight: the rarer among the retrieved units, the heavier.
func (in *inquiry) weigh(passages []*cutPassage) {
	in.weights = make([]float64, len(in.words))
	total := 0
	for _, p := range passages {
		total += len(p.units)
	}
	for i, w := range in.words {
		n := 0
		for _, p := range passages {
			for _, u := range p.units {
				if u.stems[w.stem] {
					n++
				}
			}
		}
		in.weights[i] = math.Log(1 + float64(total+1)/(float64(n)+1))
	}
}

// phrases joins each word with a neighbour that stands at most a space away; names and numbers stay alone.
func phrases(ws []word) []string {
	out := make([]string, len(ws))
	for i := 1; i < len(ws); i++ {
		a, b := ws[i-1], ws[i]
		if b.start-a.end == 1 && !a.name && !b.name && !a.number && !b.number {
			out[i-1], out[i] = a.text+" "+b.text, a.text+" "+b.text
		}
	}
	return out
}

// asks reports a stem that the question has.
func (in *inquiry) asks(stem string) bool {
	return slices.ContainsFunc(in.asked, func(q word) bool { return q.stem == stem })
}

// learns reports words that say more than the question itself does.
func (in *inquiry) learns(ws []word) bool {
	for _, w := range ws {
		if !w.stop && !slices.ContainsFunc(in.words, func(q word) bool { return q.stem == w.stem }) {
			return true
		}
	}
	return false
}

// vocabulary are the words whose meaning is compared.
func vocabulary(in *inquiry, passages []*cutPassage) []string {
	var out []string
	for i, w := range in.words {
		out = append(out, w.text)
		if in.phrases[i] != "" {
			out = append(out, in.phrases[i])
		}
	}
	for _, p := range passages {
		for i := range p.units {
			for _, w := range slices.Concat(p.units[i].words, p.units[i].above) {
				if !w.stop && !w.number {
					out = append(out, w.text)
				}
			}
		}
	}
	return out
}

// coverage knows how well each content word of the question is met by each unit of one passage.
type coverage struct {
	meaning map[string][]float32
	passage *cutPassage
	own     [][]float64 // by the unit
	above   [][]float64 // by what stands above it
	wide    []float64   // by anything in the passage
	missing float64
}

func newCoverage(in *inquiry, p *cutPassage, meaning map[string][]float32) *coverage {
	c := &coverage{meaning: meaning, passage: p, wide: make([]float64, len(in.words))}
	for i := range p.units {
		u := &p.units[i]
		own, above := make([]float64, len(in.words)), make([]float64, len(in.words))
		for k, w := range in.words {
			own[k], above[k] = c.nearest(w, in.phrases[k], u.words), c.nearest(w, in.phrases[k], u.above)
			if w.number && u.spans(w) {
				own[k] = max(own[k], 0.9)
			}
			c.wide[k] = max(c.wide[k], own[k], above[k])
		}
		c.own, c.above = append(c.own, own), append(c.above, above)
	}
	names := 0
	for _, w := range in.words {
		if w.name {
			names++
			if !p.around[w.stem] {
				c.missing++
			}
		}
	}
	if names > 0 {
		c.missing /= float64(names)
	}
	return c
}

// nearest is how well a word, alone or with its neighbour, is met by the best of others: 1 for the same stem, less for a
// similar meaning, as that of "money back" and "refund". Names and
// numbers are met by themselves only: Japan and Germany mean similar things.
func (c *coverage) nearest(w word, phrase string, others []word) float64 {
	best := 0.0
	own, pair := c.meaning[w.text], c.meaning[phrase]
	for _, o := range others {
		if o.stem == w.stem {
			return 1
		}
		if w.name || w.number || o.stop || o.number {
			continue
		}
		other := c.meaning[o.text]
		best = max(best, cosine(own, other))
		if pair != nil && !strings.Contains(phrase, o.text) {
			best = max(best, cosine(pair, other))
		}
	}
	return soft(best)
}

// soft turns the cosine of two words into how far one stands for the other: unrelated words of MiniLM lie below 0.4,
// price and cost at 0.74.
func soft(cos float64) float64 { return 0.9 * min(1, max(0, (cos-0.35)/0.4)) }

// features of the i-th unit.
func (c *coverage) features(in *inquiry, i int) features {
	u := &c.passage.units[i]
	f := features{Dense: cosine(in.vector, u.vector), Bare: cosine(in.vector, u.bare), Back: cosine(in.vector, u.back), Weakest: 1, Weak: 1,
		Missing: c.missing, Short: max(0, 1-float64(len(u.words)-1)/7)}
	around := make([]int, 0, 2)
	if i > 0 {
		around = append(around, i-1)
		f.Before = cosine(in.vector, c.passage.units[i-1].vector)
	}
	if i+1 < len(c.passage.units) {
		around = append(around, i+1)
		f.Behind = cosine(in.vector, c.passage.units[i+1].vector)
	}
	total, names := 0.0, 0.0
	for k, w := range in.words {
		weight := in.weights[k]
		total += weight
		own, above := c.own[i][k], c.above[i][k]
		near := max(own, above)
		f.Own += weight * near
		f.Above += weight * above
		f.Weakest = min(f.Weakest, c.wide[k])
		f.Weak = min(f.Weak, near)
		f.Wide += weight * c.wide[k]
		if k == 0 {
			f.Focus = near
		}
		if w.name {
			names++
			if near == 0 {
				f.Absent++
			}
		}
		for _, other := range around {
			near = max(near, c.own[other][k])
		}
		f.Near += weight * near
		if u.stems[w.stem] {
			f.Literal += weight
		}
	}
	if names > 0 {
		f.Absent /= names
	}
	if total > 0 {
		for _, share := range []*float64{&f.Own, &f.Above, &f.Near, &f.Wide, &f.Literal} {
			*share /= total
		}
	}
	if found, known := in.meets(joinLead(u.lead, u.plain), u.words); known {
		if found {
			f.Met = 1
		} else {
			f.Unmet = 1
		}
	}
	if in.denies && !negated(u.words) {
		f.Denies = 1
	}
	return f
}

// spans reports a number that lies within a span of numbers in the unit.
func (u *cutUnit) spans(w word) bool {
	n, err := strconv.ParseFloat(w.stem, 64)
	return err == nil && slices.ContainsFunc(u.ranges, func(r [2]float64) bool { return r[0] <= n && n <= r[1] })
}

// likelihood asks the chat model how likely the question is after each of the candidates, against without any: what
// answers a question makes it likely, word by word. One batch.
func likelihood(ctx context.Context, g Generator, key string, in *inquiry, hits []retrieval.Hit, candidates []*evidence) error {
	if len(candidates) == 0 {
		return nil
	}
	question, err := g.Tokenize(ctx, " "+in.text)
	if err != nil {
		return err
	}
	spans, err := in.tokenSpans(ctx, g, len(question))
	if err != nil {
		return err
	}
	asks := make([]engine.ScoreAsk, 0, len(candidates)+1)
	for i := range len(candidates) + 1 {
		prompt := "Question:"
		if i > 0 {
			e := candidates[i-1]
			prompt = contextOf(hits[e.hit].Passage, e.unit) + "\n\nQuestion:"
		}
		tokens, err := g.Tokenize(ctx, prompt)
		if err != nil {
			return err
		}
		asks = append(asks, engine.ScoreAsk{Key: key, Prompt: tokens, Continuation: question})
	}
	scores, err := g.Score(ctx, asks)
	if err != nil {
		return err
	}
	for i, e := range candidates {
		e.features.gains(scores[i+1].Logprobs, scores[0].Logprobs, spans)
	}
	return nil
}

// tokenSpans finds the tokens [from, to) of each content word in the tokens of the question. Where tokens don't end with
// words the bounds are off by one, which the sums over them forgive.
func (in *inquiry) tokenSpans(ctx context.Context, g Generator, total int) ([][2]int, error) {
	text := " " + in.text
	count := func(end int) (int, error) {
		tokens, err := g.Tokenize(ctx, text[:end])
		return min(len(tokens), total), err
	}
	spans := make([][2]int, 0, len(in.words))
	for _, w := range in.words {
		from, err := count(w.start) // without the space before the word
		if err != nil {
			return nil, err
		}
		to, err := count(w.end + 1)
		if err != nil {
			return nil, err
		}
		if from < to {
			spans = append(spans, [2]int{from, to})
		}
	}
	return spans, nil
}

// gains compares the question's log-probabilities behind the unit with those behind nothing.
func (f *features) gains(with, without []float32, spans [][2]int) {
	for i := range with {
		f.Gain += float64(with[i]-without[i]) / float64(len(with))
	}
	for i, s := range spans {
		gain, left := 0.0, 0.0
		for t := s[0]; t < s[1]; t++ {
			gain += float64(with[t] - without[t])
			left -= float64(with[t])
		}
		f.GainWord += gain / float64(len(spans))
		f.Left += left / float64(len(spans))
		f.LeftMost = max(f.LeftMost, left)
		if i == 0 || gain < f.GainLeast {
			f.GainLeast = gain
		}
	}
}
