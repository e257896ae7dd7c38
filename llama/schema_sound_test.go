package llama

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// holds checks a value against a schema, by the book, for the keywords that are supported.
func holds(root, schema *jsonNode, v *jsonNode, depth int) bool {
	if depth > 200 {
		return false
	}
	if schema.isTrue() {
		return true
	}
	all := func(n *jsonNode, f func(*jsonNode) bool) bool {
		return n == nil || !slices.ContainsFunc(n.items, func(item *jsonNode) bool { return !f(item) })
	}
	count := func(n *jsonNode) (k int) {
		for _, item := range n.items {
			if holds(root, item, v, depth+1) {
				k++
			}
		}
		return k
	}
	if ref, ok := schema.get("$ref").text(); ok {
		target, err := (&schemaChecker{root: root}).resolve(ref)
		if err != nil || !holds(root, target, v, depth+1) {
			return false
		}
	}
	if n := schema.get("anyOf"); n != nil && count(n) == 0 {
		return false
	}
	if n := schema.get("oneOf"); n != nil && count(n) != 1 {
		return false
	}
	if !all(schema.get("allOf"), func(item *jsonNode) bool { return holds(root, item, v, depth+1) }) {
		return false
	}
	if n := schema.get("type"); n != nil {
		types := n.items
		if n.kind == 0 {
			types = []*jsonNode{n}
		}
		if !slices.ContainsFunc(types, func(item *jsonNode) bool { t, _ := item.text(); return v.is(t) }) {
			return false
		}
	}
	if list := constantsOf(schema); len(list) > 0 && !slices.ContainsFunc(list, func(item *jsonNode) bool { return string(item.append(nil)) == string(v.append(nil)) }) {
		return false
	}
	number := func(n *jsonNode) float64 {
		f, _ := n.scalar.(json.Number).Float64()
		return f
	}
	bound := func(key string, f func(limit float64) bool) bool {
		n := schema.get(key)
		return n == nil || f(number(n))
	}
	switch {
	case v.kind == '{':
		props := schema.get("properties")
		for _, m := range v.members {
			switch add := schema.get("additionalProperties"); {
			case props != nil && props.has(m.key):
				if !holds(root, props.get(m.key), m.value, depth+1) {
					return false
				}
			case add.isFalse() || add != nil && add.kind == '{' && !holds(root, add, m.value, depth+1):
				return false
			}
		}
		return all(schema.get("required"), func(item *jsonNode) bool { name, _ := item.text(); return v.has(name) })
	case v.kind == '[':
		k := float64(len(v.items))
		if !bound("minItems", func(f float64) bool { return k >= f }) || !bound("maxItems", func(f float64) bool { return k <= f }) {
			return false
		}
		prefix := schema.get("prefixItems")
		if items := schema.get("items"); items != nil && items.kind == '[' {
			prefix = items
		}
		for i, item := range v.items {
			switch items := schema.get("items"); {
			case prefix != nil && i < len(prefix.items):
				if !holds(root, prefix.items[i], item, depth+1) {
					return false
				}
			case items.isFalse() || items != nil && items.kind == '{' && !holds(root, items, item, depth+1):
				return false
			}
		}
	case v.is("string"):
		s, _ := v.text()
		k := float64(utf8.RuneCountInString(s))
		if p, ok := schema.get("pattern").text(); ok && !regexp.MustCompile(p).MatchString(s) {
			return false
		}
		// an escaped surrogate is counted where it stands
		return strings.Contains(s, "\uFFFD") || k > 0 && s[0] > 0x7F ||
			bound("minLength", func(f float64) bool {
				return k >= f || strings.ContainsFunc(s, func(r rune) bool { return r > 0xFFFF })
			}) && bound("maxLength", func(f float64) bool { return k <= f })
	case v.is("integer") && !slices.Contains([]string{"", `"number"`}, typeText(schema)):
		f := number(v)
		return bound("minimum", func(b float64) bool { return f >= b }) && bound("maximum", func(b float64) bool { return f <= b }) &&
			bound("exclusiveMinimum", func(b float64) bool { return f > b }) && bound("exclusiveMaximum", func(b float64) bool { return f < b })
	}
	return true
}

func typeText(schema *jsonNode) string {
	if n := schema.get("type"); n != nil {
		return string(n.append(nil))
	}
	return ""
}

// checkSound makes texts of a schema's grammar and checks them against the schema as it was given.
func checkSound(t *testing.T, schema []byte, n int) {
	t.Helper()
	grammar, err := SchemaToGrammar(schema)
	if err != nil {
		if !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", schema, err)
		}
		return
	}
	root, err := parseSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(mustParse(t, grammar), uint64(len(schema)))
	if w.endless() {
		return // of the schema's values, such as lists that hold a list like themselves
	}
	for range n {
		text := w.text(40)
		v, err := parseSchema([]byte(text))
		if err != nil && strings.Contains(err.Error(), "twice") {
			continue // nothing keeps a free object from repeating a key
		}
		if err != nil {
			if len(text) > maxSchema/2 || nesting([]byte(text)) > maxJSONDepth {
				continue
			}
			t.Fatalf("%s\n%s: %v\n%s", schema, text, err, grammar)
		}
		if !holds(root, root, v, 0) {
			t.Fatalf("%s\nlets through %s\n%s", schema, text, grammar)
		}
	}
}

// randomSchema writes schemas of which some are supported.
func randomSchema(r *rand.Rand, depth int) string {
	sub := func() string { return randomSchema(r, depth-1) }
	kinds := []func() string{
		func() string { return `{"type":"boolean"}` },
		func() string { return `{"type":["string","null"]}` },
		func() string { return fmt.Sprintf(`{"type":"integer","minimum":%d}`, r.IntN(300)-150) },
		func() string {
			return fmt.Sprintf(`{"type":"integer","exclusiveMaximum":%d,"minimum":%d}`, r.IntN(3000), -r.IntN(1000))
		},
		func() string { return `{"type":"number"}` },
		func() string {
			return fmt.Sprintf(`{"type":"string","minLength":%d,"maxLength":%d}`, r.IntN(3), 2+r.IntN(3))
		},
		func() string { return `{"type":"string","pattern":"^[^a]+.(x|y){2}$"}` },
		func() string { return `{"type":"string","format":"date-time"}` },
		func() string { return `{"enum":["a",1,null,"\n\""]}` },
		func() string { return `{"const":"c"}` },
		func() string { return `{}` },
		func() string { return `{"$ref":"#/$defs/r"}` },
		func() string { return `{"type":"object","additionalProperties":` + sub() + `}` },
		func() string {
			return `{"type":"object","properties":{"a":` + sub() + `,"b":` + sub() + `,"c":` + sub() + `},"required":["b"]}`
		},
		func() string {
			return `{"properties":{"a":` + sub() + `,"r":` + sub() + `},"additionalProperties":true}`
		},
		func() string {
			return fmt.Sprintf(`{"type":"array","items":%s,"minItems":%d,"maxItems":%d}`, sub(), r.IntN(3), 2+r.IntN(3))
		},
		func() string { return `{"prefixItems":[` + sub() + `,` + sub() + `],"items":false}` },
		func() string { return `{"anyOf":[` + sub() + `,` + sub() + `],"description":"d"}` },
		func() string { return `{"oneOf":[` + sub() + `,` + sub() + `]}` },
		func() string {
			return `{"allOf":[{"properties":{"x":` + sub() + `}},{"type":"object","properties":{"y":` + sub() + `},"required":["x"]}]}`
		},
		func() string { return `{"allOf":[` + sub() + `]}` },
	}
	if depth <= 0 {
		kinds = kinds[:12]
	}
	return kinds[r.IntN(len(kinds))]()
}

func TestSchemaSound(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	supported := 0
	for range 1500 {
		schema := `{"type":"array","items":` + randomSchema(r, 3) + `,"$defs":{"r":` + randomSchema(r, 2) + `}}`
		if problems, err := SchemaUnsupported([]byte(schema)); err == nil && len(problems) == 0 {
			supported++
		}
		checkSound(t, []byte(schema), 10)
	}
	if supported < 500 {
		t.Errorf("only %d schemas were supported", supported)
	}
}

func FuzzSchemaToGrammar(f *testing.F) {
	r := rand.New(rand.NewPCG(8, 9))
	for range 40 {
		f.Add([]byte(`{"type":"array","items":` + randomSchema(r, 3) + `,"$defs":{"r":` + randomSchema(r, 2) + `}}`))
	}
	f.Fuzz(func(t *testing.T, schema []byte) {
		if len(schema) > 4096 {
			return
		}
		checkSound(t, schema, 3)
		if _, err := guidingSchema(schema); err != nil && !errors.Is(err, ErrSchema) {
			t.Error(err)
		}
	})
}
