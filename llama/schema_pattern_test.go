package llama

import (
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"testing"
)

// Texts of a pattern's grammar match the pattern and are JSON strings; texts that match are accepted.
func TestSchemaPatterns(t *testing.T) {
	for _, pattern := range []string{
		`^abc$`, `^a*b+c?$`, `^(ab|cd)+$`, `^[a-f0-9]{8}$`, `^\d{3}-\d{4}$`, `^[^x]{2,4}$`, `^.{1,5}$`, `^\w+@\w+\.(com|org)$`, `^(a|)b$`, `^$`, `^`, `x`, `^x`, `x$`,
		`^(?:a(b(c)?)?)?$`, `^[\w.+-]+$`, `^\S+ \S+$`, `^[A-Z][a-z]*( [A-Z][a-z]*)*$`, `^(\+|-)?[0-9]{1,3}$`, `^\/a\/b$`, `^[é-ü]+$`, `^\x41$`, `^[\]\[{}()*+?.|^$-]+$`, `^a{0}b{2,}$`, `^(a|b|[c-e]){2}$`, `^[0-9]{4}-[0-9]{2}$`, `^a|b$`,
	} {
		t.Run(pattern, func(t *testing.T) {
			text, _ := json.Marshal(pattern)
			grammar, err := SchemaToGrammar([]byte(`{"type":"string","pattern":` + string(text) + `}`))
			if err != nil {
				if pattern == `^a|b$` {
					return // anchors inside alternatives
				}
				t.Fatal(err)
			}
			g := mustParse(t, grammar)
			re := regexp.MustCompile(pattern)
			w := newWriter(g, 3)
			for range 300 {
				out := w.text(30)
				var s string
				if err := json.Unmarshal([]byte(out), &s); err != nil || !re.MatchString(s) {
					t.Fatalf("%s (%v)\n%s", out, err, grammar)
				}
			}
			r := rand.New(rand.NewPCG(4, 5))
			for range 2000 {
				s := randomText(r, "abcdxAB019-+. @/é[]{}()*?|^$", 6)
				if got := g.accepts(`"` + s + `"`); got != re.MatchString(s) {
					t.Fatalf("%q is accepted: %v\n%s", s, got, grammar)
				}
			}
		})
	}
}

func randomText(r *rand.Rand, alphabet string, most int) string {
	runes := []rune(alphabet)
	out := make([]rune, r.IntN(most+1))
	for i := range out {
		out[i] = runes[r.IntN(len(runes))]
	}
	return string(out)
}
