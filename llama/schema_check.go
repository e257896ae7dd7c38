package llama

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schemaChecker walks a schema as llama.cpp's converter does. It refuses what the converter would not survive, collects
// what it would drop or get wrong, and rewrites what it can be talked into.
//
// When it is not strict, the schema is guidance: what cannot be converted is removed, if that leaves a valid schema.
type schemaChecker struct {
	root     *jsonNode
	strict   bool
	problems []string

	visits, depth, repetitions int
	refs                       map[string]*jsonNode // followed so far
	refNames                   map[string]string    // the rule that a reference gets, to the reference
	rewritten                  map[*jsonNode]bool
}

// jsonTypes are JSON schema's types.
var jsonTypes = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// annotations say nothing about what is valid.
var annotations = []string{
	"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "nullable",
	"$comment", "$schema", "$defs", "definitions", "$anchor", "contentMediaType", "contentEncoding", "discriminator",
}

// keywords that are enforced, by type. Those of another type than a schema's say nothing about it.
var keywords = map[string][]string{
	"object":  {"properties", "required", "additionalProperties"},
	"array":   {"items", "prefixItems", "additionalItems", "uniqueItems", "minItems", "maxItems"},
	"string":  {"pattern", "format", "minLength", "maxLength"},
	"integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}

func (c *schemaChecker) run() error {
	c.refs, c.refNames, c.rewritten = map[string]*jsonNode{}, map[string]string{}, map[*jsonNode]bool{}
	if err := c.check(c.root, "#"); err != nil {
		return fail("JSON schema", ErrSchema, "%v", err)
	}
	for ref, target := range c.refs {
		if c.turnsToItself(target, map[*jsonNode]bool{}) {
			return fail("JSON schema", ErrSchema, "%s refers to itself with nothing in between", ref)
		}
	}
	return nil
}

func (c *schemaChecker) problem(path, format string, args ...any) {
	text := path + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(c.problems, text) {
		c.problems = append(c.problems, text)
	}
}

// drop reports a keyword that cannot be enforced, or removes it from a schema that only guides.
func (c *schemaChecker) drop(n *jsonNode, key, path, reason string) {
	if c.strict {
		c.problem(path, "%s: %s", key, reason)
	} else {
		n.remove(key)
	}
}

func (c *schemaChecker) check(n *jsonNode, path string) error {
	c.visits++
	c.depth++
	defer func() { c.depth-- }()
	if c.visits > maxSchemaVisits {
		return fmt.Errorf("it is too large: more than %d schemas", maxSchemaVisits)
	}
	if c.depth > maxSchemaDepth {
		return fmt.Errorf("%s: it is nested more than %d deep", path, maxSchemaDepth)
	}
	if n.isTrue() {
		*n = jsonNode{kind: '{'}
	}
	if n.kind != '{' {
		return fmt.Errorf("%s: a schema must be an object", path)
	}
	if all := n.get("allOf"); all != nil && len(all.items) == 1 && !slices.ContainsFunc(n.members, func(m jsonMember) bool {
		return m.key != "allOf" && !isAnnotation(m.key)
	}) && all.items[0].kind == '{' {
		c.unwrap(n, all.items[0])
	}
	switch {
	case n.has("$ref"):
		c.only(n, path, "$ref")
		return c.checkRef(n, path)
	case n.has("oneOf"):
		return c.checkAlternatives(n, "oneOf", path)
	case n.has("anyOf"):
		return c.checkAlternatives(n, "anyOf", path)
	}
	types, err := c.types(n, path)
	if err != nil {
		return err
	}
	if n.has("const") || n.has("enum") {
		return c.checkConstants(n, types, path)
	}
	if n.has("allOf") {
		return c.checkAllOf(n, path)
	}
	known := annotations
	for _, t := range types {
		if err := c.checkType(n, t, path); err != nil {
			return err
		}
		known = append(slices.Clip(known), keywords[t]...)
	}
	if slices.Contains(types, "number") { // whose bounds are not enforced
		known = slices.DeleteFunc(slices.Clone(known), func(key string) bool { return slices.Contains(keywords["integer"], key) })
	}
	c.checkKeywords(n, types, known, path)
	return nil
}

func isAnnotation(key string) bool {
	return slices.Contains(annotations, key) || strings.HasPrefix(key, "x-")
}

// unwrap replaces a schema that is all of one by that one.
func (c *schemaChecker) unwrap(n, one *jsonNode) {
	n.remove("allOf")
	for _, m := range one.members {
		n.remove(m.key)
		n.members = append(n.members, m)
	}
}

// only reports what stands beside a keyword that excludes all others.
func (c *schemaChecker) only(n *jsonNode, path string, keys ...string) {
	for _, m := range n.members {
		if c.strict && !isAnnotation(m.key) && !slices.Contains(keys, m.key) {
			c.problem(path, "%s: cannot be enforced beside %s", m.key, keys[0])
		}
	}
}

// checkKeywords reports what is neither enforced, nor an annotation, nor about other types.
func (c *schemaChecker) checkKeywords(n *jsonNode, types, known []string, path string) {
	for _, m := range n.members {
		if !c.strict || m.key == "type" || isAnnotation(m.key) || path == "#" && m.key == "$id" || slices.Contains(known, m.key) {
			continue
		}
		if len(types) > 0 && !slices.Contains(types, "number") && aboutOther(m.key, types) {
			continue
		}
		c.problem(path, "%s: not supported", m.key)
	}
}

// aboutOther tells whether a keyword only concerns types that are not among these.
func aboutOther(key string, types []string) bool {
	for t, keys := range keywords {
		if slices.Contains(keys, key) {
			return !slices.Contains(types, t)
		}
	}
	return false
}

// types returns what a schema's values can be, by its type or else by its keywords; none means anything.
func (c *schemaChecker) types(n *jsonNode, path string) ([]string, error) {
	v := n.get("type")
	if v == nil {
		switch {
		case n.has("properties") || (n.has("additionalProperties") && !n.get("additionalProperties").isTrue()):
			return []string{"object"}, nil
		case n.has("allOf"):
			return nil, nil
		case n.has("items") || n.has("prefixItems"):
			return []string{"array"}, nil
		case n.has("pattern") || n.has("minLength") || n.has("maxLength") || knownFormat(n):
			return []string{"string"}, nil
		}
		return nil, nil
	}
	items := []*jsonNode{v}
	if v.kind == '[' {
		items = v.items
	}
	var types []string
	for _, item := range items {
		t, ok := item.text()
		if !ok || !slices.Contains(jsonTypes, t) {
			return nil, fmt.Errorf("%s/type: must be one of JSON schema's types", path)
		}
		if slices.Contains(types, t) {
			return nil, fmt.Errorf("%s/type: %s appears twice", path, t)
		}
		types = append(types, t)
	}
	if len(types) == 0 {
		return nil, fmt.Errorf("%s/type: is empty", path)
	}
	return types, nil
}

func (c *schemaChecker) checkType(n *jsonNode, t, path string) error {
	switch t {
	case "object":
		return c.checkObject(n, path)
	case "array":
		return c.checkArray(n, path)
	case "string":
		return c.checkString(n, path)
	case "integer":
		return c.checkInteger(n, path)
	}
	return nil
}

var notRuleChars = regexp.MustCompile(`[^a-zA-Z0-9-]+`)

func (c *schemaChecker) checkRef(n *jsonNode, path string) error {
	ref, ok := n.get("$ref").text()
	if !ok {
		return fmt.Errorf("%s/$ref: must be a string", path)
	}
	target, err := c.resolve(ref)
	if err != nil {
		return fmt.Errorf("%s/$ref: %w", path, err)
	}
	if c.refs[ref] != nil {
		return nil
	}
	name := notRuleChars.ReplaceAllString(ref, "-")
	if other, taken := c.refNames[name]; taken {
		return fmt.Errorf("%s/$ref: %q and %q are too alike: rename one", path, ref, other)
	}
	c.refs[ref], c.refNames[name] = target, ref
	return c.check(target, ref)
}

// resolve follows a reference within the schema, the way the converter does.
func (c *schemaChecker) resolve(ref string) (*jsonNode, error) {
	if !strings.HasPrefix(ref, "#/") {
		return nil, fmt.Errorf("%q does not start with #/: only references within the schema are followed", ref)
	}
	if len(ref) > maxPropertyName || strings.ContainsAny(ref, "~%") {
		return nil, fmt.Errorf("%.40q is too long or has escapes", ref)
	}
	n := c.root
	for _, key := range strings.Split(ref[2:], "/") {
		next := n.get(key)
		if i, err := strconv.Atoi(key); n.kind == '[' && err == nil && i >= 0 && i < len(n.items) {
			next = n.items[i]
		}
		if next == nil {
			return nil, fmt.Errorf("%q leads nowhere", ref)
		}
		n = next
	}
	return n, nil
}

// turnsToItself tells whether a schema, before any of its own text, stands for itself.
func (c *schemaChecker) turnsToItself(n *jsonNode, above map[*jsonNode]bool) bool {
	if above[n] {
		return true
	}
	above[n] = true
	defer delete(above, n)
	if ref, ok := n.get("$ref").text(); ok {
		target, err := c.resolve(ref)
		return err == nil && c.turnsToItself(target, above)
	}
	for _, key := range []string{"oneOf", "anyOf", "allOf"} {
		if list := n.get(key); list != nil {
			return slices.ContainsFunc(list.items, func(item *jsonNode) bool { return c.turnsToItself(item, above) })
		}
	}
	return false
}

func (c *schemaChecker) checkAlternatives(n *jsonNode, key, path string) error {
	list := n.get(key)
	if list.kind != '[' || len(list.items) == 0 {
		return fmt.Errorf("%s/%s: must be a list of schemas", path, key)
	}
	for i, item := range list.items {
		if err := c.check(item, fmt.Sprintf("%s/%s/%d", path, key, i)); err != nil {
			return err
		}
	}
	if !c.strict {
		return nil
	}
	if t, ok := n.get("type").text(); ok && !slices.ContainsFunc(list.items, func(item *jsonNode) bool {
		return !slices.Equal(c.typesOf(item, true, maxSchemaDepth), []string{t})
	}) {
		c.only(n, path, key, "type")
	} else {
		c.only(n, path, key)
	}
	if key == "oneOf" {
		for i, a := range list.items {
			for j, b := range list.items[:i] {
				if !c.disjoint(a, b) {
					c.problem(path, "oneOf: alternatives %d and %d may both hold: use anyOf, or a property with different constants", j, i)
				}
			}
		}
	}
	return nil
}

func (c *schemaChecker) checkConstants(n *jsonNode, types []string, path string) error {
	key, values := "const", []*jsonNode{n.get("const")}
	if n.has("enum") {
		key = "enum"
		values = n.get("enum").items
		if n.get("enum").kind != '[' || len(values) == 0 {
			return fmt.Errorf("%s/enum: must be a list of values", path)
		}
		if len(values) > maxEnum {
			return fmt.Errorf("%s/enum: has %d values; at most %d", path, len(values), maxEnum)
		}
	}
	c.only(n, path, key, "type")
	for _, v := range values {
		if c.strict && len(types) > 0 && !slices.ContainsFunc(types, v.is) {
			c.problem(path, "%s: %s is not of the schema's type", key, v.append(nil))
		}
	}
	return nil
}

// is tells whether a value has a type.
func (n *jsonNode) is(t string) bool {
	switch v := n.scalar.(type) {
	case string:
		return t == "string"
	case bool:
		return t == "boolean"
	case nil:
		return n.kind == '{' && t == "object" || n.kind == '[' && t == "array" || n.kind == 0 && t == "null"
	case interface{ Float64() (float64, error) }:
		f, err := v.Float64()
		return t == "number" || t == "integer" && err == nil && f == math.Trunc(f)
	}
	return false
}

// checkAllOf: the converter puts the properties of all together and wants every one.
func (c *schemaChecker) checkAllOf(n *jsonNode, path string) error {
	list := n.get("allOf")
	if list.kind != '[' || len(list.items) == 0 {
		return fmt.Errorf("%s/allOf: must be a list of schemas", path)
	}
	if t, _ := n.get("type").text(); t == "object" {
		c.only(n, path, "allOf", "type")
	} else {
		c.only(n, path, "allOf")
	}
	owner := map[string]int{}
	var required []string
	for i, item := range list.items {
		at := fmt.Sprintf("%s/allOf/%d", path, i)
		part, err := c.follow(item, maxSchemaDepth)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if !slices.Equal(c.typesOf(part, true, 1), []string{"object"}) || !part.has("properties") || part.get("properties").kind != '{' {
			if c.strict {
				c.problem(at, "only objects with properties can be put together")
			}
			if err := c.check(item, at); err != nil {
				return err
			}
			continue
		}
		if add := part.get("additionalProperties"); c.strict && add != nil && !add.isTrue() {
			c.problem(at, "additionalProperties: cannot be enforced in allOf")
		}
		for _, m := range part.get("properties").members {
			if j, taken := owner[m.key]; taken && c.strict {
				c.problem(at, "properties: %q is also in allOf/%d", m.key, j)
			}
			owner[m.key] = i
			if err := c.check(m.value, at+"/properties/"+m.key); err != nil {
				return err
			}
		}
		names, err := requiredOf(part, at)
		if err != nil {
			return err
		}
		required = append(required, names...)
		if c.strict {
			c.checkKeywords(part, []string{"object"}, append(slices.Clip(annotations), keywords["object"]...), at)
		}
	}
	if len(owner) > maxProperties {
		return fmt.Errorf("%s/allOf: has %d properties; at most %d", path, len(owner), maxProperties)
	}
	for _, name := range required {
		if _, ok := owner[name]; !ok && c.strict {
			c.problem(path, "required: %q is not among the properties", name)
		}
	}
	return nil
}

// follow resolves a schema that is a reference.
func (c *schemaChecker) follow(n *jsonNode, depth int) (*jsonNode, error) {
	ref, ok := n.get("$ref").text()
	if !ok {
		return n, nil
	}
	if depth == 0 {
		return nil, errors.New("references go in a circle")
	}
	target, err := c.resolve(ref)
	if err != nil {
		return nil, err
	}
	return c.follow(target, depth-1)
}
