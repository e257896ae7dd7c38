package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// result is one question with what became of it.
type result struct {
	Way    string `json:"way"`
	Folder string `json:"folder"`
	question
	Answer  answer  `json:"got"`
	Verdict verdict `json:"verdict"`
}

// verdict is what an answer was worth.
type verdict struct {
	// Right: it holds all that was expected, and refuses nothing.
	Right bool `json:"right"`
	// Cited: a citation names the right file.
	Cited bool `json:"cited"`
	// Refused: it says that the documents don't hold the answer.
	Refused bool `json:"refused"`
	// Invented: it is wrong, or answers what can't be answered, in words that the documents don't have, and nothing marks it.
	Invented bool `json:"invented"`
}

var refusal = regexp.MustCompile(`(?i)\b(not|n't|no) (\w+ ){0,4}(in|from|by) (the|these|any|your) (\w+ )?(documents?|passages?|text)|(documents?|passages?|text) (do|does)(n't| not) |\bno information\b|\b(cannot|can't|unable to) (answer|find|provide|determine)|\bnot (mentioned|specified|stated|provided|available|given)\b|\bi don't know\b`)

func judge(q question, a answer) verdict {
	v := verdict{Refused: a.Abstained, Right: q.Answerable && !a.Abstained && q.right(a.Text)}
	for _, c := range a.Citations {
		v.Cited = v.Cited || q.holds(c.File)
	}
	v.Invented = !v.Right && !a.Abstained && !a.quotes()
	return v
}

func (q question) right(text string) bool {
	text = plainly(text)
	for _, group := range q.Expect {
		found := false
		for _, alternative := range group {
			found = found || strings.Contains(text, plainly(alternative))
		}
		if !found {
			return false
		}
	}
	return true
}

func (q question) holds(file string) bool {
	if file == q.File {
		return true
	}
	for _, other := range q.Also {
		if file == other {
			return true
		}
	}
	return false
}

var typography = strings.NewReplacer("\u00a0", " ", "\u202f", " ", "’", "'", "‑", "-", "**", "", "`", "")

func plainly(s string) string {
	return strings.Join(strings.Fields(typography.Replace(strings.ToLower(s))), " ")
}

// quotes reports an answer whose every unmarked word of content stands in what it cites or, for a plain prompt, was given. A
// table's row reads with the names of its columns, which stand elsewhere in the document.
func (a answer) quotes() bool {
	text := a.Text
	for _, s := range a.Unsupported {
		text = strings.Replace(text, s.Text, "", 1)
	}
	source := a.passages
	for _, c := range a.Citations {
		source += " " + c.Quote
	}
	have := make(map[string]bool)
	for _, w := range tokens(source) {
		have[w] = true
	}
	missing, total := 0, 0
	for _, w := range tokens(text) {
		total++
		if !have[w] {
			if strings.ContainsFunc(w, unicode.IsDigit) {
				return false
			}
			missing++
		}
	}
	// For a plain prompt that is not enough: the words of all passages make many sentences.
	if a.passages != "" {
		return strings.Contains(plainly(a.passages), strings.TrimRight(plainly(text), "."))
	}
	return missing*4 <= total
}

func tokens(s string) []string {
	return strings.FieldsFunc(plainly(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

const header = `| documents | way | right | of them cited right | refused wrongly | refused rightly | invented without a mark | median s |
|---|---|---|---|---|---|---|---|`

// table is one line a way.
func table(name string, results []result) string {
	var b strings.Builder
	for _, way := range []string{"quipu", "plain prompt"} {
		var right, cited, wrongly, rightly, invented, answerable, all int
		var took []float64
		for _, r := range results {
			if r.Way != way {
				continue
			}
			all++
			took = append(took, r.Answer.MS/1000)
			invented += count(r.Verdict.Invented)
			if !r.Answerable {
				rightly += count(r.Verdict.Refused)
				continue
			}
			answerable++
			right += count(r.Verdict.Right)
			cited += count(r.Verdict.Right && r.Verdict.Cited)
			wrongly += count(r.Verdict.Refused)
		}
		if all > 0 {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %.1f |\n", name, way, share(right, answerable), share(cited, right),
				share(wrongly, answerable), share(rightly, all-answerable), share(invented, all), median(took))
		}
	}
	return b.String()
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func share(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%d of %d (%d %%)", n, of, (100*n+of/2)/of)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
