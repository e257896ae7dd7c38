package contract

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// grounded is the object that carries a grounded answer: what `quipu ask --json` prints and chat completions hold as quipu.
type grounded struct {
	Answer      string
	Abstained   bool
	Citations   []citation
	Unsupported []struct {
		Text       string
		Start, End int
	}
	Timings map[string]float64
}

type citation struct {
	File, Passage, Quote string
	Start, End           int
	AnswerStart          int `json:"answer_start"`
	AnswerEnd            int `json:"answer_end"`
	Support              float64
}

// groundedKeys, citationKeys and timingKeys are the members that clients may rely on.
var (
	groundedKeys = []string{"answer", "abstained", "citations", "unsupported", "timings"}
	citationKeys = []string{"file", "passage", "quote", "start", "end", "answer_start", "answer_end", "support"}
	timingKeys   = []string{"queue_ms", "retrieve_ms", "prefill_ms", "first_token_ms", "decode_ms", "check_ms", "total_ms"}
	optionalKeys = []string{"title", "heading"} // of citations
)

// readGrounded reads the object and checks all of its form, its spans, and its quotes against the documents in a folder.
func readGrounded(t *testing.T, raw, documents string) grounded {
	t.Helper()
	members := decode[map[string]any](t, raw)
	wantKeys(t, members, groundedKeys, nil)
	for _, c := range members["citations"].([]any) {
		wantKeys(t, c.(map[string]any), citationKeys, optionalKeys)
	}
	wantKeys(t, members["timings"].(map[string]any), timingKeys, nil)
	g := decode[grounded](t, raw)
	if g.Answer == "" || g.Timings["total_ms"] <= 0 {
		t.Errorf("an answer without text or time: %s", raw)
	}
	if g.Abstained && len(g.Citations)+len(g.Unsupported) > 0 {
		t.Errorf("it abstains, and yet has citations or unsupported sentences: %s", raw)
	}
	for _, s := range g.Unsupported {
		if cut(g.Answer, s.Start, s.End) != s.Text {
			t.Errorf("at %d to %d of the answer stands %q, not %q", s.Start, s.End, cut(g.Answer, s.Start, s.End), s.Text)
		}
	}
	for _, c := range g.Citations {
		c.check(t, g.Answer, documents)
	}
	return g
}

func (c *citation) check(t *testing.T, answer, documents string) {
	t.Helper()
	if c.Passage == "" || c.Quote == "" || c.Support <= 0 || c.Support > 1 || c.End-c.Start != utf8.RuneCountInString(c.Quote) {
		t.Errorf("citation %+v", c)
	}
	if cut(answer, c.AnswerStart, c.AnswerEnd) == "" {
		t.Errorf("the citation's span %d to %d is not in the answer %q", c.AnswerStart, c.AnswerEnd, answer)
	}
	source, err := os.ReadFile(filepath.Join(documents, filepath.FromSlash(c.File)))
	if err != nil {
		t.Errorf("it cites a file that is not there: %v", err)
		return
	}
	switch filepath.Ext(c.File) {
	case ".md":
		if got := cut(extracted(string(source)), c.Start, c.End); got != c.Quote {
			t.Errorf("at %d to %d of %s stands %q, not the quote %q", c.Start, c.End, c.File, got, c.Quote)
		}
	case ".txt":
		if got := cut(string(source), c.Start, c.End); got != c.Quote {
			t.Errorf("at %d to %d of %s stands %q, not the quote %q", c.Start, c.End, c.File, got, c.Quote)
		}
	default: // its words are there, between tags
		for _, word := range strings.Fields(strings.Trim(c.Quote, "|# ")) {
			if !strings.Contains(string(source), strings.Trim(word, "|")) {
				t.Errorf("%s does not hold %q of the quote %q", c.File, word, c.Quote)
			}
		}
	}
}

// extracted is the text that is read from the Markdown of the sample documents, which use little of it.
func extracted(source string) string {
	return strings.ReplaceAll(source, "**", "")
}

// cut gives the code points from start to end; "" when there are none.
func cut(text string, start, end int) string {
	runes := []rune(text)
	if start < 0 || end > len(runes) || start >= end {
		return ""
	}
	return string(runes[start:end])
}

// wantKeys checks that an object has all of the members and no others but the optional ones.
func wantKeys(t *testing.T, members map[string]any, want, optional []string) {
	t.Helper()
	known := map[string]bool{}
	for _, key := range optional {
		known[key] = true
	}
	for _, key := range want {
		known[key] = true
		if _, ok := members[key]; !ok {
			t.Errorf("%q is missing in %v", key, members)
		}
	}
	for key := range members {
		if !known[key] {
			t.Errorf("%q is new in %v: the contract does not know it", key, members)
		}
	}
}

// wantCited checks an answer that must hold a text and cite a file.
func (g grounded) wantCited(t *testing.T, text, file string) {
	t.Helper()
	if g.Abstained || !strings.Contains(g.Answer, text) {
		t.Errorf("the answer %q does not hold %q", g.Answer, text)
	}
	for _, c := range g.Citations {
		if c.File == file {
			return
		}
	}
	t.Errorf("%s is not among the citations %+v", file, g.Citations)
}

func (g grounded) wantAbstained(t *testing.T) {
	t.Helper()
	if !g.Abstained {
		t.Errorf("instead of abstaining it says %q from %+v", g.Answer, g.Citations)
	}
}

// Questions to the sample documents that any model must get right here: how good answers are is measured elsewhere.
const (
	askedBattery  = "How long is the battery guaranteed?"
	wantedBattery = "2 years"
	wantedFile    = "warranty.md"
	askedPancakes = "Can you recommend a good recipe for pancakes?" // nothing answers it
)
