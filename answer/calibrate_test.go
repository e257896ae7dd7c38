//go:build cgo

package answer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
)

var fit = flag.Bool("fit", false, "fit weights.go anew to the questions of examples/ that are meant for it (some minutes)")

// The folders that weights are fitted to. Those of examples/held-out are never looked at here.
func calibrationFolders(t *testing.T) []string {
	t.Helper()
	folders, err := filepath.Glob("../examples/calibration/*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no folders to calibrate on: %v", err)
	}
	return append(folders, "../examples/lumen-bikes")
}

// asked is a line of questions.jsonl.
type asked struct {
	ID         string     `json:"id"`
	Question   string     `json:"question"`
	Answerable bool       `json:"answerable"`
	File       string     `json:"file"`
	Also       []string   `json:"also"`
	Expect     [][]string `json:"expect"`
}

func readAsked(t *testing.T, folder string) []asked {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "questions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out []asked
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var q asked
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			t.Fatalf("%s, line %d: %v", folder, len(out)+1, err)
		}
		out = append(out, q)
	}
	return out
}

// answers reports text of a file that holds everything expected.
func (q asked) answers(file, text string) bool {
	if !q.Answerable || file != q.File && !slices.Contains(q.Also, file) {
		return false
	}
	text = strings.ToLower(strings.ReplaceAll(text, "\u00a0", " "))
	for _, group := range q.Expect {
		if !slices.ContainsFunc(group, func(s string) bool { return strings.Contains(text, strings.ToLower(s)) }) {
			return false
		}
	}
	return true
}

func testModel(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("QUIPU_TEST_MODELS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no cache folder: %v", err)
		}
		dir = filepath.Join(cache, "quipu", "models")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is missing; `make test-models` gets it", path)
	}
	return path
}

// bench is the starter pair over one folder's documents.
type bench struct {
	engine   *engine.Engine
	embedder *native.Embedder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	e, err := native.LoadEmbedder(t.Context(), testModel(t, "all-MiniLM-L6-v2.f16.gguf"), native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	backend, err := native.Load(t.Context(), testModel(t, "SmolLM2-135M-Instruct.Q4_1.gguf"), native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := engine.New(backend, engine.DefaultConfig(), engine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return &bench{engine: g, embedder: e}
}

func (b *bench) answerer(t *testing.T, folder string) *Answerer {
	t.Helper()
	info := b.embedder.Info()
	c := base.Default(t.TempDir())
	c.Embedder = b.embedder
	c.Info = retrieval.EmbedderInfo{Name: info.Name, Dimensions: info.Dimensions, MaxInput: info.MaxInput}
	documents, err := base.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { documents.Close() })
	report, err := documents.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{filepath.Join(folder, "docs")}}, nil)
	if err != nil || report.Failed > 0 {
		t.Fatalf("%v, %+v", err, report)
	}
	a, err := New(Default(), documents, b.engine, b.embedder)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trial is one question with all its evidence.
type trial struct {
	asked
	inquiry  *inquiry
	hits     []retrieval.Hit
	evidence []*evidence
}

func (r *trial) right(e *evidence) bool {
	return r.answers(r.hits[e.hit].Passage.File, joinLead(e.unit.lead, e.unit.plain))
}

// group is the evidence as a choice among rows.
func (r *trial) group(candidates []*evidence) []sample {
	out := make([]sample, len(candidates))
	for i, e := range candidates {
		out[i] = sample{e.features.vector(), r.right(e)}
	}
	return out
}

// TestCalibrate fits weights.go with -fit: what stands first among the evidence, what stands first once the chat model was
// asked, and whether that answers the question.
func TestCalibrate(t *testing.T) {
	if !*fit {
		t.Skip("fits weights.go anew only with -fit")
	}
	b := newBench(t)
	var trials []*trial
	for _, folder := range calibrationFolders(t) {
		a := b.answerer(t, folder)
		for _, q := range readAsked(t, folder) {
			r := &trial{asked: q}
			var err error
			if r.hits, err = a.search(t.Context(), Question{}, q.Question); err != nil {
				t.Fatal(err)
			}
			if r.inquiry, r.evidence, err = a.cutter.judge(t.Context(), q.Question, r.hits); err != nil {
				t.Fatal(err)
			}
			trials = append(trials, r)
		}
	}
	const penalty = 0.003
	var groups [][]sample
	for _, r := range trials {
		groups = append(groups, r.group(r.evidence))
	}
	first := linear{weights: unvector(fitChoice(groups, penalty))}
	groups = nil
	for _, r := range trials {
		for _, e := range r.evidence {
			e.score = first.logit(e.features.vector())
		}
		sortEvidence(r.evidence)
		r.evidence = r.evidence[:min(len(r.evidence), Default().Scored)]
		if err := likelihood(context.Background(), b.engine, "", r.inquiry, r.hits, r.evidence); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, r.group(r.evidence))
	}
	second := linear{weights: unvector(fitChoice(groups, penalty))}
	var samples []sample
	top := [3]int{}
	answerable := 0
	for _, r := range trials {
		for _, e := range r.evidence {
			e.rank = second.logit(e.features.vector())
		}
		rankEvidence(r.evidence)
		samples = append(samples, sample{situation(r.evidence), slices.ContainsFunc(r.evidence[:min(len(r.evidence), 2)], r.right)})
		if r.Answerable {
			answerable++
			for k := range top {
				if slices.ContainsFunc(r.evidence[:min(len(r.evidence), k+1)], r.right) {
					top[k]++
				}
			}
		}
	}
	weights, bias := fitLogistic(samples, 0.05)
	third := linear{bias: bias, weights: unvector(weights)}
	t.Logf("%d answerable: the answer is in the first of the evidence for %d, in the first two for %d, in the first three for %d", answerable, top[0], top[1], top[2])
	writeWeights(t, first, second, third)
}

// unvector is the inverse of features.vector.
func unvector(x []float64) features {
	var f features
	v := reflect.ValueOf(&f).Elem()
	for i := range x {
		v.Field(i).SetFloat(x[i])
	}
	return f
}

func TestVectorHasAllFeatures(t *testing.T) {
	n := reflect.TypeFor[features]().NumField()
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i + 1)
	}
	if got := unvector(x).vector(); !slices.Equal(got, x) {
		t.Errorf("vector is not the fields in order: %v", got)
	}
}

func writeWeights(t *testing.T, evidence, rank, answerable linear) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("// Code generated by go test ./answer -run TestCalibrate -fit; DO NOT EDIT.\n\npackage answer\n")
	for _, m := range []struct {
		name, comment string
		linear
	}{
		{"evidenceModel", "orders the evidence before the chat model is asked.", evidence},
		{"rankModel", "orders the candidates once it was.", rank},
		{"answerableModel", "says whether the evidence answers the question.", answerable},
	} {
		fmt.Fprintf(&b, "\n// %s %s\nvar %s = linear{bias: %.3f, weights: features{\n", m.name, m.comment, m.name, m.bias)
		v := reflect.ValueOf(m.weights)
		for i := range v.NumField() {
			if w := v.Field(i).Float(); w > 0.0005 || w < -0.0005 {
				fmt.Fprintf(&b, "%s: %.3f,\n", v.Type().Field(i).Name, w)
			}
		}
		b.WriteString("}}\n")
	}
	source, err := format.Source(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("weights.go", source, 0o644); err != nil {
		t.Fatal(err)
	}
}
