package llama

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func (c *schemaChecker) checkObject(n *jsonNode, path string) error {
	props := n.get("properties")
	if props != nil && props.kind != '{' {
		return fmt.Errorf("%s/properties: must be an object", path)
	}
	if props != nil {
		if len(props.members) > maxProperties {
			return fmt.Errorf("%s/properties: there are %d; at most %d", path, len(props.members), maxProperties)
		}
		for _, m := range props.members {
			if len(m.key) > maxPropertyName {
				return fmt.Errorf("%s/properties: a name has more than %d bytes: %.40q", path, maxPropertyName, m.key)
			}
			if c.strict && (m.key == "" || strings.HasPrefix(m.key, "ref-")) {
				c.problem(path, "properties: the converter mistakes %q for a rule of its own", m.key) // root, or a reference's
			}
			if err := c.check(m.value, path+"/properties/"+m.key); err != nil {
				return err
			}
		}
	}
	required, err := requiredOf(n, path)
	if err != nil {
		return err
	}
	for _, name := range required {
		if c.strict && (props == nil || !props.has(name)) {
			c.problem(path, "required: %q is not among the properties", name)
		}
	}
	add := n.get("additionalProperties")
	switch {
	case add == nil || add.isFalse():
	case add.isTrue() || add.kind == '{' && len(add.members) == 0:
		if props != nil && len(props.members) > 0 {
			n.remove("additionalProperties") // none is fine too, and keys are safe then
		}
	default:
		if props != nil && len(props.members) > 0 {
			c.drop(n, "additionalProperties", path, "cannot be enforced beside properties")
		}
		return c.check(add, path+"/additionalProperties")
	}
	return nil
}

func requiredOf(n *jsonNode, path string) ([]string, error) {
	list := n.get("required")
	if list == nil {
		return nil, nil
	}
	var names []string
	for _, item := range list.items {
		name, ok := item.text()
		if !ok {
			return nil, fmt.Errorf("%s/required: must be a list of names", path)
		}
		names = append(names, name)
	}
	if list.kind != '[' {
		return nil, fmt.Errorf("%s/required: must be a list of names", path)
	}
	return names, nil
}

func (c *schemaChecker) checkArray(n *jsonNode, path string) error {
	if n.get("uniqueItems").isTrue() {
		c.drop(n, "uniqueItems", path, "not supported")
	}
	low, high, err := c.counts(n, "minItems", "maxItems", path)
	if err != nil {
		return err
	}
	items, prefix := n.get("items"), n.get("prefixItems")
	if prefix != nil {
		if prefix.kind != '[' {
			return fmt.Errorf("%s/prefixItems: must be a list of schemas", path)
		}
		if items != nil && !items.isFalse() {
			c.drop(n, "items", path, "cannot be enforced beside prefixItems")
		}
		n.remove("items")
	}
	tuple := prefix
	if tuple == nil && items != nil && items.kind == '[' {
		tuple = items
		if add := n.get("additionalItems"); add != nil && !add.isFalse() && !add.isTrue() {
			c.drop(n, "additionalItems", path, "cannot be enforced")
		}
	}
	if tuple == nil {
		if items != nil {
			return c.check(items, path+"/items")
		}
		return nil
	}
	if k := len(tuple.items); c.strict && (low > k || high >= 0 && high < k) {
		c.problem(path, "minItems, maxItems: the list always has %d items", k)
	}
	n.remove("minItems")
	n.remove("maxItems")
	for i, item := range tuple.items {
		if err := c.check(item, fmt.Sprintf("%s/items/%d", path, i)); err != nil {
			return err
		}
	}
	return nil
}

// counts reads a pair of bounds on how often something is repeated; -1 is no upper bound.
func (c *schemaChecker) counts(n *jsonNode, lowKey, highKey, path string) (low, high int, err error) {
	high = -1
	for _, b := range []struct {
		key string
		to  *int
	}{{lowKey, &low}, {highKey, &high}} {
		v := n.get(b.key)
		if v == nil {
			continue
		}
		text := string(v.append(nil))
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || v.kind != 0 || f < 0 || f != math.Trunc(f) {
			return 0, 0, fmt.Errorf("%s/%s: must be a whole number, not %.40s", path, b.key, text)
		}
		if f > maxRepetition {
			if c.strict {
				return 0, 0, fmt.Errorf("%s/%s: is %s; at most %d", path, b.key, text, maxRepetition)
			}
			n.remove(b.key)
			continue
		}
		*b.to = int(f)
		n.set(b.key, int(f))
	}
	if high >= 0 && low > high {
		return 0, 0, fmt.Errorf("%s: %s is more than %s", path, lowKey, highKey)
	}
	if c.repetitions += max(low, high); c.repetitions > maxRepetitionSum {
		return 0, 0, fmt.Errorf("%s: all %s and %s together are more than %d", path, lowKey, highKey, maxRepetitionSum)
	}
	return low, high, nil
}

var formats = []string{"date", "time", "date-time", "uuid"}

func knownFormat(n *jsonNode) bool {
	format, _ := n.get("format").text()
	return slices.Contains(formats, format)
}

func (c *schemaChecker) checkString(n *jsonNode, path string) error {
	if v := n.get("format"); v != nil {
		if _, ok := v.text(); !ok {
			return fmt.Errorf("%s/format: must be a string", path)
		}
		if c.strict && !knownFormat(n) {
			c.problem(path, "format: %s is not supported", v.append(nil))
		}
	}
	if _, _, err := c.counts(n, "minLength", "maxLength", path); err != nil {
		return err
	}
	if v := n.get("pattern"); v != nil && !c.rewritten[n] {
		pattern, ok := v.text()
		if !ok {
			return fmt.Errorf("%s/pattern: must be a string", path)
		}
		if err := c.checkPattern(n, pattern, path); err != nil {
			return err
		}
	}
	if !c.strict {
		return nil
	}
	var found []string
	for _, key := range []string{"pattern", "format"} {
		if n.has(key) {
			found = append(found, key)
		}
	}
	if n.has("minLength") || n.has("maxLength") {
		found = append(found, "minLength and maxLength")
	}
	if len(found) > 1 {
		c.problem(path, "%s: cannot be enforced together", strings.Join(found, ", "))
	}
	return nil
}

func (c *schemaChecker) checkPattern(n *jsonNode, pattern, path string) error {
	rewritten, size, err := translatePattern(pattern)
	if err != nil {
		c.drop(n, "pattern", path, fmt.Sprintf("%.80q: %v", pattern, err))
		return nil
	}
	if c.repetitions += size; c.repetitions > maxRepetitionSum {
		return fmt.Errorf("%s/pattern: it repeats too much", path)
	}
	if !c.strict {
		if !plainPattern.MatchString(pattern) {
			n.remove("pattern")
		}
		return nil
	}
	n.set("pattern", rewritten)
	c.rewritten[n] = true
	return nil
}

func (c *schemaChecker) checkInteger(n *jsonNode, path string) error {
	if c.rewritten[n] {
		return nil
	}
	low, high := math.Inf(-1), math.Inf(1)
	for _, b := range []struct {
		key   string
		tight func(float64)
	}{
		{"minimum", func(f float64) { low = max(low, math.Ceil(f)) }},
		{"exclusiveMinimum", func(f float64) { low = max(low, math.Floor(f)+1) }},
		{"maximum", func(f float64) { high = min(high, math.Floor(f)) }},
		{"exclusiveMaximum", func(f float64) { high = min(high, math.Ceil(f)-1) }},
	} {
		v := n.get(b.key)
		if v == nil {
			continue
		}
		f, err := strconv.ParseFloat(string(v.append(nil)), 64)
		if err != nil || v.kind != 0 {
			return fmt.Errorf("%s/%s: must be a number", path, b.key)
		}
		if math.Abs(f) >= maxIntegerBound {
			c.drop(n, b.key, path, "the number is too large")
			continue
		}
		b.tight(f)
	}
	if low > high {
		return fmt.Errorf("%s: no integer lies between the bounds", path)
	}
	if !c.strict || math.IsInf(low, 0) && math.IsInf(high, 0) {
		return nil
	}
	// The converter is exact with two bounds; with one it is not, except for a small minimum.
	if low >= 10 && math.IsInf(high, 1) {
		high = maxIntegerBound
	}
	if high < 0 && math.IsInf(low, -1) {
		low = -maxIntegerBound
	}
	for _, key := range keywords["integer"] {
		n.remove(key)
	}
	if !math.IsInf(low, 0) {
		n.set("minimum", int64(low))
	}
	if !math.IsInf(high, 0) {
		n.set("maximum", int64(high))
	}
	c.rewritten[n] = true
	return nil
}

// typesOf returns the types that a schema lets through, or only those that its grammar makes; none means any. The two
// differ for a schema that has properties, say, and no type: by the book it is no word against numbers.
func (c *schemaChecker) typesOf(n *jsonNode, made bool, depth int) []string {
	if depth == 0 {
		return nil
	}
	n, err := c.follow(n, depth)
	if err != nil {
		return nil
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		list := n.get(key)
		if list == nil {
			continue
		}
		var types []string
		for _, item := range list.items {
			of := c.typesOf(item, made, depth-1)
			if of == nil {
				return nil
			}
			types = append(types, of...)
		}
		slices.Sort(types)
		return slices.Compact(types)
	}
	if !n.has("type") && (n.has("const") || n.has("enum")) {
		var types []string
		for _, v := range constantsOf(n) {
			types = append(types, jsonTypes[slices.IndexFunc(jsonTypes, v.is)])
		}
		slices.Sort(types)
		return slices.Compact(types)
	}
	if !made && !n.has("type") {
		return nil
	}
	types, err := c.types(n, "")
	if err != nil {
		return nil
	}
	return types
}

func constantsOf(n *jsonNode) []*jsonNode {
	if v := n.get("const"); v != nil {
		return []*jsonNode{v}
	}
	if v := n.get("enum"); v != nil {
		return v.items
	}
	return nil
}

// disjoint tells whether it is plain that no value fits both schemas.
func (c *schemaChecker) disjoint(a, b *jsonNode) bool {
	a, errA := c.follow(a, maxSchemaDepth)
	b, errB := c.follow(b, maxSchemaDepth)
	if errA != nil || errB != nil {
		return false
	}
	if differ(a, b) {
		return true
	}
	if c.typesDiffer(a, b) && c.typesDiffer(b, a) {
		return true
	}
	for _, n := range []*jsonNode{a, b} {
		if !slices.Equal(c.typesOf(n, true, maxSchemaDepth), []string{"object"}) || !n.has("properties") {
			return false
		}
	}
	requiredA, _ := requiredOf(a, "")
	requiredB, _ := requiredOf(b, "")
	return slices.ContainsFunc(requiredA, func(name string) bool {
		pa, pb := a.get("properties").get(name), b.get("properties").get(name)
		return slices.Contains(requiredB, name) && pa != nil && pb != nil && differ(pa, pb)
	})
}

// typesDiffer tells whether the other schema lets through nothing of the types that are made for the first.
func (c *schemaChecker) typesDiffer(made, other *jsonNode) bool {
	types, lets := c.typesOf(made, true, maxSchemaDepth), c.typesOf(other, false, maxSchemaDepth)
	return len(types) > 0 && len(lets) > 0 && !slices.ContainsFunc(types, func(t string) bool {
		return slices.Contains(lets, t) || t == "integer" && slices.Contains(lets, "number") || t == "number" && slices.Contains(lets, "integer")
	})
}

// differ tells whether both schemas are strings' constants, none in common.
func differ(a, b *jsonNode) bool {
	va, vb := constantsOf(a), constantsOf(b)
	return len(va) > 0 && len(vb) > 0 && !slices.ContainsFunc(va, func(v *jsonNode) bool {
		s, ok := v.text()
		return !ok || slices.ContainsFunc(vb, func(w *jsonNode) bool {
			t, ok := w.text()
			return !ok || s == t
		})
	})
}
