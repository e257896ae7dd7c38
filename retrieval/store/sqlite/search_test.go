package sqlite

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
)

// texts stores documents of one passage each, whose terms are the words of a text.
func texts(t *testing.T, r *Record, s retrieval.Store, texts map[string]string, attributes map[string]retrieval.Attributes) {
	t.Helper()
	for file, text := range texts {
		w := version(s.Name, file, 1, 1)
		w.document.Attributes = attributes[file]
		w.content.Terms = [][]string{strings.Fields(text)}
		w.put(t, r, s.ID)
	}
}

func ids(matches []retrieval.Match) []string {
	var out []string
	for _, m := range matches {
		file, _, _ := strings.Cut(m.Passage, "#")
		out = append(out, file[strings.Index(file, "/")+1:])
	}
	return out
}

func TestLexical(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	other, err := r.EnsureStore(t.Context(), "other", minilm)
	must(t, err)
	texts(t, r, s, map[string]string{
		"once":  "the battery is in the frame of the bicycle",
		"twice": "battery battery lasts",
		"none":  "the saddle is of leather",
		"rare":  "frame of magnesium alloy battery",
	}, nil)
	texts(t, r, other, map[string]string{"elsewhere": "battery battery battery"}, nil)
	for query, want := range map[string]string{
		"battery":                "twice rare once",
		"magnesium battery":      "rare twice once",
		"leather":                "none",
		"absent":                 "",
		`bat"tery OR`:            "",
		"NEAR":                   "",
		"scope":                  "",
		fmt.Sprintf("s%d", s.ID): "",
	} {
		got, err := r.Lexical(t.Context(), s.ID, strings.Fields(query), 10, nil)
		must(t, err)
		if strings.Join(ids(got), " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
		for i, m := range got {
			if m.Score <= 0 || i > 0 && m.Score > got[i-1].Score {
				t.Errorf("%s: scores %v", query, got)
			}
		}
	}
	for _, k := range []int{0, 1, 2} {
		if got, err := r.Lexical(t.Context(), s.ID, []string{"battery"}, k, nil); err != nil || len(got) != k {
			t.Errorf("%d: %v, %v", k, got, err)
		}
	}
	if got, err := r.Lexical(t.Context(), s.ID, nil, 5, nil); err != nil || len(got) > 0 {
		t.Errorf("no terms: %v, %v", got, err)
	}
	must(t, r.DeleteDocument(t.Context(), "default/twice"))
	if got, err := r.Lexical(t.Context(), s.ID, []string{"battery"}, 9, nil); err != nil || strings.Join(ids(got), " ") != "rare once" {
		t.Errorf("after deletion: %v, %v", got, err)
	}
	must(t, r.DeleteStore(t.Context(), "default"))
	if got, err := r.Lexical(t.Context(), s.ID, []string{"battery"}, 9, nil); err != nil || len(got) > 0 {
		t.Errorf("of a deleted store: %v, %v", got, err)
	}
}

// Filters in SQL mean what retrieval.Filter.Matches says, also for words.
func TestFilters(t *testing.T) {
	r, s := ensured(t, t.TempDir())
	rng := rand.New(rand.NewPCG(1, 2))
	values := []any{"a", "b", "é", "", 1., 2., -1.5, true, false}
	keys := []string{"k", "l", "ключ"}
	all := map[string]retrieval.Attributes{}
	content := map[string]string{}
	for i := range 60 {
		file := fmt.Sprintf("%02d", i)
		a := retrieval.Attributes{}
		for _, k := range keys {
			if rng.IntN(4) > 0 {
				a[k] = values[rng.IntN(len(values))]
			}
		}
		all[file], content[file] = a, "word"
	}
	texts(t, r, s, content, all)
	var draw func(depth int) retrieval.Filter
	draw = func(depth int) retrieval.Filter {
		types := []retrieval.FilterType{retrieval.Equal, retrieval.NotEqual, retrieval.Greater, retrieval.GreaterOrEqual, retrieval.Less, retrieval.LessOrEqual,
			retrieval.In, retrieval.NotIn, retrieval.And, retrieval.Or}
		f := retrieval.Filter{Type: types[rng.IntN(len(types))], Key: keys[rng.IntN(len(keys))], Value: values[rng.IntN(len(values))]}
		switch f.Type {
		case retrieval.And, retrieval.Or:
			if depth == 0 {
				f.Type = retrieval.Equal
				return f
			}
			f.Key, f.Value = "", nil
			for range 1 + rng.IntN(3) {
				f.Filters = append(f.Filters, draw(depth-1))
			}
		case retrieval.In, retrieval.NotIn:
			f.Value = []any{values[rng.IntN(len(values))], values[rng.IntN(len(values))]}
		case retrieval.Greater, retrieval.GreaterOrEqual, retrieval.Less, retrieval.LessOrEqual:
			f.Value = values[rng.IntN(7)]
		}
		return f
	}
	check := func(f retrieval.Filter) {
		t.Helper()
		must(t, f.Validate())
		var want []string
		for file, a := range all {
			if f.Matches(a) {
				want = append(want, file)
			}
		}
		slices.Sort(want)
		got, err := r.Matching(t.Context(), s.ID, &f)
		must(t, err)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "default/")
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: %v, want %v", f, got, want)
		}
		found, err := r.Lexical(t.Context(), s.ID, []string{"word"}, 100, &f)
		must(t, err)
		if files := ids(found); len(files) != len(want) || !slices.Equal(slices.Sorted(slices.Values(files)), want) {
			t.Fatalf("%+v: words are found in %v, want %v", f, files, want)
		}
	}
	for range 300 {
		check(draw(3))
	}
	all["07"] = retrieval.Attributes{"k": "new"}
	must(t, r.SetAttributes(t.Context(), "default/07", all["07"]))
	check(retrieval.Filter{Type: retrieval.Equal, Key: "k", Value: "new"})
	check(retrieval.Filter{Type: retrieval.NotEqual, Key: "l", Value: "a"})
	wantError(t, r.SetAttributes(t.Context(), "default/absent", nil), retrieval.ErrNoDocument)
	wantError(t, r.SetAttributes(t.Context(), "default/07", retrieval.Attributes{"k": 1}), retrieval.ErrAttributes)
	if got, err := r.Matching(t.Context(), s.ID, nil); err != nil || len(got) != 60 {
		t.Errorf("no filter: %d, %v", len(got), err)
	}
	wantWhole(t, r)
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	r, s := ensured(t, dir)
	want := retrieval.Settings{Language: "german", Fusion: &retrieval.Fusion{Method: retrieval.RRF}, Passages: retrieval.PassageSettings{Target: 50}}
	must(t, r.SetSettings(t.Context(), s.ID, want))
	// An empty store takes on another model and keeps its settings.
	another := minilm
	another.Name, another.SHA256 = "another", "bb"
	if _, err := r.EnsureStore(t.Context(), "default", another); err != nil {
		t.Fatal(err)
	}
	s, err := open(t, dir).Store(t.Context(), "default")
	must(t, err)
	if s.Settings.Language != "german" || *s.Settings.Fusion != *want.Fusion || s.Settings.Passages != want.Passages || s.Embedder.Name != "another" {
		t.Errorf("got %+v", s)
	}
	wantError(t, r.SetSettings(t.Context(), 999, want), retrieval.ErrNoStore)
}
