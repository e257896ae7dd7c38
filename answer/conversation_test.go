package answer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/retrieval"
)

func TestCore(t *testing.T) {
	letter := strings.Repeat("My bicycle and I have seen much of the world. ", 200)
	for _, c := range []struct{ name, text, want string }{
		{"a question", "What does delivery cost?", "What does delivery cost?"},
		{"a letter", letter + "What does delivery cost?", "What does delivery cost?"},
		{"without sentences", strings.Repeat("ä", 5000), strings.Repeat("ä", coreRunes)},
	} {
		got := core(c.text)
		if !strings.HasSuffix(got, c.want) || utf8.RuneCountInString(got) > coreRunes || !utf8.ValidString(got) {
			t.Errorf("%s: %d runes, %.60q…", c.name, utf8.RuneCountInString(got), got)
		}
	}
	if got := core(strings.Repeat(" ", 5000)); got != "" {
		t.Errorf("of nothing but space it is %.60q", got)
	}
	if got := core(letter + "What does delivery cost?"); !strings.HasPrefix(got, "My bicycle") {
		t.Errorf("it begins inside a sentence: %.60q", got)
	}
}

// A long letter costs what a question costs to judge, and is in the prompt whole.
func TestLetter(t *testing.T) {
	g := &script{says: "Standard delivery costs €4.90."}
	c := willing()
	a := newAnswerer(t, c, newShelf(shop), g)
	letter := strings.Repeat("My bicycle and I have seen much of the world. ", 200) + "What does standard delivery cost?"
	got, err := a.GetResponse(t.Context(), letter)
	if err != nil || got.Answer != g.says {
		t.Errorf("%+v, %v", got, err)
	}
	if g.scored == 0 || g.scored > coreRunes {
		t.Errorf("%d tokens of the question were scored", g.scored)
	}
	if last := g.asked[0].Chat.Messages; !strings.Contains(last[len(last)-1].Content, letter) {
		t.Error("the prompt does not hold the letter")
	}
}

// A turn of white space alone is as good as none.
func TestBlankTurn(t *testing.T) {
	g := &script{says: "Standard delivery costs €4.90."}
	got, err := newAnswerer(t, willing(), newShelf(shop), g).Answer(t.Context(), Question{Messages: []engine.Message{
		{Role: "user", Content: strings.Repeat(" ", 5000)}, {Role: "user", Content: "What does that cost?"}}})
	if err != nil || got.Answer != g.says {
		t.Errorf("%+v, %v", got, err)
	}
}

// What can't fit is refused before anything is computed.
func TestFits(t *testing.T) {
	question := engine.Message{Role: "user", Content: "What does standard delivery cost?"}
	turns := slices.Repeat([]engine.Message{{Role: "user", Content: "?"}, {Role: "assistant", Content: "!"}}, 5000)
	for name, messages := range map[string][]engine.Message{
		"thousands of turns": append(turns, question),
		"one long turn":      {{Role: "user", Content: strings.Repeat("word ", 5000)}, {Role: "assistant", Content: "Yes."}, question},
		"a long question":    {{Role: "user", Content: strings.Repeat("word ", 5000)}},
	} {
		g := &script{says: "x"}
		s := newShelf(shop)
		_, err := newAnswerer(t, willing(), s, g).Answer(t.Context(), Question{Messages: messages})
		var o *engine.OverflowError
		if !errors.As(err, &o) || o.Tokens <= o.Limit {
			t.Errorf("%s: %v", name, err)
		}
		if s.searched != 0 || g.scored != 0 || g.rendered > 1 {
			t.Errorf("%s: searched %d times, scored %d tokens, rendered %d times", name, s.searched, g.scored, g.rendered)
		}
	}
	_, err := newAnswerer(t, willing(), newShelf(shop), &script{says: "x"}).Answer(t.Context(), Question{Messages: []engine.Message{question}, TopK: -1})
	if !errors.Is(err, retrieval.ErrQuery) {
		t.Errorf("TopK -1: %v", err)
	}
}
