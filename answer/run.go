package answer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

// run is one question on its way. It belongs to one goroutine.
type run struct {
	a      *Answerer
	q      Question
	yield  func(Event, error) bool
	left   bool // the reader has gone
	began  time.Time
	answer *Answer

	talk     *conversation
	inquiry  *inquiry
	hits     []retrieval.Hit
	evidence []*evidence // best first
	sure     float64     // the probability that it answers the question
	texts    map[string]string

	text  strings.Builder // of the answer
	runes int
	used  map[*cutUnit]bool // units cited so far
}

// errLeft ends a run whose reader has gone.
var errLeft = errors.New("the reader has gone")

func newRun(a *Answerer, q Question, yield func(Event, error) bool) *run {
	q.TopK = cmp.Or(q.TopK, a.config.TopK)
	q.MaxTokens = cmp.Or(q.MaxTokens, a.config.MaxTokens)
	return &run{a: a, q: q, yield: yield, began: time.Now(), texts: make(map[string]string), used: make(map[*cutUnit]bool),
		answer: &Answer{Citations: []Citation{}, Unsupported: []Span{}, Model: a.generator.Info().Name, Finish: engine.FinishStop}}
}

// do retrieves, judges, packs, generates, checks and cites.
func (r *run) do(ctx context.Context) error {
	defer r.finish()
	var err error
	if r.talk, err = newConversation(r.q.Messages); err != nil {
		return err
	}
	if err := r.a.fits(ctx, r.q, r.talk); err != nil {
		return err
	}
	if r.hits, err = r.a.search(ctx, r.q, r.talk.standalone); err != nil {
		return err
	}
	r.answer.Timings.RetrieveMS = since(r.began)
	prompt, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if !r.answerable() {
		return r.abstain()
	}
	if r.contested() {
		if err := r.quote(ctx); err != nil {
			return err
		}
		return r.count(ctx, prompt)
	}
	if err := r.generate(ctx, prompt.request); err != nil {
		return err
	}
	if r.runes == 0 {
		return r.abstain()
	}
	return nil
}

// prepare judges the evidence and packs the passages that hold the best of it.
func (r *run) prepare(ctx context.Context) (*packed, error) {
	began := time.Now()
	defer func() { r.answer.Timings.CheckMS += since(began) }()
	if len(r.hits) == 0 {
		return nil, nil
	}
	var err error
	if r.inquiry, r.evidence, err = r.a.cutter.judge(ctx, r.talk.core, r.hits); err != nil {
		return nil, err
	}
	scored := r.evidence[:min(len(r.evidence), r.a.config.Scored)]
	if err := likelihood(ctx, r.a.generator, r.q.Key, r.inquiry, r.hits, scored); err != nil {
		return nil, err
	}
	rerank(scored, r.evidence[len(scored):])
	var order []retrieval.Hit
	seen := make(map[int]bool)
	for _, e := range r.evidence {
		if !seen[e.hit] {
			seen[e.hit] = true
			order = append(order, r.hits[e.hit])
		}
	}
	if len(order) == 0 {
		return nil, nil
	}
	prompt, err := r.a.pack(ctx, r.q, r.talk, order)
	if err != nil {
		return nil, err
	}
	r.answer.Hits = prompt.hits
	r.keepPacked()
	return prompt, nil
}

// rerank orders the candidates by what the chat model thinks of them too. The others stay behind them.
func rerank(candidates, others []*evidence) {
	if len(candidates) == 0 {
		return
	}
	for _, e := range candidates {
		e.rank = rankModel.logit(e.features.vector())
	}
	rankEvidence(candidates)
	for _, e := range others {
		e.rank = min(e.rank, candidates[len(candidates)-1].rank)
	}
}

// keepPacked drops the evidence of passages that aren't in the prompt.
func (r *run) keepPacked() {
	packed := make(map[string]bool)
	for _, h := range r.answer.Hits {
		packed[h.Passage.ID] = true
	}
	r.evidence = slices.DeleteFunc(r.evidence, func(e *evidence) bool { return !packed[r.hits[e.hit].Passage.ID] })
}

// answerable estimates whether the evidence answers the question, and decides. A question for a figure or a name is not
// answered by evidence without one, whatever else the two share.
func (r *run) answerable() bool {
	if len(r.evidence) == 0 || !r.meets() {
		return false
	}
	r.sure = sigmoid(answerableModel.logit(situation(r.evidence)))
	return r.sure >= r.a.config.Answerable
}

// meets reports that evidence about as good as the best holds what is asked for, if that can be told.
func (r *run) meets() bool {
	for _, e := range r.evidence {
		if e.rank < r.evidence[0].rank-metMargin {
			break
		}
		if e.features.Unmet == 0 {
			return true
		}
	}
	return false
}

// contested reports that several pieces of evidence are about as good, and the model too small to be asked which: they are
// quoted, and nothing is generated.
func (r *run) contested() bool {
	return !r.trusted() && !r.a.config.MarkUnsupported && r.a.config.Quotes > 1 && len(r.evidence) > 1 &&
		r.evidence[1].rank >= r.evidence[0].rank-quoteMargin
}

// trusted reports a model that may choose among what the evidence says.
func (r *run) trusted() bool { return r.a.generator.Info().Parameters >= r.a.config.Trusted }

// count is the usage of an answer that was quoted without generating: the prompt that was packed for it, and itself.
func (r *run) count(ctx context.Context, prompt *packed) error {
	answer, err := r.a.generator.Tokenize(ctx, r.text.String())
	r.answer.Usage = engine.Usage{PromptTokens: prompt.tokens, GeneratedTokens: len(answer)}
	return err
}

// generate reads the model's answer and delivers each sentence once it is complete and checked. It stops listening when
// a sentence adds nothing.
func (r *run) generate(ctx context.Context, request *engine.Request) error {
	stream, err := r.a.generator.Generate(ctx, request)
	if err != nil {
		return err
	}
	defer stream.Close()
	var buffer strings.Builder
	done := 0 // bytes of buffer that were delivered
	for {
		e, err := stream.Recv(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		buffer.WriteString(e.Text)
		r.answer.Usage = e.Usage
		r.time(e.Timings) // of each event: the last one is not waited for when nothing more is worth reading
		ended := e.Finish != ""
		if ended {
			r.answer.Finish = e.Finish
		}
		text := buffer.String()
		units := segment(text[done:], "")
		if !ended && len(units) > 0 {
			units = units[:len(units)-1] // may still grow
		}
		at := done
		for _, u := range units {
			done = at + u.end
			more, err := r.sentence(ctx, u.plain(text[at:]))
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (r *run) time(t engine.Timings) {
	r.answer.Timings.QueueMS = milliseconds(t.Queue)
	r.answer.Timings.PrefillMS = milliseconds(t.Prefill)
	r.answer.Timings.FirstTokenMS = milliseconds(t.FirstToken)
	r.answer.Timings.DecodeMS = milliseconds(t.Decode)
}

// sentence checks one sentence of the model and delivers it, or what the passages say instead. It reports whether more
// sentences are worth reading.
func (r *run) sentence(ctx context.Context, text string) (bool, error) {
	began := time.Now()
	defer func() { r.answer.Timings.CheckMS += since(began) }()
	vectors, err := r.a.cutter.embed(ctx, []string{clip(text)})
	if err != nil {
		return false, err
	}
	cl := newClaim(text, vectors[0])
	s := align(cl, r.inquiry, r.evidence)
	supported := s.probability >= r.a.config.Support
	switch {
	case supported && r.answers(cl, s):
		return true, r.say(ctx, text, s.units, s.probability)
	case !supported && r.a.config.MarkUnsupported:
		return true, r.mark(text)
	case r.runes == 0:
		return true, r.quote(ctx)
	default:
		return false, nil
	}
}

// quote answers with the best evidence as it stands, and with what comes close to it, in the order of the documents where
// it is from one passage.
func (r *run) quote(ctx context.Context) error {
	quoted := r.evidence[:1]
	for len(quoted) < min(r.a.config.Quotes, len(r.evidence)) && r.evidence[len(quoted)].rank >= r.evidence[0].rank-quoteMargin {
		quoted = r.evidence[:len(quoted)+1]
	}
	quoted = slices.Clone(quoted)
	for _, e := range quoted {
		if next := r.behind(e); next != nil && len(e.unit.words) <= briefWords && !slices.Contains(quoted, next) {
			quoted = append(quoted, next)
		}
	}
	place := func(e *evidence) int { // of its passage among the quoted ones
		return slices.IndexFunc(r.evidence, func(o *evidence) bool { return o.hit == e.hit })
	}
	slices.SortStableFunc(quoted, func(x, y *evidence) int {
		return cmp.Or(cmp.Compare(place(x), place(y)), cmp.Compare(x.unit.index, y.unit.index))
	})
	for _, e := range quoted {
		if err := r.say(ctx, ended(joinLead(e.unit.lead, e.unit.plain)), []*evidence{e}, r.sure); err != nil {
			return err
		}
	}
	return nil
}

// behind is the evidence that goes on where e ends; nil where another block begins, or a row.
func (r *run) behind(e *evidence) *evidence {
	i := slices.IndexFunc(r.evidence, func(o *evidence) bool { return o.hit == e.hit && o.unit.index == e.unit.index+1 })
	if i < 0 || e.unit.kind == row || r.evidence[i].unit.kind != e.unit.kind || !slices.Equal(r.evidence[i].unit.path, e.unit.path) {
		return nil
	}
	return r.evidence[i]
}

// ended closes a quote that does not end like a sentence, as rows and items don't, so that another may follow.
func ended(text string) string {
	last, _ := utf8.DecodeLastRuneInString(text)
	if unicode.IsLetter(last) || unicode.IsDigit(last) || strings.ContainsRune("%€$£)°", last) {
		return text + "."
	}
	return text
}

// answers decides whether a supported sentence is an answer: it rests on evidence about as good as the best, holds what
// was asked for if that does, and says something new. One that repeats its evidence may rest on some further from the best.
// That of a small model must also leave nothing out: such a model picks one of several figures as it comes.
func (r *run) answers(cl *claim, s support) bool {
	best, on := r.evidence[0], s.units[0]
	margin := rankMargin
	if s.probability >= repeats {
		margin = repeatMargin
	}
	if r.used[on.unit] || !r.inquiry.learns(cl.words) || on.rank < best.rank-margin {
		return false
	}
	if !r.trusted() && !r.inquiry.complete(cl, on.unit) {
		return false
	}
	found, known := r.inquiry.meets(cl.text, cl.all)
	return r.runes > 0 || !known || found || best.features.Met == 0
}

// say delivers a supported sentence with its citations.
func (r *run) say(ctx context.Context, text string, units []*evidence, probability float64) error {
	start, end := r.append(text)
	for _, e := range units {
		c, err := r.cite(ctx, e)
		if err != nil {
			return err
		}
		c.AnswerStart, c.AnswerEnd, c.Support = start, end, probability
		r.answer.Citations = append(r.answer.Citations, c)
		r.used[e.unit] = true
	}
	return r.deliver(text, start)
}

// mark delivers a sentence that nothing supports, and says so.
func (r *run) mark(text string) error {
	start, end := r.append(text)
	r.answer.Unsupported = append(r.answer.Unsupported, Span{Text: text, Start: start, End: end})
	return r.deliver(text, start)
}

// abstain makes the abstention the whole answer.
func (r *run) abstain() error {
	r.answer.Abstained = true
	start, _ := r.append(r.a.config.Abstention)
	return r.deliver(r.a.config.Abstention, start)
}

// append adds a sentence to the answer and gives its span in code points.
func (r *run) append(text string) (start, end int) {
	if r.runes > 0 {
		r.text.WriteByte(' ')
		r.runes++
	}
	start = r.runes
	r.text.WriteString(text)
	r.runes += utf8.RuneCountInString(text)
	return start, r.runes
}

func (r *run) deliver(text string, start int) error {
	if start > 0 {
		text = " " + text
	}
	if !r.yield(Event{Delta: text}, nil) {
		r.left = true
		return errLeft
	}
	return nil
}

// cite places a unit in its document's text, in code points.
func (r *run) cite(ctx context.Context, e *evidence) (Citation, error) {
	p := r.hits[e.hit].Passage
	text, ok := r.texts[p.DocumentID]
	if !ok {
		var err error
		if text, err = r.a.library.Text(ctx, p.DocumentID); err != nil {
			return Citation{}, err
		}
		r.texts[p.DocumentID] = text
	}
	quote := p.Text[e.unit.start:e.unit.end]
	start, end := p.Start+e.unit.start, p.Start+e.unit.end
	if end > len(text) || text[start:end] != quote {
		return Citation{}, ErrDocumentChanged
	}
	first := utf8.RuneCountInString(text[:start])
	return Citation{File: p.File, Title: p.Title, Passage: p.ID, Heading: e.unit.path, Quote: quote,
		Start: first, End: first + utf8.RuneCountInString(quote)}, nil
}

func (r *run) finish() {
	r.answer.Answer = r.text.String()
	r.answer.Timings.TotalMS = since(r.began)
}

func since(t time.Time) float64 { return milliseconds(time.Since(t)) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
