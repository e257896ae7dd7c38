package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/quipu-ai/quipu/engine"
)

// read makes the items that the options ask for.
func read(o options) ([]item, error) {
	switch {
	case o.reading != "" && o.sample == "":
		return readSQuAD(o)
	case o.sample != "" && o.reading == "":
		return readSample(o)
	default:
		return nil, errors.New("name a folder with --reading or with --sample")
	}
}

type squad struct {
	Data []struct {
		Title      string
		Paragraphs []struct {
			Context string
			QAs     []struct {
				Question string
				Answers  []struct {
					Text  string
					Start int `json:"answer_start"`
				}
			}
		}
	}
}

func readSQuAD(o options) ([]item, error) {
	files, err := filepath.Glob(filepath.Join(o.reading, "*.json*"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fmt.Errorf("%s holds no *.json or *.json.gz", o.reading), err)
	}
	var items []item
	var passages []engine.Document
	for _, file := range files {
		var set squad
		if err := decode(file, &set); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, article := range set.Data {
			for _, p := range article.Paragraphs {
				passages = append(passages, engine.Document{Title: article.Title, Text: p.Context})
				for _, q := range p.QAs {
					it := item{question: q.Question}
					for _, a := range q.Answers {
						it.answers = append(it.answers, a.Text)
					}
					if len(it.answers) == 0 {
						continue
					}
					text := around(p.Context, q.Answers[0].Start, o.words)
					it.documents = []engine.Document{{Title: article.Title, Text: text}}
					items = append(items, it)
				}
			}
		}
	}
	return choose(o, items, passages), nil
}

// around cuts a text to so many words about a place; 0 leaves it whole.
func around(text string, at, words int) string {
	fields := strings.Fields(text)
	if words == 0 || len(fields) <= words {
		return text
	}
	runes := []rune(text)
	before := len(strings.Fields(string(runes[:min(at, len(runes))])))
	from := min(max(0, before-words/2), len(fields)-words)
	return strings.Join(fields[from:from+words], " ")
}

func decode(file string, into any) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return err
		}
	}
	return json.NewDecoder(r).Decode(into)
}

// readSample takes the questions of a sample that its documents answer; passages are their sections.
func readSample(o options) ([]item, error) {
	sections := map[string][]engine.Document{}
	var passages []engine.Document
	files, err := filepath.Glob(filepath.Join(o.sample, "docs", "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, section := range strings.Split("\n"+string(b), "\n## ") {
			if text := strings.TrimSpace(section); text != "" {
				d := engine.Document{Title: filepath.Base(file), Text: text}
				sections[filepath.Base(file)] = append(sections[filepath.Base(file)], d)
				passages = append(passages, d)
			}
		}
	}
	f, err := os.Open(filepath.Join(o.sample, "questions.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var items []item
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var q struct {
			Question, File, Answer string
			Answerable             bool
			Expect                 [][]string
		}
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, err
		}
		if !q.Answerable {
			continue
		}
		it := item{question: q.Question, answers: []string{q.Answer}}
		for _, d := range sections[q.File] { // the section that holds most of what the answer must have
			if it.documents == nil || holds(d.Text, q.Expect) > holds(it.documents[0].Text, q.Expect) {
				it.documents = []engine.Document{d}
			}
		}
		if it.documents != nil {
			items = append(items, it)
		}
	}
	return choose(o, items, passages), lines.Err()
}

func holds(text string, expect [][]string) (n int) {
	for _, forms := range expect {
		for _, form := range forms {
			if strings.Contains(strings.ToLower(text), form) {
				n++
				break
			}
		}
	}
	return n
}

// choose draws questions, and passages beside the right one, which stands anywhere among them.
func choose(o options, items []item, passages []engine.Document) []item {
	rng := shuffled(o.seed)
	rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	items = items[:min(len(items), o.questions)]
	for i := range items {
		right := items[i].documents[0]
		documents := []engine.Document{right}
		for len(documents) < o.documents {
			d := passages[rng.IntN(len(passages))]
			d.Text = around(d.Text, rng.IntN(len(d.Text)), o.words)
			if !contains(documents, d) && !strings.Contains(d.Text, items[i].answers[0]) {
				documents = append(documents, d)
			}
		}
		rng.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
		items[i].documents = documents
	}
	return items
}

func contains(documents []engine.Document, d engine.Document) bool {
	for _, other := range documents {
		if other.Text == d.Text {
			return true
		}
	}
	return false
}

// words are a text's words as SQuAD compares them: without case, articles and punctuation.
func words(text string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if w != "a" && w != "an" && w != "the" {
			out = append(out, w)
		}
	}
	return out
}

// f1 is the harmonic mean of precision and recall over words.
func f1(said, gold string) float64 {
	a, b := words(said), words(gold)
	left := map[string]int{}
	for _, w := range b {
		left[w]++
	}
	same := 0
	for _, w := range a {
		if left[w] > 0 {
			left[w]--
			same++
		}
	}
	if same == 0 {
		return 0
	}
	p, r := float64(same)/float64(len(a)), float64(same)/float64(len(b))
	return 2 * p * r / (p + r)
}
