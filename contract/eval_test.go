package contract

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The search is measured on a small collection in BEIR's format: words find what meaning can't, and the other way round.
func TestEvalRetrieval(t *testing.T) {
	needModels(t)
	dir, out := filepath.Join(t.TempDir(), "tiny"), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "qrels"), 0o755); err != nil {
		t.Fatal(err)
	}
	var corpus strings.Builder
	for id, text := range map[string]string{
		"code":   "Error XK-4471 is shown when the charger does not answer.",
		"other":  "Error XK-4482 is shown when the display does not answer.",
		"animal": "The feline slept on the sofa all afternoon.",
		"far":    "Quarterly revenue rose by four percent in the northern region.",
	} {
		line, err := json.Marshal(map[string]string{"_id": id, "title": "", "text": text})
		if err != nil {
			t.Fatal(err)
		}
		corpus.Write(append(line, '\n'))
	}
	writeFile(t, filepath.Join(dir, "corpus.jsonl"), corpus.String())
	writeFile(t, filepath.Join(dir, "queries.tsv"), "1\tXK-4471\n2\twhere was the cat\n")
	writeFile(t, filepath.Join(dir, "qrels", "test.tsv"), "query-id\tcorpus-id\tscore\n1\tcode\t1\n2\tanimal\t1\n")
	report, plot := filepath.Join(out, "report.json"), filepath.Join(out, "plot.svg")
	table := quipu(t, "eval", "retrieval", "--beir", dir, "--report", report, "--plot", plot).ok(t)
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data                 string
		Documents, Questions int
		Arms                 []struct {
			Arm     string
			Metrics map[string]struct{ Mean float64 }
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Data != "tiny" || got.Documents != 4 || got.Questions != 2 || len(got.Arms) != 3 || !strings.Contains(table, "| fused |") {
		t.Fatalf("%s\n%s", text, table)
	}
	words, fused := got.Arms[0].Metrics["nDCG@10"].Mean, got.Arms[2].Metrics["nDCG@10"].Mean
	if got.Arms[0].Arm != "BM25" || words != .5 || fused != 1 {
		t.Errorf("nDCG@10 is %g by words and %g fused, want .5 and 1", words, fused)
	}
	if svg, err := os.ReadFile(plot); err != nil || !strings.HasPrefix(string(svg), "<svg") {
		t.Errorf("plot: %.20s, %v", svg, err)
	}
	if r := quipu(t, "eval", "retrieval", "--beir", out); r.code != 1 || !strings.Contains(r.stderr, "holds no documents") {
		t.Errorf("a folder without data: %d, %s", r.code, r.stderr)
	}
}
