package ranking

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Document is one of a collection.
type Document struct {
	ID    string `json:"_id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// Question is judged.
type Question struct {
	ID     string
	Text   string
	Grades Grades
}

// BEIR is a folder of data in BEIR's format: corpus.jsonl, queries.jsonl or queries.tsv, and judgements in qrels/test.tsv,
// qrels.test.tsv or trec_eval's form; each may be compressed by gzip.
type BEIR struct {
	Name      string
	Questions []Question // those with judgements, in the order of their file
	corpus    string
}

// OpenBEIR reads questions and judgements.
func OpenBEIR(dir string) (*BEIR, error) {
	find := func(what string, names ...string) (string, error) {
		for _, name := range names {
			for _, zipped := range []string{"", ".gz"} {
				path := filepath.Join(dir, filepath.FromSlash(name)) + zipped
				if _, err := os.Stat(path); err == nil {
					return path, nil
				} else if !errors.Is(err, fs.ErrNotExist) {
					return "", err
				}
			}
		}
		return "", fmt.Errorf("%s holds no %s: looked for %s", dir, what, strings.Join(names, ", "))
	}
	b := &BEIR{Name: filepath.Base(filepath.Clean(dir))}
	var err error
	if b.corpus, err = find("documents", "corpus.jsonl"); err != nil {
		return nil, err
	}
	queries, err := find("questions", "queries.jsonl", "queries.test.jsonl", "queries.tsv", "queries.test.tsv")
	if err != nil {
		return nil, err
	}
	qrels, err := find("judgements", "qrels/test.tsv", "qrels.test.tsv", "qrels.tsv", "qrels.test.txt", "qrels.txt")
	if err != nil {
		return nil, err
	}
	grades, err := readGrades(qrels)
	if err != nil {
		return nil, err
	}
	for line, err := range lines(queries) {
		if err != nil {
			return nil, err
		}
		var q struct {
			ID   string `json:"_id"`
			Text string `json:"text"`
		}
		if strings.Contains(filepath.Base(queries), ".tsv") {
			q.ID, q.Text, _ = strings.Cut(line.text, "\t")
		} else if err := json.Unmarshal([]byte(line.text), &q); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", queries, line.number, err)
		}
		if g := grades[q.ID]; g.relevant() > 0 {
			b.Questions = append(b.Questions, Question{ID: q.ID, Text: q.Text, Grades: g})
		}
	}
	if len(b.Questions) == 0 {
		return nil, fmt.Errorf("none of the questions of %s has a judgement in %s", queries, qrels)
	}
	return b, nil
}

// readGrades reads lines of question, document and grade (BEIR, with a head) or question, 0, document and grade (trec_eval).
func readGrades(path string) (map[string]Grades, error) {
	out := map[string]Grades{}
	for line, err := range lines(path) {
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(line.text)
		if n := len(fields); n != 3 && n != 4 {
			return nil, fmt.Errorf("%s, line %d: %d fields; want 3 or 4", path, line.number, n)
		}
		grade, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			if line.number == 1 {
				continue // the head
			}
			return nil, fmt.Errorf("%s, line %d: the grade: %w", path, line.number, err)
		}
		question, document := fields[0], fields[len(fields)-2]
		if out[question] == nil {
			out[question] = Grades{}
		}
		out[question][document] = grade
	}
	return out, nil
}

// Documents reads the collection, one document at a time.
func (b *BEIR) Documents() iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for line, err := range lines(b.corpus) {
			var d Document
			if err == nil {
				if err = json.Unmarshal([]byte(line.text), &d); err == nil && d.ID == "" {
					err = errors.New("it has no _id")
				}
				if err != nil {
					err = fmt.Errorf("%s, line %d: %w", b.corpus, line.number, err)
				}
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

type line struct {
	text   string
	number int
}

// maxLine is the most bytes of one document.
const maxLine = 64 << 20

// lines reads a file line by line, leaving out blank ones. An error is the last that it gives.
func lines(path string) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(line{}, err)
			return
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(path, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				yield(line{}, fmt.Errorf("%s: %w", path, err))
				return
			}
		}
		s := bufio.NewScanner(r)
		s.Buffer(nil, maxLine)
		n := 0
		for s.Scan() {
			n++
			if strings.TrimSpace(s.Text()) != "" && !yield(line{s.Text(), n}, nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(line{}, fmt.Errorf("%s, line %d: %w", path, n+1, err))
		}
	}
}
