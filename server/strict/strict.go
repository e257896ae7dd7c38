// Package strict reads JSON request bodies and accepts nothing that it does not understand: unknown and repeated members,
// wrong types, invalid UTF-8, deep nesting and trailing data are faults that name the field.
//
// null stands for a member that is not given. Names match with their case.
package strict

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/server/fault"
)

// MaxDepth is how deep arrays and objects may nest.
const MaxDepth = 100

// Limits bound what one body may cost.
type Limits struct {
	Bytes int64
	Time  time.Duration // for the whole body to arrive
}

// Body reads the request's JSON body into a value. Its errors are faults.
func Body(w http.ResponseWriter, r *http.Request, limits Limits, into any) error {
	if r.ContentLength > limits.Bytes { // before the client, who may wait for a word (Expect: 100-continue), sends any of it
		return unread(&http.MaxBytesError{Limit: limits.Bytes}, limits)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &fault.Fault{Status: http.StatusUnsupportedMediaType, Type: fault.InvalidRequest, Code: fault.Encoding,
			Message: fmt.Sprintf("the body has the Content-Encoding %.100q: send it plain", encoding)}
	}
	control := http.NewResponseController(w)
	// Recorders in tests have no deadlines; real connections always do.
	if err := control.SetReadDeadline(time.Now().Add(limits.Time)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("read deadline: %w", err)
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limits.Bytes))
	if err != nil {
		return unread(err, limits)
	}
	// Without a deadline from here on, the server goes on watching for the client's leaving.
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("read deadline: %w", err)
	}
	return Decode(data, into)
}

func unread(err error, limits Limits) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &fault.Fault{Status: http.StatusRequestEntityTooLarge, Type: fault.InvalidRequest, Code: fault.TooLarge,
			Message: fmt.Sprintf("the request is larger than %d bytes", limits.Bytes)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault.Fault{Status: http.StatusRequestTimeout, Type: fault.InvalidRequest, Code: fault.Timeout,
			Message: fmt.Sprintf("the request did not arrive within %s", limits.Time)}
	}
	return &fault.Fault{Status: http.StatusBadRequest, Type: fault.InvalidRequest, Code: fault.InvalidJSON,
		Message: "the request broke off", Cause: err}
}

// Decode reads one JSON object into a value. Its errors are faults.
func Decode(data []byte, into any) error {
	if len(data) == 0 {
		return fault.Bad(fault.InvalidJSON, "", "the body is empty: send a JSON object")
	}
	if deep(data) {
		return fault.Bad(fault.InvalidJSON, "", "the JSON nests deeper than %d", MaxDepth)
	}
	if err := json.Unmarshal(data, into, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	if kind := jsontext.Value(data).Kind(); kind != jsontext.KindBeginObject {
		return fault.Bad(fault.InvalidType, "", "expected an object, got %s", kindName(kind))
	}
	return nil
}

// deep looks for brackets that nest too deep, before anything is built from them. On malformed input it may be wrong
// either way, which the decoder then finds.
func deep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// Reject is for UnmarshalJSONFrom methods: it skips the next value and refuses it.
func Reject(d *jsontext.Decoder, code, format string, args ...any) error {
	if err := d.SkipValue(); err != nil {
		return err
	}
	pointer := d.StackPointer()
	return &json.SemanticError{JSONPointer: pointer, Err: fault.Bad(code, path(pointer), format, args...)}
}

func explain(err error) error {
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		return f
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		param := path(syntax.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fault.Bad(fault.InvalidJSON, param, "given twice")
		}
		return fault.Bad(fault.InvalidJSON, param, "malformed JSON at byte %d: %s", syntax.ByteOffset, reason(syntax))
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fault.Bad(fault.InvalidJSON, "", "malformed JSON")
	}
	param := path(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		return fault.Bad(fault.Unknown, param, "there is no such field here, or it is not supported")
	}
	got := kindName(semantic.JSONKind)
	if semantic.JSONKind == jsontext.KindNumber && len(semantic.JSONValue) > 0 && len(semantic.JSONValue) <= 32 {
		got = string(semantic.JSONValue)
	}
	return fault.Bad(fault.InvalidType, param, "expected %s, got %s", typeName(semantic.GoType), got)
}

func reason(syntax *jsontext.SyntacticError) string {
	if syntax.Err == nil {
		return "syntax error"
	}
	if errors.Is(syntax.Err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return strings.TrimPrefix(syntax.Err.Error(), "jsontext: ")
}

// path writes a JSON pointer as programmers do: messages[0].content.
func path(pointer jsontext.Pointer) string {
	var b strings.Builder
	for token := range pointer.Tokens() {
		switch {
		case number(token):
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	return clip(b.String())
}

func number(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// clip keeps a hostile name from filling answers and logs.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindFalse, jsontext.KindTrue:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	default:
		return "something else"
	}
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64, reflect.Int32:
		return "an integer"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "another type"
	}
}
