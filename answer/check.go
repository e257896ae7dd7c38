package answer

import "slices"

// A generated sentence is held against every unit of the packed passages.

// claim is a sentence of the model.
type claim struct {
	text   string
	words  []word // content words
	all    []word
	vector []float32
}

// support is what stands behind a claim.
type support struct {
	units       []*evidence // the best aligned unit first; never empty when probability is above 0
	probability float64
}

func newClaim(text string, vector []float32) *claim {
	all := words(text)
	return &claim{text: text, all: all, words: content(all), vector: vector}
}

// align finds the unit that a claim rests on, and the sentence beside it where a name is only there. A claim whose numbers
// or names don't stand there has no support, nor has one that denies what the unit says or says what it denies.
func align(cl *claim, in *inquiry, all []*evidence) support {
	var best *evidence
	var bestScore, bestOverlap float64
	for _, e := range all {
		overlap := cl.overlap(e.unit)
		if score := overlap + cosine(cl.vector, e.unit.bare); best == nil || score > bestScore {
			best, bestScore, bestOverlap = e, score, overlap
		}
	}
	if best == nil || len(cl.words) == 0 {
		return support{}
	}
	units := []*evidence{best}
	if missing := cl.missing(units); len(missing) > 0 {
		second := beside(best, all, missing)
		if second == nil {
			return support{units: units}
		}
		units = append(units, second)
		if len(cl.missing(units)) > 0 {
			return support{units: units[:1]}
		}
	}
	if negated(cl.all) != negatedUnits(units) || cl.foreign(in, units) > maxForeign {
		return support{units: units}
	}
	cos := cosine(cl.vector, best.unit.bare)
	return support{units: units, probability: sigmoid(supportBias + supportOverlap*bestOverlap + supportCosine*cos)}
}

// overlap is the share of the claim's content words that the unit and what stands above it hold.
func (cl *claim) overlap(u *cutUnit) float64 {
	if len(cl.words) == 0 {
		return 0
	}
	n := 0.0
	for _, w := range cl.words {
		switch {
		case u.stems[w.stem]:
			n++
		case u.isAbove(w.stem):
			n += 0.8
		}
	}
	return n / float64(len(cl.words))
}

// missing are the claim's numbers and names that neither the units nor what stands above them hold.
func (cl *claim) missing(units []*evidence) []word {
	var out []word
	for i, w := range cl.all {
		if w.stop || !w.number && !w.name {
			continue
		}
		next := ""
		if w.number && i+1 < len(cl.all) {
			next = cl.all[i+1].stem
		}
		if !slices.ContainsFunc(units, func(e *evidence) bool { return e.unit.states(w, next) || e.unit.isAbove(w.stem) }) {
			out = append(out, w)
		}
	}
	return out
}

// foreign is the share of the claim's content words that neither the units, nor what stands above them, nor the question hold.
func (cl *claim) foreign(in *inquiry, units []*evidence) float64 {
	n := 0
	for _, w := range cl.words {
		known := in.asks(w.stem) ||
			slices.ContainsFunc(units, func(e *evidence) bool { return e.unit.stems[w.stem] || e.unit.isAbove(w.stem) })
		if !known {
			n++
		}
	}
	return float64(n) / float64(len(cl.words))
}

// complete reports a claim that leaves out nothing asked for of what the unit says: all its figures where a figure is asked
// for, half of its words that the question doesn't have where anything else is.
func (in *inquiry) complete(cl *claim, u *cutUnit) bool {
	if in.expects != nil && in.expects.shape != nil {
		return in.things(cl.text) >= in.things(u.plain)
	}
	said, all := 0, 0
	for _, w := range content(u.words) {
		if in.asks(w.stem) {
			continue
		}
		all++
		if slices.ContainsFunc(cl.words, func(c word) bool { return c.stem == w.stem }) {
			said++
		}
	}
	return 2*said >= all
}

// states reports whether the unit holds a name or number. A number that is spelled out on one side counts only before
// the same word: two weeks are no 2 pieces.
func (u *cutUnit) states(w word, next string) bool {
	for i, o := range u.words {
		if o.stem != w.stem {
			continue
		}
		if !w.number || o.text == w.text || i+1 < len(u.words) && u.words[i+1].stem == next {
			return true
		}
	}
	return false
}

// beside finds the sentence before or behind a unit that holds a missing name. Rows are never joined: what is in one is not
// true of another; nor is a number taken from elsewhere than what it is said of.
func beside(unit *evidence, all []*evidence, missing []word) *evidence {
	if unit.unit.kind == row || slices.ContainsFunc(missing, func(w word) bool { return w.number }) {
		return nil
	}
	for _, e := range all {
		near := e.hit == unit.hit && (e.unit.index == unit.unit.index-1 || e.unit.index == unit.unit.index+1) && e.unit.kind != row
		if near && slices.ContainsFunc(missing, func(w word) bool { return e.unit.stems[w.stem] }) {
			return e
		}
	}
	return nil
}

func negatedUnits(units []*evidence) bool {
	for _, e := range units {
		if negated(e.unit.words) {
			return true
		}
	}
	return false
}
