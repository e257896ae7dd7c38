package answer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/retrievaltest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a library of one passage a document, all of which every search finds, in order.
type shelf struct {
	passages []retrieval.Passage
	texts    map[string]string
	searched int
}

func newShelf(documents ...string) *shelf {
	s := &shelf{texts: map[string]string{}}
	for i, text := range documents {
		id := string(rune('a' + i))
		s.texts[id] = text
		s.passages = append(s.passages, retrieval.Passage{ID: "psg_" + id, DocumentID: id, File: id + ".md", Title: "Help", Text: text, End: len(text)})
	}
	return s
}

func (s *shelf) Search(_ context.Context, q retrieval.Query) ([]retrieval.Hit, error) {
	s.searched++
	var hits []retrieval.Hit
	for i, p := range s.passages {
		hits = append(hits, retrieval.Hit{Passage: p, Score: 1 - float64(i)/10, Dense: 1 - float64(i)/10})
	}
	return hits[:min(len(hits), q.TopK)], nil
}

func (s *shelf) Text(_ context.Context, id string) (string, error) { return s.texts[id], nil }

// script is a chat model that says what it is told to, a word an event.
type script struct {
	says   string
	err    error
	closed atomic.Int32
	asked  []*engine.Request
	limit  int
	// What was asked for besides: renderings, and the longest continuation that was scored.
	rendered, scored int
}

func (s *script) Info() engine.Info {
	limit := s.limit
	if limit == 0 {
		limit = 4096
	}
	return engine.Info{Name: "script", Context: limit}
}

func (s *script) Generate(_ context.Context, r *engine.Request) (*engine.Stream, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.asked = append(s.asked, r)
	stream, sink := engine.NewStream(func() { s.closed.Add(1) })
	words := strings.SplitAfter(s.says, " ")
	for i, w := range words {
		e := engine.Event{Text: w, Tokens: []engine.TokenInfo{{ID: 1}}, Usage: engine.Usage{PromptTokens: 10, GeneratedTokens: i + 1}}
		if i == len(words)-1 {
			e.Finish = engine.FinishStop
		}
		sink.Send(e)
	}
	return stream, nil
}

func (s *script) Score(_ context.Context, asks []engine.ScoreAsk) ([]engine.Score, error) {
	out := make([]engine.Score, len(asks))
	for i, a := range asks {
		s.scored = max(s.scored, len(a.Continuation))
		out[i].Logprobs = make([]float32, len(a.Continuation))
	}
	return out, nil
}

func (s *script) Render(ctx context.Context, r *engine.Request) (engine.Prompt, error) {
	s.rendered++
	text := ""
	for _, m := range r.Chat.Messages {
		text += m.Content + "\n"
	}
	for _, d := range r.Chat.Documents {
		text += d.Title + "\n" + d.Text + "\n"
	}
	tokens, err := s.Tokenize(ctx, text)
	return engine.Prompt{Tokens: tokens}, err
}

func (s *script) Tokenize(_ context.Context, text string) ([]engine.Token, error) {
	return make([]engine.Token, len(strings.Fields(text))), nil
}

// willing is a Config that answers whenever there is evidence: what a hashing embedder says of answerability means nothing.
func willing() Config {
	c := Default()
	c.Answerable, c.Quotes = 0, 1
	return c
}

func newAnswerer(t *testing.T, c Config, l Library, g Generator) *Answerer {
	t.Helper()
	a, err := New(c, l, g, retrievaltest.Hashing{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const shop = "Orders leave our house on the day they are placed. Standard delivery takes three days and costs €4.90. We do not deliver to Norway."

func TestModelsSentence(t *testing.T) {
	for _, c := range []struct {
		name, question, says, want, quote string
	}{
		{"supported", "What does standard delivery cost?", "Standard delivery costs €4.90.", "Standard delivery costs €4.90.", "Standard delivery takes three days and costs €4.90."},
		{"another figure", "What does standard delivery cost?", "Standard delivery costs €3.50.", "Standard delivery takes three days and costs €4.90.", "Standard delivery takes three days and costs €4.90."},
		{"the contrary", "Do you deliver to Norway?", "We do deliver to Norway.", "We do not deliver to Norway.", "We do not deliver to Norway."},
		{"from elsewhere", "Do you deliver to Norway?", "Our founder was born there in spring.", "We do not deliver to Norway.", "We do not deliver to Norway."},
		{"nothing", "What does standard delivery cost?", "", "The documents don't say.", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &script{says: c.says}
			got, err := newAnswerer(t, willing(), newShelf(shop), g).GetResponse(t.Context(), c.question)
			if err != nil {
				t.Fatal(err)
			}
			if got.Answer != c.want || got.Abstained != (c.quote == "") {
				t.Errorf("answers %q (abstained: %v), want %q", got.Answer, got.Abstained, c.want)
			}
			if c.quote != "" && (len(got.Citations) == 0 || got.Citations[0].Quote != c.quote) {
				t.Errorf("cites %+v, want %q", got.Citations, c.quote)
			}
			if g.closed.Load() != 1 {
				t.Errorf("the generation was closed %d times", g.closed.Load())
			}
		})
	}
}

func TestMarked(t *testing.T) {
	c := willing()
	c.MarkUnsupported = true
	got, err := newAnswerer(t, c, newShelf(shop), &script{says: "Standard delivery costs €3.50. Standard delivery takes three days."}).GetResponse(t.Context(), "What does standard delivery cost?")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Unsupported) != 1 || got.Unsupported[0].Text != "Standard delivery costs €3.50." || !strings.Contains(got.Answer, got.Unsupported[0].Text) {
		t.Errorf("%q, unsupported %+v", got.Answer, got.Unsupported)
	}
}

func TestAbstains(t *testing.T) {
	never := willing()
	never.Answerable = 1
	for name, a := range map[string]*Answerer{
		"unlikely":     newAnswerer(t, never, newShelf(shop), &script{says: "Yes."}),
		"no documents": newAnswerer(t, willing(), newShelf(), &script{says: "Yes."}),
	} {
		got, err := a.GetResponse(t.Context(), "Who founded the company?")
		if err != nil {
			t.Fatal(err)
		}
		if !got.Abstained || got.Answer != Default().Abstention || len(got.Citations) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestOffsets checks that spans count code points, in the answer and in the document.
func TestOffsets(t *testing.T) {
	document := "Grüße aus Köln – schön! Der Preis: 5 €.\n\n" + shop
	got, err := newAnswerer(t, willing(), newShelf(document), &script{says: "It is 9 €."}).GetResponse(t.Context(), "What does standard delivery cost?")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range got.Citations {
		if cut := string([]rune(document)[c.Start:c.End]); cut != c.Quote {
			t.Errorf("at %d to %d stands %q, not %q", c.Start, c.End, cut, c.Quote)
		}
		if cut := string([]rune(got.Answer)[c.AnswerStart:c.AnswerEnd]); strings.TrimSpace(cut) == "" {
			t.Errorf("nothing stands at %d to %d of %q", c.AnswerStart, c.AnswerEnd, got.Answer)
		}
	}
	if len(got.Citations) == 0 {
		t.Error("no citation")
	}
}

// narrow embeds at most 40 letters.
type narrow struct{ retrievaltest.Hashing }

func (n narrow) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	for i, text := range texts {
		if len([]rune(text)) > 40 {
			return nil, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(text), Limit: 40}
		}
	}
	return n.Hashing.Embed(ctx, texts)
}

func TestSentencesLongerThanEmbedderReads(t *testing.T) {
	a, err := New(willing(), newShelf(strings.Repeat("電池の保証は二年間です", 20)+". "+shop), &script{says: "Yes."}, narrow{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.GetResponse(t.Context(), "What does standard delivery cost?"); err != nil || got.Answer == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStopsListening checks that usage and times are told also when the generation was not read to its end.
func TestStopsListening(t *testing.T) {
	g := &script{says: "We do not deliver to Norway. Our founder sings in spring. And so on. And so on."}
	got, err := newAnswerer(t, willing(), newShelf(shop), g).GetResponse(t.Context(), "Do you deliver to Norway?")
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage.PromptTokens == 0 || strings.Contains(got.Answer, "And so on") {
		t.Errorf("usage %+v of %q", got.Usage, got.Answer)
	}
}

func TestStream(t *testing.T) {
	a := newAnswerer(t, willing(), newShelf(shop), &script{says: "Standard delivery takes three days. It costs €4.90."})
	text := ""
	var last *Answer
	for e, err := range a.Stream(t.Context(), Question{Messages: []engine.Message{{Role: "user", Content: "How long does standard delivery take, and what does it cost?"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		text += e.Delta
		last = e.Answer
	}
	if last == nil || last.Answer != text || text == "" {
		t.Errorf("streamed %q, answer %+v", text, last)
	}
}

func TestReaderLeaves(t *testing.T) {
	g := &script{says: "Standard delivery takes three days. Standard delivery costs €4.90."}
	a := newAnswerer(t, willing(), newShelf(shop), g)
	for _, err := range a.Stream(t.Context(), Question{Messages: []engine.Message{{Role: "user", Content: "How long does standard delivery take?"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if g.closed.Load() != 1 {
		t.Errorf("the generation was closed %d times", g.closed.Load())
	}
}

func TestErrors(t *testing.T) {
	ask := func(a *Answerer, messages ...engine.Message) error {
		_, err := a.Answer(t.Context(), Question{Messages: messages})
		return err
	}
	user := engine.Message{Role: "user", Content: "What does standard delivery cost?"}
	good := newAnswerer(t, willing(), newShelf(shop), &script{says: "x"})
	for _, messages := range [][]engine.Message{nil, {{Role: "user", Content: " "}}, {user, {Role: "assistant", Content: "€4.90"}}} {
		if err := ask(good, messages...); !errors.Is(err, ErrNoQuestion) {
			t.Errorf("%v: %v", messages, err)
		}
	}
	full := newAnswerer(t, willing(), newShelf(shop), &script{err: engine.ErrQueueFull})
	if err := ask(full, user); !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("full queue: %v", err)
	}
	small := newAnswerer(t, willing(), newShelf(shop), &script{says: "x", limit: 100})
	if err := ask(small, user); !errors.Is(err, engine.ErrContextOverflow) {
		t.Errorf("small context: %v", err)
	}
	s := newShelf(shop)
	s.texts["a"] = "Something else."
	if err := ask(newAnswerer(t, willing(), s, &script{says: "It is €9."}), user); !errors.Is(err, ErrDocumentChanged) {
		t.Errorf("changed document: %v", err)
	}
	if _, err := New(Config{}, s, &script{}, retrievaltest.Hashing{}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "TopK") {
		t.Errorf("empty configuration: %v", err)
	}
}

func TestPromptHoldsConversation(t *testing.T) {
	g := &script{says: "Standard delivery costs €4.90."}
	a := newAnswerer(t, willing(), newShelf(shop), g)
	_, err := a.Answer(t.Context(), Question{Messages: []engine.Message{
		{Role: "system", Content: "Speak politely."}, {Role: "user", Content: "Tell me about standard delivery."},
		{Role: "assistant", Content: "It takes three days."}, {Role: "user", Content: "And what does it cost?"}}})
	if err != nil {
		t.Fatal(err)
	}
	messages := g.asked[0].Chat.Messages
	roles := []string{}
	for _, m := range messages {
		roles = append(roles, m.Role)
	}
	if !slices.Equal(roles, []string{"system", "user", "assistant", "user"}) || !strings.Contains(messages[0].Content, "Speak politely.") ||
		len(g.asked[0].Chat.Documents) != 1 || g.asked[0].Chat.Documents[0].Text != strings.TrimSpace(shop) || !strings.HasSuffix(messages[3].Content, "And what does it cost?") {
		t.Errorf("prompt %+v", g.asked[0].Chat)
	}
	c, err := newConversation(messages[1:3:3])
	if c != nil || !errors.Is(err, ErrNoQuestion) {
		t.Errorf("%v, %v", c, err)
	}
	follow, err := newConversation([]engine.Message{{Role: "user", Content: "Tell me about standard delivery."}, {Role: "user", Content: "What does it cost?"}})
	if err != nil || !strings.Contains(follow.standalone, "standard") {
		t.Errorf("a follow-up is searched for as %q, %v", follow.standalone, err)
	}
}
