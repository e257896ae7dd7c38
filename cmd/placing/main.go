// Command placing measures what placing passages costs (engine.Config.Passages): how likely a model finds the right answers to
// reading questions, and what it answers, with each passage computed behind the system prompt alone and put where it belongs,
// against computing the whole prompt at once.
//
//	placing --model FILE [--reading FOLDER | --sample FOLDER] [--questions N] [--documents N] [--words N] [--border N]
//
// A reading set is a folder with files in the format of SQuAD, *.json or *.json.gz; a sample is one of examples/.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/native"
)

type options struct {
	model, reading, sample, json        string
	questions, documents, words, border int
	seed                                uint64
}

func main() {
	var o options
	flag.StringVar(&o.model, "model", "", "chat model, a .gguf file")
	flag.StringVar(&o.reading, "reading", "", "folder of a reading set")
	flag.StringVar(&o.sample, "sample", "", "folder of a sample: docs/ and questions.jsonl")
	flag.StringVar(&o.json, "json", "", "write the figures to this file")
	flag.IntVar(&o.questions, "questions", 60, "questions to ask")
	flag.IntVar(&o.documents, "documents", 3, "passages of each prompt, the right one among them")
	flag.IntVar(&o.words, "words", 0, "cut passages to so many words around the answer; 0 leaves them whole")
	flag.IntVar(&o.border, "border", 0, "tokens at the beginning of each passage that are computed in their place")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the choice of questions and passages")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "placing:", err)
		os.Exit(1)
	}
}

// item is a question with passages, of which one holds the answer.
type item struct {
	question  string
	answers   []string
	documents []engine.Document
}

// outcome is what a model made of an item.
type outcome struct {
	likelihood float64 // of the first answer, nats a token
	f1         float64 // of what it answered greedily, over the best of the answers
	contains   bool    // it contains one of the answers
}

func run(ctx context.Context, o options) error {
	items, err := read(o)
	if err != nil {
		return err
	}
	none := make([]item, len(items))
	for i, it := range items {
		none[i] = item{question: it.question, answers: it.answers}
	}
	var results [3][]outcome
	for way, w := range []struct {
		name   string
		items  []item
		placed bool
	}{{"whole", items, false}, {"placed", items, true}, {"no passages", none, false}} {
		fmt.Fprintf(os.Stderr, "%s …\n", w.name)
		if results[way], err = ask(ctx, o, w.items, w.placed); err != nil {
			return err
		}
	}
	return report(o, results)
}

// ask loads the model and puts the questions to it, several at a time.
func ask(ctx context.Context, o options, items []item, placed bool) ([]outcome, error) {
	b, err := native.Load(ctx, o.model, native.Options{})
	if err != nil {
		return nil, err
	}
	c := engine.DefaultConfig()
	c.Border = o.border
	if placed {
		c.Placing = engine.PlaceAlways
	} else {
		c.Placing = engine.PlaceNever
	}
	e, err := engine.New(b, c, engine.Hooks{})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	out := make([]outcome, len(items))
	failed := make(chan error, len(items))
	slots := make(chan struct{}, 4)
	for i, it := range items {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			var err error
			out[i], err = one(ctx, e, it)
			failed <- err
		}()
	}
	for range items {
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	return out, nil
}

func one(ctx context.Context, e *engine.Engine, it item) (outcome, error) {
	r := &engine.Request{Chat: &engine.Chat{Documents: it.documents, Messages: []engine.Message{
		{Role: "system", Content: "Answer the question from the documents in as few words as possible."},
		{Role: "user", Content: it.question},
	}}, MaxTokens: 24, Logprobs: -1}
	prompt, err := e.Render(ctx, r)
	if err != nil {
		return outcome{}, err
	}
	gold, err := e.Tokenize(ctx, it.answers[0])
	if err != nil {
		return outcome{}, err
	}
	scores, err := e.Score(ctx, []engine.ScoreAsk{{Prompt: prompt.Tokens, Passages: prompt.Passages, Continuation: gold}})
	if err != nil {
		return outcome{}, err
	}
	stream, err := e.Generate(ctx, r)
	if err != nil {
		return outcome{}, err
	}
	defer stream.Close()
	var text strings.Builder
	for {
		event, err := stream.Recv(ctx)
		if err != nil {
			return outcome{}, err
		}
		text.WriteString(event.Text)
		if event.Finish != "" {
			break
		}
	}
	result := outcome{likelihood: scores[0].Mean()}
	for _, answer := range it.answers {
		result.f1 = max(result.f1, f1(text.String(), answer))
		result.contains = result.contains || strings.Contains(strings.Join(words(text.String()), " "), strings.Join(words(answer), " "))
	}
	return result, nil
}

// paired is a mean difference with the half width of its 95 % interval.
type paired struct {
	Mean  float64 `json:"mean"`
	Width float64 `json:"width"`
}

func pair(a, b []outcome, of func(outcome) float64) paired {
	var sum, squares float64
	for i := range a {
		d := of(a[i]) - of(b[i])
		sum, squares = sum+d, squares+d*d
	}
	n := float64(len(a))
	mean := sum / n
	return paired{Mean: mean, Width: 1.96 * math.Sqrt(max(0, squares/n-mean*mean)/n)}
}

func mean(of []outcome, what func(outcome) float64) float64 {
	sum := 0.0
	for _, o := range of {
		sum += what(o)
	}
	return sum / float64(len(of))
}

func report(o options, results [3][]outcome) error {
	likelihood := func(o outcome) float64 { return o.likelihood }
	f := func(o outcome) float64 { return 100 * o.f1 }
	contains := func(o outcome) float64 {
		if o.contains {
			return 100
		}
		return 0
	}
	figures := map[string]any{"questions": len(results[0]), "documents": o.documents, "words": o.words, "border": o.border,
		"likelihood_difference": pair(results[1], results[0], likelihood), "f1_difference": pair(results[1], results[0], f)}
	fmt.Printf("%d questions, %d passages, border %d\n%-14s %12s %8s %10s\n", len(results[0]), o.documents, o.border, "", "nats/token", "F1", "contained")
	for i, name := range []string{"whole", "placed", "no passages"} {
		fmt.Printf("%-14s %12.3f %8.1f %8.1f %%\n", name, mean(results[i], likelihood), mean(results[i], f), mean(results[i], contains))
		figures[name] = map[string]float64{"likelihood": mean(results[i], likelihood), "f1": mean(results[i], f), "contained": mean(results[i], contains)}
	}
	d, g := pair(results[1], results[0], likelihood), pair(results[1], results[0], f)
	fmt.Printf("placed − whole  %+.3f ± %.3f  %+.1f ± %.1f\n", d.Mean, d.Width, g.Mean, g.Width)
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(b, '\n'), 0o644)
}

func shuffled(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
