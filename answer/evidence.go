package answer

import (
	"cmp"
	"context"
	"math"
	"slices"
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

// features say how a unit meets the question. All are about 0 to 1.
type features struct {
	Dense    float64 // cosine of the question and the unit under its heading
	Bare     float64 // cosine of the question and the unit alone
	Passage  float64 // cosine of the question and the whole passage
	Cover    float64 // share of the question's content that the unit, or what stands above it, has: by stem or by meaning
	Literal  float64 // the same, by stem and in the unit only
	Weakest  float64 // how well the worst covered content word is covered by the passage
	Weak     float64 // the same by the unit and what stands above it
	Missing  float64 // share of names and numbers of the question that the passage lacks
	Absent   float64 // the same of the unit and what stands above it
	Met      float64 // 1 when the unit holds the kind of thing asked for
	Unmet    float64 // 1 when it doesn't
	Heading  float64 // cover of the question by what stands above the unit
	Gain     float64 // nats per question token that the unit adds to the question's likelihood
	Question float64 // 1 when the unit is a question itself
	Focus    float64 // how well the first content word, what is asked about, is covered by the unit or above it
	Denies   float64 // 1 when the question denies and the unit doesn't
}

// inquiry is a question with what judging needs.
type inquiry struct {
	text    string
	expects *expectation
	words   []word // content words
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
	in := &inquiry{text: question, expects: expects(question)}
	asked := words(question)
	in.words = in.expects.ask(content(asked))
	in.phrases = phrases(in.words)
	in.denies = negated(asked)
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
			if !in.learns(p.units[i].words) {
				continue
			}
			e := &evidence{hit: h, unit: &p.units[i]}
			e.features = near.features(in, e.unit)
			e.features.Passage = hits[h].Dense
			e.score = evidenceModel.logit(e.features.vector())
			e.rank = e.score
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b *evidence) int { return cmp.Compare(b.score, a.score) })
	return in, all, nil
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

// coverage knows how well each content word of the question is met by one passage.
type coverage struct {
	meaning map[string][]float32
	passage []float64 // by anything in the passage
	before  []float64 // by the unit before the one that is looked at
	missing float64
}

func newCoverage(in *inquiry, p *cutPassage, meaning map[string][]float32) *coverage {
	c := &coverage{meaning: meaning, passage: make([]float64, len(in.words)),
		before: make([]float64, len(in.words))}
	names := 0
	for i, w := range in.words {
		for j := range p.units {
			u := &p.units[j]
			c.passage[i] = max(c.passage[i], c.nearest(w, in.phrases[i], u.words), c.nearest(w, in.phrases[i], u.above))
		}
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

func (c *coverage) features(in *inquiry, u *cutUnit) features {
	f := features{Dense: cosine(in.vector, u.vector), Bare: cosine(in.vector, u.bare), Weakest: 1, Weak: 1, Missing: c.missing}
	total, names := 0.0, 0.0
	next := make([]float64, len(in.words))
	for i, w := range in.words {
		weight := in.weights[i]
		total += weight
		own := c.nearest(w, in.phrases[i], u.words)
		above := c.nearest(w, in.phrases[i], u.above)
		next[i] = own
		f.Cover += weight * max(own, 0.9*above, 0.7*c.before[i], 0.5*c.passage[i])
		f.Heading += weight * above
		if u.stems[w.stem] {
			f.Literal += weight
		}
		f.Weakest = min(f.Weakest, max(own, c.passage[i]))
		f.Weak = min(f.Weak, max(own, above))
		if i == 0 {
			f.Focus = max(own, above)
		}
		if w.name {
			names++
			if own == 0 && above == 0 {
				f.Absent++
			}
		}
	}
	if names > 0 {
		f.Absent /= names
	}
	c.before = next
	if total > 0 {
		f.Cover /= total
		f.Heading /= total
		f.Literal /= total
	}
	if found, known := in.expects.met(joinLead(u.lead, u.plain)); known {
		if found {
			f.Met = 1
		} else {
			f.Unmet = 1
		}
	}
	if in.denies && !negated(u.words) {
		f.Denies = 1
	}
	if n := len(u.plain); n > 0 && u.plain[n-1] == '?' {
		f.Question = 1
	}
	return f
}

// likelihood asks the chat model how likely the question is after each of the candidates, against without any: what
// answers a question makes it likely. One batch.
func likelihood(ctx context.Context, g Generator, key string, in *inquiry, hits []retrieval.Hit, candidates []*evidence) error {
	if len(candidates) == 0 {
		return nil
	}
	question, err := g.Tokenize(ctx, " "+in.text)
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
		e.features.Gain = scores[i+1].Mean() - scores[0].Mean()
	}
	return nil
}
