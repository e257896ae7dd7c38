package llama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// jsonNode is a JSON value whose objects keep their order, as the grammar does.
type jsonNode struct {
	kind    byte // '{', '[', or 0 for the rest
	members []jsonMember
	items   []*jsonNode
	scalar  any // string, json.Number, bool or nil
}

type jsonMember struct {
	key   string
	value *jsonNode
}

func parseSchema(text []byte) (*jsonNode, error) {
	const op = "JSON schema"
	if len(text) > maxSchema {
		return nil, fail(op, ErrSchema, "it has %d bytes; at most %d", len(text), maxSchema)
	}
	if err := checkJSON(text); err != nil {
		return nil, fail(op, ErrSchema, "%v", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n, err := readNode(d, "#")
	if err != nil {
		return nil, fail(op, ErrSchema, "%v", err)
	}
	return n, nil
}

// readNode reads a value of a text that is known to be valid JSON and not deep.
func readNode(d *json.Decoder, path string) (*jsonNode, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return &jsonNode{scalar: token}, nil
	}
	n := &jsonNode{kind: byte(delim)}
	seen := map[string]bool{}
	for d.More() {
		if n.kind == '[' {
			item, err := readNode(d, path+"/"+strconv.Itoa(len(n.items)))
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
			continue
		}
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, fmt.Errorf("%s: %q appears twice", path, key)
		}
		seen[key] = true
		value, err := readNode(d, path+"/"+key)
		if err != nil {
			return nil, err
		}
		n.members = append(n.members, jsonMember{key, value})
	}
	_, err = d.Token()
	return n, err
}

func (n *jsonNode) get(key string) *jsonNode {
	for _, m := range n.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

func (n *jsonNode) has(key string) bool { return n.get(key) != nil }

func (n *jsonNode) set(key string, scalar any) {
	if v := n.get(key); v != nil {
		*v = jsonNode{scalar: scalar}
		return
	}
	n.members = append(n.members, jsonMember{key, &jsonNode{scalar: scalar}})
}

func (n *jsonNode) remove(key string) {
	n.members = slices.DeleteFunc(n.members, func(m jsonMember) bool { return m.key == key })
}

func (n *jsonNode) isTrue() bool  { return n != nil && n.scalar == true }
func (n *jsonNode) isFalse() bool { return n != nil && n.scalar == false }

func (n *jsonNode) text() (string, bool) {
	if n == nil {
		return "", false
	}
	s, ok := n.scalar.(string)
	return s, ok
}

// append writes the value as compact JSON.
func (n *jsonNode) append(b []byte) []byte {
	switch n.kind {
	case '{':
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = m.value.append(append(appendScalar(b, m.key), ':'))
		}
		return append(b, '}')
	case '[':
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b)
		}
		return append(b, ']')
	}
	return appendScalar(b, n.scalar)
}

// appendScalar writes a string, number, bool or nil that came from JSON: that cannot fail.
func appendScalar(b []byte, v any) []byte {
	text, _ := json.Marshal(v)
	return append(b, text...)
}
