package openai

import (
	"cmp"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// checker keeps the first fault that is found in a request.
type checker struct{ err error }

func (c *checker) fail(code, param, format string, args ...any) {
	if c.err == nil {
		c.err = fault.Bad(code, param, format, args...)
	}
}

// between gives a number that is within bounds, or the fallback when it isn't given.
func between[N cmp.Ordered](c *checker, param string, n *N, low, high, fallback N) N {
	switch {
	case n == nil:
		return fallback
	case *n >= low && *n <= high:
	case low == high:
		c.fail(fault.Unsupported, param, "only %v is supported", low)
	case *n < low:
		c.fail(fault.InvalidValue, param, "at least %v", low)
	default:
		c.fail(fault.InvalidValue, param, "at most %v", high)
	}
	return *n
}

func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// given reports whether a member is there and not null.
func given(v jsontext.Value) bool { return len(v) > 0 && v.Kind() != jsontext.KindNull }

// oneMany is a string, or an array of strings.
type oneMany []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (o *oneMany) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*o = nil
	switch d.PeekKind() {
	case jsontext.KindString:
		var one string
		if err := json.UnmarshalDecode(d, &one); err != nil {
			return err
		}
		*o = oneMany{one}
		return nil
	case jsontext.KindBeginArray:
		return json.UnmarshalDecode(d, (*[]string)(o))
	case jsontext.KindNull:
		return d.SkipValue()
	default:
		return strict.Reject(d, fault.InvalidType, "expected a string or an array of strings")
	}
}
