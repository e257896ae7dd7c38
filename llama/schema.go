package llama

// #include "common_shim.h"
import "C"

import (
	"errors"
	"strings"
)

// ErrSchema: the JSON schema is invalid, too large, or says what cannot be enforced while generating.
var ErrSchema = errors.New("invalid JSON schema")

// Limits of a schema.
const (
	maxSchema        = 256 << 10 // bytes
	maxSchemaVisits  = 20000     // schemas that the conversion looks at, those it inlines each time
	maxSchemaDepth   = 100       // of schemas within schemas, references followed
	maxRepetition    = 2000      // llama.cpp takes more as unlimited
	maxRepetitionSum = 20000
	maxProperties    = 200 // of one object; the cost grows with their cube
	maxPropertyName  = 256 // bytes
	maxEnum          = 2000
	maxIntegerBound  = 999_999_999_999_999
)

// SchemaToGrammar turns a JSON schema into a GBNF grammar whose root rule is "root". What the grammar lets through is
// valid under the schema; the reverse does not hold everywhere: properties come in the schema's order and none besides
// them, and where the schema sets no type any JSON is possible.
//
// A schema that says more than can be enforced is refused with ErrSchema, naming the place: see SchemaUnsupported.
// References must point into the schema ("#/…"); nothing is ever fetched.
//
// Two things are approximate: of dates only the digits' ranges are checked, not the calendar, and minLength and
// maxLength count an escape such as \n or \ud83d as one character.
func SchemaToGrammar(schema []byte) (string, error) {
	text, err := enforcedSchema(schema)
	if err != nil {
		return "", err
	}
	if err := ready(); err != nil {
		return "", err
	}
	var answer C.chat_text
	code := C.chat_schema_to_grammar(bytesPtr(text), C.size_t(len(text)), &answer)
	grammar, err := chatAnswer("JSON schema", ErrSchema, code, answer)
	if err != nil {
		return "", err
	}
	if err := ValidateGrammar(string(grammar)); err != nil {
		return "", fail("JSON schema", ErrSchema, "its grammar: %v", err)
	}
	return string(grammar), nil
}

// ValidateGrammar refuses, with ErrGrammar, a GBNF grammar that llama.cpp cannot parse or would not survive. Its root rule
// must be "root". Names of tokens in it are not looked up: that takes a vocabulary.
func ValidateGrammar(grammar string) error { return checkGrammar(grammar, "root") }

// SchemaUnsupported lists what a schema says and cannot be enforced, each as "path: reason". llama.cpp would drop it
// silently. The error is for schemas that are invalid or too large.
//
// Not supported are: not, if, dependent…, patternProperties, propertyNames, minProperties, maxProperties,
// unevaluated…, contains, uniqueItems, multipleOf, bounds of numbers that are not integers; formats other than date,
// time, date-time and uuid; more than one of pattern, format and lengths; patterns with assertions or with characters
// that JSON escapes; additionalProperties beside properties, unless true or false; allOf beside keywords or over
// anything but objects with different properties; anyOf beside keywords; oneOf whose alternatives are not told apart by
// type or by a required property's constants; keywords that JSON schema does not have.
func SchemaUnsupported(schema []byte) ([]string, error) {
	root, err := parseSchema(schema)
	if err != nil {
		return nil, err
	}
	c := schemaChecker{root: root, strict: true}
	if err := c.run(); err != nil {
		return nil, err
	}
	return c.problems, nil
}

// enforcedSchema returns the schema in the form that llama.cpp enforces, or an error.
func enforcedSchema(schema []byte) ([]byte, error) {
	root, err := parseSchema(schema)
	if err != nil {
		return nil, err
	}
	c := schemaChecker{root: root, strict: true}
	if err := c.run(); err != nil {
		return nil, err
	}
	if len(c.problems) > 0 {
		return nil, fail("JSON schema", ErrSchema, "it cannot be enforced: %s", strings.Join(c.problems[:min(len(c.problems), 10)], "; "))
	}
	return root.append(nil), nil
}

// guidingSchema returns the schema of a tool's parameters without what llama.cpp cannot convert: the model is told about
// the rest, the tool checks its arguments anyway.
func guidingSchema(schema []byte) ([]byte, error) {
	root, err := parseSchema(schema)
	if err != nil {
		return nil, err
	}
	c := schemaChecker{root: root}
	if err := c.run(); err != nil {
		return nil, err
	}
	return root.append(nil), nil
}
