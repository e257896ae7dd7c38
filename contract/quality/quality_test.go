package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSample asks the real binary the sample's questions. The bounds are well below what is measured (docs/quality.md), so
// that only a real loss fails, not another processor's rounding.
func TestSample(t *testing.T) {
	quipu := os.Getenv("QUIPU_BIN")
	if quipu == "" {
		quipu = "../../bin/quipu"
	}
	quipu, err := filepath.Abs(quipu)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(quipu); err != nil {
		t.Fatalf("there is no binary to test: %v", err)
	}
	if models := os.Getenv("QUIPU_TEST_MODELS"); models != "" {
		t.Setenv("QUIPU_CACHE", filepath.Dir(models))
	}
	results, err := ask(t.Context(), quipu, "", "../../examples/lumen-bikes", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s", header, table("lumen-bikes", results))
	var right, cited, refused, answerable, invented int
	for _, r := range results {
		answerable += count(r.Answerable)
		right += count(r.Verdict.Right)
		cited += count(r.Verdict.Right && r.Verdict.Cited)
		refused += count(!r.Answerable && r.Verdict.Refused)
		invented += count(r.Verdict.Invented)
	}
	unanswerable := len(results) - answerable
	if 100*right < 60*answerable || 100*cited < 90*right || 100*refused < 60*unanswerable || 100*invented > 15*len(results) {
		t.Errorf("of %d answerable %d are right and %d of them cited; of %d unanswerable %d are refused; %d answers are invented",
			answerable, right, cited, unanswerable, refused, invented)
	}
}

func TestJudge(t *testing.T) {
	answerable := question{ID: "a", Answerable: true, File: "prices.md", Expect: [][]string{{"€4.90", "4.90 €"}, {"three days"}}}
	unanswerable := question{ID: "u"}
	quote := []citation{{File: "prices.md", Quote: "Standard takes three days and costs €4.90."}}
	for _, c := range []struct {
		name string
		q    question
		a    answer
		want verdict
	}{
		{"right", answerable, answer{Text: "It costs €4.90 and takes THREE days.", Citations: quote}, verdict{Right: true, Cited: true}},
		{"half", answerable, answer{Text: "It costs €4.90.", Citations: quote}, verdict{Cited: true}},
		{"invented figure", answerable, answer{Text: "It costs €3.50.", Citations: quote}, verdict{Cited: true, Invented: true}},
		{"marked", answerable, answer{Text: "It costs €3.50.", Unsupported: []span{{Text: "It costs €3.50."}}}, verdict{}},
		{"refused", unanswerable, answer{Text: "The documents don't say.", Abstained: true}, verdict{Refused: true}},
		{"quoted beside the point", unanswerable, answer{Text: "Standard takes three days and costs €4.90.", Citations: quote}, verdict{}},
		{"answered from nowhere", unanswerable, answer{Text: "It was founded by a sailor in spring."}, verdict{Invented: true}},
	} {
		if got := judge(c.q, c.a); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	for text, want := range map[string]bool{
		"That is not in the documents.": true, "The passages do not mention a founder.": true, "I cannot find this information.": true,
		"No, we do not deliver to Norway.": false, "It costs €4.90.": false,
	} {
		if got := refusal.MatchString(text); got != want {
			t.Errorf("%q is a refusal: %v", text, got)
		}
	}
}
