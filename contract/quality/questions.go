package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// question is a line of questions.jsonl; examples/README.md describes it.
type question struct {
	ID         string     `json:"id"`
	Question   string     `json:"question"`
	Answerable bool       `json:"answerable"`
	File       string     `json:"file,omitempty"`
	Also       []string   `json:"also,omitempty"`
	Wanted     string     `json:"answer"`
	Expect     [][]string `json:"expect,omitempty"`
}

func readQuestions(path string) ([]question, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []question
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, len(out)+1, err)
		}
		if q.Answerable == (len(q.Expect) == 0) {
			return nil, fmt.Errorf("%s: %s: an answerable question, and no other, has expect", path, q.ID)
		}
		out = append(out, q)
	}
	return out, nil
}
