package llama

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestSchemaToGrammar(t *testing.T) {
	for _, test := range []struct {
		name, schema string
		yes, no      []string
	}{
		{"anything", `{}`, []string{`1`, `"a"`, `[true,null]`, `{"a":1}`}, []string{`a`, ``}},
		{"true", `true`, []string{`{}`}, []string{`}`}},
		{"object", `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}`,
			[]string{`{"a":1}`, `{"a": -1, "b": "x\n"}`}, []string{`{}`, `{"b":"x"}`, `{"a":1,"c":2}`, `{"a":1.5}`, `{"a":1,"b":"` + "\n" + `"}`}},
		{"order", `{"properties":{"z":{"type":"null"},"a":{"type":"null"}},"required":["a","z"]}`, []string{`{"z":null,"a":null}`}, []string{`{"a":null,"z":null}`}},
		{"free object", `{"type":"object"}`, []string{`{}`, `{"x":[1]}`}, []string{`[]`}},
		{"map", `{"type":"object","additionalProperties":{"type":"boolean"}}`, []string{`{}`, `{"x":true,"y":false}`}, []string{`{"x":1}`}},
		{"closed", `{"type":"object","properties":{"a":{"type":"null"}},"additionalProperties":true}`, []string{`{}`, `{"a":null}`}, []string{`{"b":1}`}},
		{"array", `{"type":"array","items":{"enum":["a","b"]},"minItems":1,"maxItems":2}`, []string{`["a"]`, `["a", "b"]`}, []string{`[]`, `["c"]`, `["a","a","a"]`}},
		{"no items", `{"type":"array","items":{"type":"null"},"maxItems":0}`, []string{`[]`}, []string{`[null]`}},
		{"tuple", `{"prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false}`, []string{`[null,true]`}, []string{`[null]`, `[null,true,1]`}},
		{"length", `{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"äöü"`}, []string{`"a"`, `"abcd"`}},
		{"pattern", `{"type":"string","pattern":"^a.[^b]\\d{2}$"}`, []string{`"axy12"`}, []string{`"a"y12"`, `"ax\12"`, `"axb12"`, `"axy1"`, `axy12`}},
		{"pattern inside", `{"type":"string","pattern":"b+"}`, []string{`"b"`, `"abbc"`}, []string{`"a"`, `""`}},
		{"date", `{"type":"string","format":"date"}`, []string{`"2025-02-28"`}, []string{`"2025-13-01"`, `"x"`}},
		{"uuid", `{"format":"uuid"}`, []string{`"123e4567-e89b-12d3-a456-426614174000"`}, []string{`"123"`}},
		{"minimum", `{"type":"integer","minimum":105}`, []string{`105`, `1000`}, []string{`15`, `104`, `-200`}},
		{"maximum", `{"type":"integer","exclusiveMaximum":-4}`, []string{`-5`, `-123`}, []string{`-4`, `-01`, `-06`, `0`, `6`}},
		{"fractional bounds", `{"type":"integer","minimum":1.5,"maximum":3.2e0}`, []string{`2`, `3`}, []string{`1`, `4`}},
		{"all bounds", `{"type":"integer","minimum":1,"exclusiveMinimum":2,"maximum":9,"exclusiveMaximum":5}`, []string{`3`, `4`}, []string{`2`, `5`}},
		{"const", `{"const":{"a":[1,"\"\n"]}}`, []string{`{"a":[1,"\"\n"]}`}, []string{`{}`}},
		{"enum", `{"type":["string","null"],"enum":["a",null]}`, []string{`"a"`, `null`}, []string{`"b"`}},
		{"types", `{"type":["integer","string"],"minLength":1,"minimum":3}`, []string{`3`, `"x"`}, []string{`2`, `""`, `true`}},
		{"optional", `{"anyOf":[{"type":"number"},{"type":"null"}],"default":null,"title":"T"}`, []string{`1.5`, `null`}, []string{`""`}},
		{"oneOf types", `{"oneOf":[{"type":"integer"},{"type":"string"}]}`, []string{`1`, `"a"`}, []string{`null`}},
		{"oneOf tagged", `{"oneOf":[{"$ref":"#/$defs/cat"},{"$ref":"#/$defs/dog"}],"$defs":{
			"cat":{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}},"required":["kind"]},
			"dog":{"type":"object","properties":{"kind":{"enum":["dog","wolf"]}},"required":["kind"]}}}`,
			[]string{`{"kind":"cat","lives":9}`, `{"kind":"wolf"}`}, []string{`{"kind":"dog","lives":9}`, `{}`}},
		{"tree", `{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["next"]}}}`,
			[]string{`{"next":null}`, `{"next":{"next":null}}`}, []string{`null`, `{"next":1}`}},
		{"allOf one", `{"type":"object","properties":{"a":{"allOf":[{"$ref":"#/$defs/x"}],"description":"d"}},"required":["a"],"$defs":{"x":{"enum":["u","v"]}}}`, []string{`{"a":"u"}`}, []string{`{"a":"w"}`}},
		{"allOf objects", `{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"b":{"type":"null"}}}],"$defs":{"a":{"type":"object","properties":{"a":{"type":"null"}},"required":["a"]}}}`,
			[]string{`{"a":null,"b":null}`}, []string{`{"b":null}`}},
		{"allOf tree", `{"$ref":"#/$defs/n","$defs":{"b":{"properties":{"v":{"type":"null"}}},"n":{"allOf":[{"$ref":"#/$defs/b"},{"properties":{"c":{"type":"array","items":{"$ref":"#/$defs/n"}}}}]}}}`,
			[]string{`{"v":null,"c":[]}`, `{"v":null,"c":[{"v":null,"c":[]}]}`}, []string{`{"c":[]}`}},
		{"names of rules", `{"type":"object","properties":{"root":{"type":"null"},"string":{"type":"integer"},"space":{"type":"null"},"char":{"type":"string"},"é ü":{"type":"null"},"ö ä":{"type":"boolean"}},"required":["root","string","space","char","é ü","ö ä"]}`,
			[]string{`{"root":null,"string":1,"space":null,"char":"x","é ü":null,"ö ä":true}`}, []string{`{"root":null,"string":"x","space":null,"char":"x","é ü":null,"ö ä":true}`, `{"root":null,"string":1,"space":null,"char":"x","é ü":null,"ö ä":null}`}},
		{"annotations", `{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"x","title":"t","x-order":1,"type":"boolean","$comment":"c","examples":[1]}`, []string{`true`}, []string{`1`}},
		{"reference by index", `{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#/anyOf/0"}}]}`, []string{`null`, `[null]`}, []string{`[1]`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			grammar, err := SchemaToGrammar([]byte(test.schema))
			if err != nil {
				t.Fatal(err)
			}
			g := mustParse(t, grammar)
			for _, text := range test.yes {
				if !g.accepts(text) {
					t.Errorf("%s should be accepted by\n%s", text, grammar)
				}
			}
			for _, text := range test.no {
				if g.accepts(text) {
					t.Errorf("%s should not be accepted by\n%s", text, grammar)
				}
			}
		})
	}
}

func TestSchemaRefused(t *testing.T) {
	deep := strings.Repeat(`{"type":"array","items":`, 200) + "{}" + strings.Repeat("}", 200)
	var chain strings.Builder
	for i := range 300 {
		fmt.Fprintf(&chain, `"a%d":{"type":"array","items":{"$ref":"#/$defs/a%d"}},`, i, i+1)
	}
	var doubling strings.Builder
	for i := range 40 {
		fmt.Fprintf(&doubling, `"a%d":{"properties":{"x":{"allOf":[{"$ref":"#/$defs/a%d"},{"properties":{"p":{}}}]},"y":{"allOf":[{"$ref":"#/$defs/a%d"},{"properties":{"q":{}}}]}}},`, i, i+1, i+1)
	}
	properties := make([]string, 201)
	for i := range properties {
		properties[i] = fmt.Sprintf(`"p%d":{}`, i)
	}
	for _, test := range []struct{ name, schema, at string }{
		{"empty", ``, "JSON"},
		{"not JSON", `{"type":`, "JSON"},
		{"not UTF-8", "{\"title\":\"\xff\"}", "UTF-8"},
		{"a list", `[]`, "#"},
		{"false", `false`, "#"},
		{"twice", `{"type":"null","type":"string"}`, "twice"},
		{"type", `{"properties":{"a":{"type":"text"}}}`, "#/properties/a/type"},
		{"types", `{"type":[]}`, "#/type"},
		{"types twice", `{"type":["null","null"]}`, "#/type"},
		{"deep", deep, "deep"},
		{"large", `{"title":"` + strings.Repeat("x", maxSchema) + `"}`, "bytes"},
		{"chain", `{"$ref":"#/$defs/a0","$defs":{` + chain.String() + `"a300":{}}}`, "deep"},
		{"doubling", `{"$ref":"#/$defs/a0","$defs":{` + doubling.String() + `"a40":{"properties":{"z":{}}}}}`, "large"},
		{"properties", `{"properties":{` + strings.Join(properties, ",") + `}}`, "201"},
		{"properties list", `{"properties":[]}`, "#/properties"},
		{"remote", `{"$ref":"https://example.org/schema.json"}`, "https://example.org"},
		{"file", `{"$ref":"file:///etc/passwd"}`, "file:"},
		{"whole", `{"properties":{"a":{"$ref":"#"}}}`, "#/properties/a/$ref"},
		{"nowhere", `{"$ref":"#/$defs/a"}`, "nowhere"},
		{"escaped", `{"$ref":"#/$defs/a~1b","$defs":{"a/b":{}}}`, "escapes"},
		{"alike", `{"properties":{"a":{"$ref":"#/$defs/x y"},"b":{"$ref":"#/$defs/x-y"}},"$defs":{"x y":{"type":"null"},"x-y":{"type":"string"}}}`, "alike"},
		{"itself", `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, "itself"},
		{"itself or", `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/a"}]}}}`, "itself"},
		{"itself all", `{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"x":{}}}],"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"y":{}}}]}}}`, ""},
		{"all in all", `{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"x":{}}}],"$defs":{"a":{"properties":{"y":{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"z":{}}}]}}}}}`, "deep"},
		{"many characters", `{"type":"string","maxLength":3000}`, "#/maxLength"},
		{"many items", `{"type":"array","items":{"type":"null"},"minItems":100000000000}`, "#/minItems"},
		{"half an item", `{"type":"array","minItems":1.5}`, "#/minItems"},
		{"negative", `{"type":"string","minLength":-1}`, "#/minLength"},
		{"swapped", `{"type":"string","minLength":3,"maxLength":2}`, "minLength is more"},
		{"no integer", `{"type":"integer","minimum":3,"maximum":2}`, "no integer"},
		{"no number", `{"type":"integer","minimum":"3"}`, "#/minimum"},
		{"required", `{"type":"object","required":"a"}`, "#/required"},
		{"enum", `{"enum":[]}`, "#/enum"},
		{"anyOf", `{"anyOf":{}}`, "#/anyOf"},
		{"allOf", `{"allOf":[]}`, "#/allOf"},
		{"pattern list", `{"type":"string","pattern":[]}`, "#/pattern"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := SchemaToGrammar([]byte(test.schema))
			if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), test.at) {
				t.Errorf("got %v, want ErrSchema about %q", err, test.at)
			}
		})
	}
}

func TestSchemaUnsupported(t *testing.T) {
	for _, test := range []struct{ name, schema, want string }{
		{"none", `{"type":"string","title":"x"}`, ""},
		{"unknown", `{"type":"object","properties":{"a":{"typ":"x"}}}`, "#/properties/a: typ: not supported"},
		{"not", `{"not":{}}`, "#: not: not supported"},
		{"if", `{"type":"object","if":{},"then":{}}`, "#: if: not supported; #: then: not supported"},
		{"patternProperties", `{"type":"object","patternProperties":{}}`, "#: patternProperties: not supported"},
		{"number", `{"type":"number","minimum":0}`, "#: minimum: not supported"},
		{"integer or number", `{"type":["integer","number"],"minimum":0}`, "#: minimum: not supported"},
		{"multipleOf", `{"type":"integer","multipleOf":5}`, "#: multipleOf: not supported"},
		{"untyped", `{"minimum":0}`, "#: minimum: not supported"},
		{"large bound", `{"type":"integer","maximum":1e18}`, "#: maximum: the number is too large"},
		{"uniqueItems", `{"type":"array","uniqueItems":true}`, "#: uniqueItems: not supported"},
		{"tuple", `{"prefixItems":[{}],"items":{}}`, "#: items: cannot be enforced beside prefixItems"},
		{"tuple length", `{"prefixItems":[{}],"minItems":2}`, "#: minItems, maxItems: the list always has 1 items"},
		{"format", `{"type":"string","format":"email"}`, `#: format: "email" is not supported`},
		{"format and length", `{"type":"string","format":"date","minLength":1}`, "#: format, minLength and maxLength: cannot be enforced together"},
		{"look-ahead", `{"type":"string","pattern":"^(?=a)"}`, `#: pattern: "^(?=a)": it has syntax that is not supported`},
		{"boundary", `{"type":"string","pattern":"\\ba"}`, `#: pattern: "\\ba": it has syntax that is not supported`},
		{"quote", `{"type":"string","pattern":"^\"$"}`, `#: pattern: "^\"$": it needs quotes, backslashes, control characters or unusual spaces`},
		{"anchor inside", `{"type":"string","pattern":"^(a$|b)c$"}`, `#: pattern: "^(a$|b)c$": it has assertions, or anchors inside`},
		{"long pattern", `{"type":"string","pattern":"^(a{1,100}){1,100}$"}`, `#: pattern: "^(a{1,100}){1,100}$": it cannot be parsed, repeats too much, or has assertions or back references`},
		{"longer pattern", `{"type":"string","pattern":"^(abcde){500}$"}`, `#: pattern: "^(abcde){500}$": it is too long: more than 2000 characters, with repetitions`},
		{"required", `{"properties":{"a":{}},"required":["b"]}`, `#: required: "b" is not among the properties`},
		{"required alone", `{"type":"object","required":["b"]}`, `#: required: "b" is not among the properties`},
		{"additional", `{"properties":{"a":{}},"additionalProperties":{"type":"null"}}`, "#: additionalProperties: cannot be enforced beside properties"},
		{"empty name", `{"properties":{"":{}}}`, `#: properties: the converter mistakes "" for a rule of its own`},
		{"beside $ref", `{"$ref":"#/$defs/a","minimum":1,"$defs":{"a":{"type":"integer"}}}`, "#: minimum: cannot be enforced beside $ref"},
		{"beside anyOf", `{"anyOf":[{"type":"null"}],"properties":{}}`, "#: properties: cannot be enforced beside anyOf"},
		{"beside allOf", `{"properties":{"a":{}},"allOf":[{"properties":{"b":{}}},{"properties":{"c":{}}}]}`, "#: properties: cannot be enforced beside allOf"},
		{"beside enum", `{"enum":["a"],"minLength":1}`, "#: minLength: cannot be enforced beside enum"},
		{"enum and type", `{"type":"integer","enum":[1,"a"]}`, `#: enum: "a" is not of the schema's type`},
		{"oneOf", `{"oneOf":[{"type":"integer"},{"type":"number"}]}`, "#: oneOf: alternatives 0 and 1 may both hold: use anyOf, or a property with different constants"},
		{"allOf strings", `{"allOf":[{"type":"string"},{"minLength":1}]}`, "#/allOf/0: only objects with properties can be put together; #/allOf/1: only objects with properties can be put together"},
		{"allOf twice", `{"allOf":[{"properties":{"a":{}}},{"properties":{"a":{}}}]}`, `#/allOf/1: properties: "a" is also in allOf/0`},
		{"allOf closed", `{"allOf":[{"properties":{"a":{}},"additionalProperties":false},{"properties":{"b":{}}}]}`, "#/allOf/0: additionalProperties: cannot be enforced in allOf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := SchemaUnsupported([]byte(test.schema))
			if err != nil {
				t.Fatal(err)
			}
			if joined := strings.Join(got, "; "); joined != test.want {
				t.Errorf("got  %s\nwant %s", joined, test.want)
			}
			if _, err := SchemaToGrammar([]byte(test.schema)); errors.Is(err, ErrSchema) != (test.want != "") {
				t.Errorf("the grammar's error: %v", err)
			}
		})
	}
	if _, err := SchemaUnsupported([]byte(`{"type":"text"}`)); !errors.Is(err, ErrSchema) {
		t.Errorf("got %v", err)
	}
}

// Whatever bounds are asked for, exactly the integers between them come out.
func TestSchemaIntegerBounds(t *testing.T) {
	values := []int{-1200, -1000, -999, -105, -100, -99, -21, -20, -19, -11, -10, -9, -5, -1, 0, 1, 5, 9, 10, 11, 15, 19, 20, 21, 99, 100, 105, 109, 110, 999, 1000, 1005, 1200}
	check := func(schema string, low, high int) {
		t.Helper()
		grammar, err := SchemaToGrammar([]byte(schema))
		if err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		g := mustParse(t, grammar)
		for n := -1300; n <= 1300; n++ {
			if got, want := g.accepts(fmt.Sprint(n)), low <= n && n <= high; got != want {
				t.Fatalf("%s: %d is accepted: %v\n%s", schema, n, got, grammar)
			}
		}
		for _, text := range []string{"01", "-01", "00", "-05", "1.0", "+1", "-", ""} {
			if g.accepts(text) {
				t.Fatalf("%s: %s is accepted\n%s", schema, text, grammar)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, low := range values {
		check(fmt.Sprintf(`{"type":"integer","minimum":%d}`, low), low, math.MaxInt)
		check(fmt.Sprintf(`{"type":"integer","maximum":%d}`, low), math.MinInt, low)
		for _, high := range values {
			if low <= high && r.IntN(4) == 0 {
				check(fmt.Sprintf(`{"type":"integer","minimum":%d,"maximum":%d}`, low, high), low, high)
			}
		}
	}
}

// The parameters of tools only guide: what cannot be converted goes, the rest stays as it is.
func TestGuidingSchema(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type":"object","properties":{"n":{"type":"number","minimum":0,"description":"<b>"}},"patternProperties":{}}`: `{"type":"object","properties":{"n":{"type":"number","minimum":0,"description":"\u003cb\u003e"}},"patternProperties":{}}`,
		`{"type":"string","maxLength":100000,"minLength":1}`:                                                            `{"type":"string","minLength":1}`,
		`{"type":"string","pattern":"^(?=a).*$"}`:                                                                       `{"type":"string"}`,
		`{"type":"string","pattern":"^.*$"}`:                                                                            `{"type":"string"}`,
		`{"type":"string","pattern":"^[a-z]+$"}`:                                                                        `{"type":"string","pattern":"^[a-z]+$"}`,
		`{"type":"object","properties":{"ref-id":{"type":"string","format":"email"}}}`:                                  `{"type":"object","properties":{"ref-id":{"type":"string","format":"email"}}}`,
	} {
		got, err := guidingSchema([]byte(schema))
		if err != nil || string(got) != want {
			t.Errorf("%s\ngot  %s (%v)\nwant %s", schema, got, err, want)
		}
	}
	for _, schema := range []string{`{"$ref":"http://example.org"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, `[]`} {
		if _, err := guidingSchema([]byte(schema)); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

func BenchmarkSchemaToGrammar(b *testing.B) {
	schema := []byte(`{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0},"tags":{"type":"array","items":{"type":"string"}}},"required":["name","age"]}`)
	for b.Loop() {
		if _, err := SchemaToGrammar(schema); err != nil {
			b.Fatal(err)
		}
	}
}
