// Command quality asks a real quipu server the questions of one or more folders (docs/ and questions.jsonl, as in examples/)
// and counts how many answers are right, cited, refused and invented, beside a plain prompt on the same passages.
//
//	go run ./quality --quipu ../bin/quipu ../examples/lumen-bikes
//	go run ./quality --quipu ../bin/quipu --model qwen2.5-coder-0.5b --json report.json ../examples/*/
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quality:", err)
		os.Exit(1)
	}
}

func run() error {
	quipu := flag.String("quipu", "../bin/quipu", "the quipu binary")
	model := flag.String("model", "", "chat model, by name or file; empty is the starter")
	plain := flag.Bool("plain", true, "ask a plain prompt beside it")
	out := flag.String("json", "", "write every answer with its verdict to this file")
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("name at least one folder that holds docs/ and questions.jsonl")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var all []result
	fmt.Println(header)
	for _, dir := range flag.Args() {
		results, err := ask(ctx, *quipu, *model, dir, *plain)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		fmt.Print(table(filepath.Base(filepath.Clean(dir)), results))
		all = append(all, results...)
	}
	if flag.NArg() > 1 {
		fmt.Print(table("all", all))
	}
	if *out == "" {
		return nil
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, data, 0o644)
}

// ask runs all questions of one folder, grounded and plain.
func ask(ctx context.Context, quipu, model, dir string, plain bool) ([]result, error) {
	questions, err := readQuestions(filepath.Join(dir, "questions.jsonl"))
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, quipu, model, filepath.Join(dir, "docs"))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	var results []result
	for i, q := range questions {
		fmt.Fprintf(os.Stderr, "\r%s %d/%d ", dir, i+1, len(questions))
		a, err := s.grounded(ctx, q.Question)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.ID, err)
		}
		results = append(results, result{Way: "quipu", Folder: dir, question: q, Answer: a, Verdict: judge(q, a)})
		if !plain {
			continue
		}
		if a, err = s.plain(ctx, q.Question); err != nil {
			return nil, fmt.Errorf("%s: %w", q.ID, err)
		}
		results = append(results, result{Way: "plain prompt", Folder: dir, question: q, Answer: a, Verdict: judge(q, a)})
	}
	fmt.Fprint(os.Stderr, "\r")
	return results, nil
}
