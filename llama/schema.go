package llama

// #include "common_shim.h"
import "C"

import (
	"encoding/json"
	"errors"
)

// ErrSchema: the JSON schema is invalid, too large, or says what cannot be enforced while generating.
var ErrSchema = errors.New("invalid JSON schema")

// SchemaToGrammar turns a JSON schema into a GBNF grammar.
func SchemaToGrammar(schema []byte) (string, error) {
	text, err := enforcedSchema(schema)
	if err != nil {
		return "", err
	}
	var answer C.chat_text
	code := C.chat_schema_to_grammar(bytesPtr(text), C.size_t(len(text)), &answer)
	grammar, err := chatAnswer("JSON schema", ErrSchema, code, answer)
	return string(grammar), err
}

func enforcedSchema(schema json.RawMessage) ([]byte, error) {
	if err := checkJSON(schema); err != nil {
		return nil, fail("JSON schema", ErrSchema, "%v", err)
	}
	return schema, nil
}

func guidingSchema(schema json.RawMessage) ([]byte, error) { return enforcedSchema(schema) }
