package worker

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quipu-ai/quipu/engine"
)

// carried sends a value through the codec.
func carried[T any](t *testing.T, v T) T {
	t.Helper()
	data, err := codec{}.Marshal(&v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := (codec{}).Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// fill sets everything in a value to something that is not its zero, and is different each time.
func fill(t *testing.T, v reflect.Value, n *int, depth int) {
	t.Helper()
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2030, 1, 2, 3, 4, 5, *n, time.UTC)))
		return
	case v.Type() == reflect.TypeFor[error]():
		v.Set(reflect.ValueOf(&engine.FieldError{Field: fmt.Sprint("Field", *n), Problem: "is wrong"}))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n, depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			if depth < 8 { // a type that holds itself ends somewhere
				fill(t, v.Index(i), n, depth+1)
			}
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n, depth+1)
		fill(t, value, n, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s is not exported: it can't be carried", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i), n, depth+1)
		}
	default:
		t.Fatalf("a %s can't be carried", v.Type())
	}
}

// Every field that there is now or will be reaches the other side.
func TestEverythingIsCarried(t *testing.T) {
	whole(t, engine.Request{})
	whole(t, engine.Info{})
	whole(t, engine.Prompt{})
	whole(t, engine.ScoreAsk{})
	whole(t, engine.Score{})
	whole(t, engine.Usage{})
	whole(t, engine.Timings{})
	whole(t, engine.Step{})
	whole(t, engine.Event{})
	whole(t, reply[[][]float32]{})
	whole(t, loading{})
}

func whole[T any](t *testing.T, v T) {
	t.Helper()
	n := 0
	fill(t, reflect.ValueOf(&v).Elem(), &n, 0)
	if got := carried(t, v); !reflect.DeepEqual(got, v) {
		t.Errorf("sent    %+v\narrived %+v", v, got)
	}
}

// What JSON would lose.
func TestNothingIsChanged(t *testing.T) {
	off := false
	r := carried(t, engine.Request{Text: "not UTF-8: \xff", Tokens: []engine.Token{}, Chat: &engine.Chat{Thinking: &off},
		Sampling: engine.Sampling{Temperature: float32(math.NaN()), LogitBias: map[engine.Token]float32{7: float32(math.Inf(-1))}}})
	switch {
	case r.Text != "not UTF-8: \xff":
		t.Errorf("the text is %q", r.Text)
	case r.Tokens == nil || r.Generated != nil || r.JSONSchema != nil:
		t.Errorf("nil and empty are mixed up: %#v", r)
	case r.Chat.Thinking == nil || *r.Chat.Thinking:
		t.Error("thinking is not off any more")
	case !math.IsNaN(float64(r.Sampling.Temperature)) || !math.IsInf(float64(r.Sampling.LogitBias[7]), -1):
		t.Errorf("got %+v", r.Sampling)
	case !r.Deadline.IsZero():
		t.Errorf("the deadline is %s", r.Deadline)
	}
	now := time.Now()
	if got := carried(t, engine.Request{Deadline: now}).Deadline; !got.Equal(now) {
		t.Errorf("the deadline is %s, not %s", got, now)
	}
	raw := carried(t, submission{Request: cbor.RawMessage{0xf6}}) // null
	if len(raw.Request) != 1 {
		t.Errorf("got %v", raw)
	}
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	overflow := &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: 3, Tokens: 700, Limit: 512}
	for _, want := range []error{
		engine.ErrQueueFull, fmt.Errorf("%w: %w", engine.ErrBackend, errors.New("out of order")), fmt.Errorf("wait: %w", context.Canceled),
		fmt.Errorf("files: %w", &engine.FieldError{Field: "Grammar", Problem: "has no root"}), overflow,
		&engine.OverflowError{Kind: engine.ErrContextOverflow, Tokens: 9, Limit: 8}, errors.New("something else"),
	} {
		got := carried(t, reply[int]{Error: pack(want)}).Error.unpack()
		if got.Error() != want.Error() {
			t.Errorf("%q arrives as %q", want, got)
		}
		for _, s := range sentinels {
			if errors.Is(got, s) != errors.Is(want, s) {
				t.Errorf("%q: is it %q? %t", want, s, errors.Is(got, s))
			}
		}
		for _, as := range []func(error) (any, bool){
			func(err error) (any, bool) { f, ok := errors.AsType[*engine.FieldError](err); return f, ok },
			func(err error) (any, bool) { o, ok := errors.AsType[*engine.OverflowError](err); return o, ok },
		} {
			w, wanted := as(want)
			if g, ok := as(got); ok != wanted || !reflect.DeepEqual(g, w) {
				t.Errorf("%q: got %+v, want %+v", want, g, w)
			}
		}
	}
	if pack(nil) != nil || (*failure)(nil).unpack() != nil {
		t.Error("no error is an error")
	}
}

// The engine's errors are known here: a new one must be added to the sentinels, and a new type to failure.
func TestAllErrorsAreKnown(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	values, types := 0, 0
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			switch spec.(type) {
			case *ast.ValueSpec:
				values++
			case *ast.TypeSpec:
				types++
			}
		}
	}
	if values != len(sentinels)-2 || types != 2 { // two are package context's
		t.Errorf("the engine has %d sentinels and %d types of errors", values, types)
	}
	whole(t, engine.FieldError{})
	whole(t, overflow{})
	if ours, theirs := reflect.TypeFor[overflow]().NumField(), reflect.TypeFor[engine.OverflowError]().NumField(); ours != theirs-1 {
		t.Errorf("an overflow has %d fields, an engine.OverflowError %d", ours, theirs)
	}
}

// Each of the engine's hooks is called with what it was told.
func TestHooksAreCarried(t *testing.T) {
	var told []any
	var target engine.Hooks
	hooks := newHappenings()
	from, to := reflect.ValueOf(hooks.hooks()), reflect.ValueOf(&target).Elem()
	for i := range to.NumField() {
		to.Field(i).Set(reflect.MakeFunc(to.Field(i).Type(), func(args []reflect.Value) []reflect.Value {
			for _, a := range args {
				told = append(told, a.Interface())
			}
			return nil
		}))
	}
	var want []any
	n := 0
	for i := range from.NumField() {
		if from.Field(i).IsNil() {
			t.Errorf("%s is not passed on", from.Type().Field(i).Name)
			continue
		}
		var args []reflect.Value
		for k := range from.Field(i).Type().NumIn() {
			arg := reflect.New(from.Field(i).Type().In(k)).Elem()
			fill(t, arg, &n, 0)
			args, want = append(args, arg), append(want, arg.Interface())
		}
		from.Field(i).Call(args)
	}
	list, err := hooks.next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tell(target, carried(t, list))
	tell(engine.Hooks{}, list) // nobody listens
	if len(told) != len(want) {
		t.Fatalf("told %v, want %v", told, want)
	}
	for i := range want {
		if !same(reflect.ValueOf(told[i]), reflect.ValueOf(want[i])) {
			t.Errorf("told %+v, want %+v", told[i], want[i])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hooks.next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// same compares values of which errors arrive as others that read and are the same.
func same(a, b reflect.Value) bool {
	x, failed := a.Interface().(error)
	if y, ok := b.Interface().(error); ok {
		return failed && x.Error() == y.Error() && errors.Is(x, engine.ErrBadRequest) == errors.Is(y, engine.ErrBadRequest)
	}
	if a.Kind() != reflect.Struct || a.Type() != b.Type() {
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
	for i := range a.NumField() {
		if !same(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}
