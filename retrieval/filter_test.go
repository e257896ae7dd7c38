package retrieval

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestFilterMatches(t *testing.T) {
	a := Attributes{"year": 2024., "lang": "de", "draft": false}
	for text, want := range map[string]bool{
		`{"type":"eq","key":"year","value":2024}`:        true,
		`{"type":"eq","key":"year","value":"2024"}`:      false,
		`{"type":"eq","key":"none","value":1}`:           false,
		`{"type":"ne","key":"lang","value":"en"}`:        true,
		`{"type":"ne","key":"lang","value":"de"}`:        false,
		`{"type":"ne","key":"none","value":"x"}`:         true,
		`{"type":"eq","key":"draft","value":false}`:      true,
		`{"type":"gt","key":"year","value":2023}`:        true,
		`{"type":"gt","key":"year","value":2024}`:        false,
		`{"type":"gte","key":"year","value":2024}`:       true,
		`{"type":"lt","key":"year","value":2024}`:        false,
		`{"type":"lte","key":"year","value":2024}`:       true,
		`{"type":"gt","key":"lang","value":"da"}`:        true,
		`{"type":"lt","key":"lang","value":5}`:           false,
		`{"type":"gt","key":"none","value":5}`:           false,
		`{"type":"in","key":"lang","value":["en","de"]}`: true,
		`{"type":"in","key":"lang","value":["en",2024]}`: false,
		`{"type":"nin","key":"lang","value":["en"]}`:     true,
		`{"type":"nin","key":"none","value":["en"]}`:     true,
		`{"type":"and","filters":[{"type":"eq","key":"lang","value":"de"},{"type":"gt","key":"year","value":2030}]}`: false,
		`{"type":"or","filters":[{"type":"eq","key":"lang","value":"de"},{"type":"gt","key":"year","value":2030}]}`:  true,
	} {
		var f Filter
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			t.Fatal(err)
		}
		if err := f.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := f.Matches(a); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if !(*Filter)(nil).Matches(a) || (*Filter)(nil).Validate() != nil {
		t.Error("no filter lets all pass")
	}
}

func TestFilterRefuses(t *testing.T) {
	deep := `{"type":"eq","key":"a","value":1}`
	for range 10 {
		deep = `{"type":"and","filters":[` + deep + `]}`
	}
	for text, mention := range map[string]string{
		`{}`:                                                                   "use eq, ne",
		`{"type":"like","key":"a","value":1}`:                                  `"like"`,
		`{"type":"eq","key":"","value":1}`:                                     "key",
		`{"type":"eq","key":"a"}`:                                              "value",
		`{"type":"eq","key":"a","value":[1]}`:                                  "value",
		`{"type":"eq","key":"a","value":{"b":1}}`:                              "value",
		`{"type":"in","key":"a","value":1}`:                                    "list",
		`{"type":"in","key":"a","value":[]}`:                                   "list",
		`{"type":"gt","key":"a","value":true}`:                                 "no order",
		`{"type":"and","filters":[]}`:                                          "takes filters",
		`{"type":"and","key":"a","filters":[{}]}`:                              "nothing else",
		`{"type":"eq","key":"a","value":1,"filters":[{}]}`:                     "takes no filters",
		`{"type":"eq","key":"a","value":1,"x":2}`:                              "unknown field",
		`{"type":"or","filters":[{"type":"eq","key":"a","value":1,"x":2}]}`:    "unknown field",
		`{"type":"eq","key":"a","value":"` + strings.Repeat("x", 513) + `"}`:   "512",
		`{"type":"in","key":"a","value":[` + strings.Repeat("1,", 300) + `1]}`: "256",
		deep: "nested",
	} {
		var f Filter
		err := json.Unmarshal([]byte(text), &f)
		if err == nil {
			err = f.Validate()
		}
		if !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), mention) {
			t.Errorf("%.80s: %v, want something of %q", text, err, mention)
		}
	}
}

func TestAttributes(t *testing.T) {
	many := Attributes{}
	for i := range 17 {
		many[string(rune('a'+i))] = "x"
	}
	for _, a := range []Attributes{many, {"": "x"}, {"a": 1}, {"a": nil}, {"a": "\xff"}, {strings.Repeat("k", 65): "x"}} {
		if err := a.Validate(); !errors.Is(err, ErrAttributes) {
			t.Errorf("%v: %v", a, err)
		}
	}
	if err := (Attributes{"a": "x", "b": 1.5, "c": true}).Validate(); err != nil {
		t.Error(err)
	}
}
