package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Trial is how much a model loses when passages are placed, found out on questions about passages of our own.
type Trial struct {
	On    bool
	Loss  float64 // nats a token that right answers get less likely by it, on average
	Width float64 // half of its 95 % interval
	Worth float64 // nats a token that the passages bring at all
	Err   error   `json:"-"` // why there are no figures, or why the next engine must find them again
}

// MostLoss is the loss, in nats a token, up to which PlaceAuto places passages.
const MostLoss = 0.05

// trialKey keeps the trial's computation apart from everybody's.
const trialKey = "\x00trial"

// trialRest is how long nobody must have asked for anything before the trial goes on: who asks again soon doesn't wait for it.
const trialRest = time.Second

// choosePlacing decides about placing as the configuration says; PlaceAuto by what an earlier run found out about the model, or in
// the background, while nobody asks for anything.
func (e *Engine) choosePlacing(ctx context.Context) {
	switch {
	case !e.moves() || e.config.Placing == PlaceNever:
	case e.config.Placing == PlaceAlways:
		e.placing.Store(true)
	default:
		decide := func(t Trial) {
			e.placing.Store(t.On)
			if e.hooks.Placing != nil && ctx.Err() == nil {
				e.hooks.Placing(t)
			}
		}
		if t, ok := e.recall(); ok {
			decide(t)
			return
		}
		e.trial.Go(func() {
			t := e.try(ctx)
			if t.Err == nil {
				t.Err = e.remember(t)
			}
			decide(t)
		})
	}
}

// verdict is the file that says what a trial of the model found; "" where there is no folder or no telling models apart.
func (e *Engine) verdict() string {
	if e.config.Cache.Dir == "" || e.info.Fingerprint == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %q %q", e.info.Fingerprint, e.config.Border, trialQuestions, trialDocuments))
	return filepath.Join(e.config.Cache.Dir, "placing-"+hex.EncodeToString(sum[:12])+".json")
}

// recall reads what an earlier run found out; the bound is today's.
func (e *Engine) recall() (t Trial, ok bool) {
	b, err := os.ReadFile(e.verdict())
	if err != nil || json.Unmarshal(b, &t) != nil {
		return Trial{}, false
	}
	t.On = t.Loss <= MostLoss
	return t, true
}

// remember writes what a trial found.
func (e *Engine) remember(t Trial) error {
	path := e.verdict()
	if path == "" {
		return nil
	}
	b, err := json.Marshal(t)
	if err == nil {
		err = writeWhole(path, b)
	}
	if err != nil {
		return fmt.Errorf("keep the verdict about placing: %w", err)
	}
	return nil
}

// try compares how likely right answers are behind whole and behind placed prompts. It reads three passages at a time, as
// answers do, with the one that is asked about in each place.
func (e *Engine) try(ctx context.Context) (t Trial) {
	var differences, worth []float64
	for i, q := range trialQuestions {
		chat := &Chat{Messages: []Message{{Role: "system", Content: "Answer the question from the documents in as few words as possible."}, {Role: "user", Content: q.question}}}
		bare, err := e.Render(ctx, &Request{Chat: chat})
		if err != nil {
			return Trial{Err: err}
		}
		for k := range 3 {
			chat.Documents = append(chat.Documents, trialDocuments[(i+k*(1+i%2))%len(trialDocuments)])
		}
		if i%3 > 0 { // the right one is not always the first
			chat.Documents[0], chat.Documents[i%3] = chat.Documents[i%3], chat.Documents[0]
		}
		whole, err := e.Render(ctx, &Request{Chat: chat})
		if err != nil {
			return Trial{Err: err}
		}
		answer, err := e.backend.Tokenize(q.answer, false)
		if err != nil {
			return Trial{Err: err}
		}
		scores, err := e.Score(ctx, []ScoreAsk{
			{Key: trialKey, Prompt: whole.Tokens, Continuation: answer},
			{Key: trialKey, Prompt: whole.Tokens, Passages: whole.Passages, Continuation: answer},
			{Key: trialKey, Prompt: bare.Tokens, Continuation: answer},
		})
		if err != nil {
			return Trial{Err: fmt.Errorf("compare whole and placed prompts: %w", err)}
		}
		differences = append(differences, scores[0].Mean()-scores[1].Mean())
		worth = append(worth, scores[0].Mean()-scores[2].Mean())
	}
	t.Loss, t.Width = meanWidth(differences)
	t.Worth, _ = meanWidth(worth)
	t.On = t.Loss <= MostLoss
	return t
}

// meanWidth is a mean and half of its 95 % interval.
func meanWidth(values []float64) (mean, width float64) {
	var sum, squares float64
	for _, v := range values {
		sum, squares = sum+v, squares+v*v
	}
	n := float64(len(values))
	mean = sum / n
	return mean, 1.96 * math.Sqrt(max(0, squares/n-mean*mean)/n)
}

// The i-th question is about the i-th document.
var trialQuestions = []struct{ question, answer string }{
	{"How many boats moor in the harbour in winter?", "Fourteen boats."},
	{"What is the lift's largest load?", "630 kilograms."},
	{"Who may borrow the projector?", "Members of the club."},
	{"When is the swimming hall closed?", "On Mondays."},
	{"How long does the glue need to dry?", "Six hours."},
	{"Where are lost keys handed in?", "At the desk in the library."},
	{"What does a day ticket cost?", "Four euros and fifty cents."},
	{"What powers the old clock?", "Two weights of lead."},
	{"At what temperature is the dough kept?", "At twelve degrees."},
	{"Which bird nests under the bridge?", "The dipper."},
	{"What colour is the emergency handle?", "Yellow."},
	{"How often are the filters changed?", "Every eight weeks."},
}

var trialDocuments = []Document{
	{Title: "Harbour", Text: "The small harbour has berths for sixty boats. In summer all of them are taken; in winter fourteen boats moor there, and the others stand in the shed behind the crane. The fee is due in March."},
	{Title: "Lift", Text: "The goods lift stops on all five floors. Its largest load is 630 kilograms, and it must not carry people. When the door stays open for more than a minute, a bell rings in the porter's room."},
	{Title: "Projector", Text: "The projector stands in the cupboard beside the stage. Members of the club may borrow it for two days. The lamp is hot after use: let the fan run until it stops by itself before you pull the plug."},
	{Title: "Swimming hall", Text: "The swimming hall opens at seven in the morning and closes at nine in the evening. It is closed on Mondays, when the water is cleaned. Children under eight swim with a grown-up."},
	{Title: "Glue", Text: "Spread the glue thinly on both sides and press them together for a minute. It needs six hours to dry at room temperature, and twice as long in the cold. Wipe what comes out with a wet cloth at once."},
	{Title: "Lost and found", Text: "What was left in the rooms is kept for three months. Lost keys are handed in at the desk in the library; everything else goes to the caretaker, whose office is on the ground floor, next to the bicycle room."},
	{Title: "Tickets", Text: "A single journey costs two euros. A day ticket costs four euros and fifty cents and is valid in all zones until three o'clock the next morning. Dogs travel free of charge, bicycles need a ticket of their own."},
	{Title: "Clock", Text: "The old clock in the tower shows the time on four sides. Two weights of lead drive it; they are wound up by hand every Saturday. During the restoration the hands were gilded again, and the numbers painted white."},
	{Title: "Bakery", Text: "The dough rests overnight in the cellar, where it is kept at twelve degrees. In the morning it is shaped into loaves and baked for fifty minutes. The oven is heated with beech wood from the community's forest."},
	{Title: "River walk", Text: "The path follows the river for five kilometres and crosses it twice. Under the second bridge nests the dipper, which can be seen from the platform in April. After heavy rain the lower part of the path is flooded."},
	{Title: "Emergency", Text: "In an emergency pull the yellow handle beside the door: the train stops and the driver can talk to you. The handle for the windows is green. Extinguishers are under the seats at both ends of each carriage."},
	{Title: "Ventilation", Text: "The ventilation runs from six in the morning until ten at night. Its filters are changed every eight weeks, in the cold season every ten. When the red lamp is on, call the technician and open the windows."},
}
