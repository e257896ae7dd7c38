package retrieval

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Attributes are what a document is known by besides its text: strings, numbers (float64) and truth values.
type Attributes map[string]any

// Limits of attributes and filters; those of OpenAI's vector stores where they have one.
const (
	MaxAttributes     = 16
	MaxAttributeKey   = 64  // characters
	MaxAttributeValue = 512 // characters of a string
	maxFilterDepth    = 8
	maxFilterParts    = 256 // comparisons and listed values in all
)

// Validate names what can't be stored.
func (a Attributes) Validate() error {
	if len(a) > MaxAttributes {
		return fmt.Errorf("%w: %d attributes; at most %d", ErrAttributes, len(a), MaxAttributes)
	}
	for k, v := range a {
		if err := checkKey(k); err != nil {
			return fmt.Errorf("%w: %w", ErrAttributes, err)
		}
		if err := checkValue(v); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrAttributes, k, err)
		}
	}
	return nil
}

func checkKey(key string) error {
	if n := utf8.RuneCountInString(key); n < 1 || n > MaxAttributeKey || !utf8.ValidString(key) {
		return fmt.Errorf("the key %.80q; a key is 1 to %d characters", key, MaxAttributeKey)
	}
	return nil
}

func checkValue(value any) error {
	switch v := value.(type) {
	case string:
		if !utf8.ValidString(v) || utf8.RuneCountInString(v) > MaxAttributeValue {
			return fmt.Errorf("a string is UTF-8 of at most %d characters", MaxAttributeValue)
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.New("a number is finite")
		}
	case bool:
	default:
		return fmt.Errorf("a %T; a value is a string, a number or a truth value", value)
	}
	return nil
}

// FilterType says what a Filter asks.
type FilterType string

// The types of filters.
const (
	Equal          FilterType = "eq"
	NotEqual       FilterType = "ne" // also of documents that lack the attribute
	Greater        FilterType = "gt" // of numbers by size, of strings by code points; values of other kinds never match
	GreaterOrEqual FilterType = "gte"
	Less           FilterType = "lt"
	LessOrEqual    FilterType = "lte"
	In             FilterType = "in"  // one of a list
	NotIn          FilterType = "nin" // also of documents that lack the attribute
	And            FilterType = "and"
	Or             FilterType = "or"
)

// Filter chooses documents by their attributes, in the form of OpenAI's vector stores: {"type": "eq", "key": "year", "value": 2024},
// or {"type": "and", "filters": […]}.
type Filter struct {
	Type    FilterType `json:"type"`
	Key     string     `json:"key,omitempty"`
	Value   any        `json:"value,omitempty"`   // a string, float64 or bool; of in and nin an []any of them
	Filters []Filter   `json:"filters,omitempty"` // of and, or
}

// UnmarshalJSON refuses fields that a filter doesn't have.
func (f *Filter) UnmarshalJSON(text []byte) error {
	type plain Filter
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(f)); err != nil {
		return fmt.Errorf("%w: %w", ErrFilter, err)
	}
	return nil
}

// Validate names what a filter can't ask. nil asks nothing and is valid.
func (f *Filter) Validate() error {
	if f == nil {
		return nil
	}
	parts := 0
	if err := f.validate(1, &parts); err != nil {
		return fmt.Errorf("%w: %w", ErrFilter, err)
	}
	return nil
}

func (f *Filter) validate(depth int, parts *int) error {
	if *parts++; *parts > maxFilterParts || depth > maxFilterDepth {
		return fmt.Errorf("it has more than %d parts or is nested more than %d deep", maxFilterParts, maxFilterDepth)
	}
	switch f.Type {
	case And, Or:
		if len(f.Filters) == 0 || f.Key != "" || f.Value != nil {
			return fmt.Errorf("%s takes filters, and nothing else", f.Type)
		}
		for i := range f.Filters {
			if err := f.Filters[i].validate(depth+1, parts); err != nil {
				return err
			}
		}
		return nil
	}
	values := []any{f.Value}
	switch f.Type {
	case Equal, NotEqual, Greater, GreaterOrEqual, Less, LessOrEqual:
	case In, NotIn:
		var ok bool
		if values, ok = f.Value.([]any); !ok || len(values) == 0 {
			return fmt.Errorf("%s of %s takes a list of values", f.Type, f.Key)
		}
		if *parts += len(values); *parts > maxFilterParts {
			return fmt.Errorf("it has more than %d parts", maxFilterParts)
		}
	default:
		return fmt.Errorf("the type %.40q; use eq, ne, gt, gte, lt, lte, in, nin, and, or", f.Type)
	}
	if len(f.Filters) > 0 {
		return fmt.Errorf("%s takes no filters", f.Type)
	}
	if err := checkKey(f.Key); err != nil {
		return err
	}
	if f.Type != Equal && f.Type != NotEqual {
		if _, truth := f.Value.(bool); truth {
			return fmt.Errorf("%s of %s: truth values have no order", f.Type, f.Key)
		}
	}
	for _, v := range values {
		if err := checkValue(v); err != nil {
			return fmt.Errorf("%s of %s: %w", f.Type, f.Key, err)
		}
	}
	return nil
}

// Matches says whether a document with these attributes is chosen. Records choose by queries of their own; this is what they mean.
func (f *Filter) Matches(a Attributes) bool {
	if f == nil {
		return true
	}
	value, has := a[f.Key]
	switch f.Type {
	case And:
		for i := range f.Filters {
			if !f.Filters[i].Matches(a) {
				return false
			}
		}
		return true
	case Or:
		for i := range f.Filters {
			if f.Filters[i].Matches(a) {
				return true
			}
		}
		return false
	case Equal:
		return has && value == f.Value
	case NotEqual:
		return !has || value != f.Value
	case In, NotIn:
		listed := false
		values, _ := f.Value.([]any)
		for _, v := range values {
			listed = listed || has && value == v
		}
		return listed == (f.Type == In)
	}
	order := 0
	switch v := value.(type) {
	case float64:
		than, ok := f.Value.(float64)
		if !ok {
			return false
		}
		order = cmp.Compare(v, than)
	case string:
		than, ok := f.Value.(string)
		if !ok {
			return false
		}
		order = cmp.Compare(v, than)
	default:
		return false
	}
	switch f.Type {
	case Greater:
		return order > 0
	case GreaterOrEqual:
		return order >= 0
	case Less:
		return order < 0
	default:
		return order <= 0
	}
}
