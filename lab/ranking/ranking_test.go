package ranking

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}

func TestMetrics(t *testing.T) {
	g := Grades{"a": 2, "b": 1, "c": 0, "d": 1}
	ranked := strings.Fields("x a c b y")
	// (2/log2(3) + 1/log2(5)) / (2 + 1/log2(3) + 1/log2(4))
	near(t, "nDCG@10", NDCG(ranked, g, 10), (2/math.Log2(3)+1/math.Log2(5))/(2+1/math.Log2(3)+.5))
	near(t, "nDCG@1", NDCG(ranked, g, 1), 0)
	near(t, "nDCG of the ideal", NDCG(strings.Fields("a d b"), g, 10), 1)
	near(t, "recall@2", Recall(ranked, g, 2), 1./3)
	near(t, "recall@10", Recall(ranked, g, 10), 2./3)
	near(t, "MRR", ReciprocalRank(ranked, g, 10), .5)
	near(t, "MRR@1", ReciprocalRank(ranked, g, 1), 0)
	near(t, "MAP", AveragePrecision(ranked, g), (1./2+2./4)/3)
	for name, v := range map[string]float64{"nDCG": NDCG(nil, g, 10), "recall": Recall(nil, g, 10), "MRR": ReciprocalRank(nil, g, 10), "MAP": AveragePrecision(nil, g),
		"nDCG without judgements": NDCG(ranked, nil, 10), "recall without": Recall(ranked, nil, 10), "MAP without": AveragePrecision(ranked, nil)} {
		near(t, name, v, 0)
	}
}

func TestBootstrap(t *testing.T) {
	values := make([]float64, 400)
	for i := range values {
		values[i] = float64(i % 2)
	}
	got := Bootstrap(values)
	near(t, "mean", got.Mean, .5)
	// A mean of 400 coins has a standard error of .025.
	if math.Abs(got.Low-.451) > .01 || math.Abs(got.High-.549) > .01 {
		t.Errorf("interval [%g, %g], want about [.451, .549]", got.Low, got.High)
	}
	if again := Bootstrap(values); again != got {
		t.Errorf("%v, then %v", got, again)
	}
	if one := Bootstrap([]float64{.3}); one != (Interval{.3, .3, .3}) || Bootstrap(nil) != (Interval{}) {
		t.Errorf("of one value %v", one)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	var content bytes.Buffer
	if strings.HasSuffix(name, ".gz") {
		z := gzip.NewWriter(&content)
		if _, err := io.WriteString(z, text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		content.WriteString(text)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

const corpus = `{"_id": "d1", "title": "One", "text": "first"}

{"_id": "d2", "title": "", "text": "second"}
`

func TestBEIR(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"BEIR": {"corpus.jsonl": corpus, "queries.jsonl": `{"_id": "q1", "text": "which"}` + "\n" + `{"_id": "q2", "text": "unjudged"}` + "\n",
			"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td1\t0\n"},
		"trec_eval, compressed": {"corpus.jsonl.gz": corpus, "queries.test.tsv": "q2\tunjudged\nq1\twhich\n", "qrels.test.txt.gz": "q1 0 d2 1\nq1 0 d1 0\n"},
	} {
		dir := filepath.Join(t.TempDir(), "nice")
		for file, text := range files {
			write(t, dir, file, text)
		}
		b, err := OpenBEIR(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Name != "nice" || len(b.Questions) != 1 || b.Questions[0].ID != "q1" || b.Questions[0].Text != "which" || b.Questions[0].Grades["d2"] != 1 {
			t.Errorf("%s: %+v", name, b)
		}
		var got []Document
		for d, err := range b.Documents() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		}
		if len(got) != 2 || got[0] != (Document{"d1", "One", "first"}) || got[1].ID != "d2" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestBEIRRefuses(t *testing.T) {
	good := map[string]string{"corpus.jsonl": corpus, "queries.tsv": "q1\twhich\n", "qrels.txt": "q1 0 d2 1\n"}
	for mention, change := range map[string]map[string]string{
		"no documents":    {"corpus.jsonl": ""},
		"no questions":    {"queries.tsv": ""},
		"no judgements":   {"qrels.txt": ""},
		"2 fields":        {"qrels.txt": "q1 d2\n"},
		"the grade":       {"qrels.txt": "q1 0 d2 1\nq1 0 d3 x\n"},
		"has a judgement": {"qrels.txt": "q9 0 d2 1\n"},
		"line 3: it has":  {"corpus.jsonl": corpus[:strings.Index(corpus, `{"_id": "d2"`)] + `{"text": "x"}`},
		"line 1: invalid": {"corpus.jsonl": "xx"},
	} {
		dir := t.TempDir()
		for name, text := range good {
			if changed, ok := change[name]; ok {
				text = changed
			}
			if text != "" {
				write(t, dir, name, text)
			}
		}
		b, err := OpenBEIR(dir)
		if err == nil {
			for _, err = range b.Documents() {
				if err != nil {
					break
				}
			}
		}
		if err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%v, want something of %q", err, mention)
		}
	}
}

func TestReport(t *testing.T) {
	grades := []Grades{{"a": 1}, {"b": 1}}
	worse := Measure("BM25 <&>", [][]string{{"x", "a"}, {"b"}}, grades, []float64{3, 1})
	better := Measure("fused", [][]string{{"a"}, {"b"}}, grades, []float64{2, 2})
	near(t, "nDCG@10", worse.Means["nDCG@10"].Mean, (1/math.Log2(3)+1)/2)
	near(t, "p50", worse.P50, 1)
	near(t, "p95", worse.P95, 3)
	near(t, "difference", Difference(worse, better, "nDCG@10").Mean, (1-1/math.Log2(3))/2)
	r := Report{Data: "nice", Documents: 2, Questions: 2, Arms: []Metrics{worse, better}}
	table := r.Table()
	for _, want := range []string{"| BM25 <&> | 0.815 [", "| fused | 1.000 [1.000, 1.000] |", "fused over BM25 <&>: nDCG@10 +0.185"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	d := xml.NewDecoder(bytes.NewReader(r.Plot()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot: %v", err)
		}
	}
}
