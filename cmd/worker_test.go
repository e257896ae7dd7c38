package cmd

import (
	"encoding/json"
	"reflect"
	"testing"
)

// What a model is loaded with reaches a worker whole.
func TestJobsAreCarried(t *testing.T) {
	var sent, arrived job
	n := 0
	set(t, reflect.ValueOf(&sent).Elem(), &n)
	sent.Options.Progress = nil // the worker's own
	text, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &arrived); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(arrived, sent) || n < 15 {
		t.Errorf("sent    %+v\narrived %+v", sent, arrived)
	}
}

// set gives each setting a value of its own.
func set(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch {
	case v.CanInt():
		v.SetInt(int64(*n))
	case v.CanUint():
		v.SetUint(uint64(*n))
	case v.CanFloat():
		v.SetFloat(float64(*n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString(string(rune('a' + *n)))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		set(t, v.Index(0), n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			set(t, v.Field(i), n)
		}
	case v.Kind() == reflect.Func: // progress and the like
	default:
		t.Fatalf("a %s may not reach a worker", v.Type())
	}
}
