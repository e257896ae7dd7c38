package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/engine/enginetest"
	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/servertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const question = "How long is the battery guaranteed?"

func ask() *dispatch.Ask {
	return &dispatch.Ask{Model: "default", Request: engine.Request{MaxTokens: 5, Logprobs: -1,
		Chat: &engine.Chat{Messages: []engine.Message{{Role: "user", Content: question}}}}}
}

// TestGrounding crosses the server's mode, the client's word, the state of the store and fields that only a plain answer
// can honour. Each outcome is one letter: g grounded, p plain, or the code of the refusal.
func TestGrounding(t *testing.T) {
	generator := servertest.Engine(t, servertest.NewBackend(128), engine.DefaultConfig())
	with := dispatch.Models{Chats: []dispatch.Chat{{Generator: generator, Answerer: servertest.Guarantee()}}}
	without := dispatch.Models{Chats: []dispatch.Chat{{Generator: generator}}}
	stores := servertest.Stores{"default": 2, "other": 1, "empty": 0}

	modes := []dispatch.Mode{dispatch.Auto, dispatch.Always, dispatch.Never}
	words := map[string]*bool{"silent": nil, "yes": new(true), "no": new(false)}
	outcome := func(d *dispatch.Dispatcher, a *dispatch.Ask) string {
		line := &access.Line{}
		reply, err := d.Open(access.With(t.Context(), line), a)
		if f, ok := errors.AsType[*fault.Fault](err); ok {
			return f.Code + " " + f.Param
		}
		if err != nil {
			return fault.Of(t.Context(), err).Code
		}
		if reply.Grounded != line.Grounded || !line.Chat || line.Model != "fake" || reply.Model != "fake" {
			t.Errorf("reply %+v, line %+v", reply, line)
		}
		if reply.Grounded {
			return "g"
		}
		return "p"
	}
	const (
		missing = "store_not_found"
		plain   = "unsupported_parameter tools"
		noBase  = "unsupported_parameter quipu.grounded"
		noStore = "unsupported_parameter quipu.store"
	)
	for _, c := range []struct {
		name   string
		models dispatch.Models
		stores dispatch.Stores
		store  string
		plain  string
		// by the client's word, in the modes auto, always, never
		silent, yes, no [3]string
	}{
		{"documents", with, stores, "", "", [3]string{"g", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
		{"named documents", with, stores, "other", "", [3]string{"g", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
		{"empty", with, servertest.Stores{"default": 0}, "", "", [3]string{"p", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
		{"named empty", with, stores, "empty", "", [3]string{"p", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
		{"none yet", with, servertest.Stores{}, "", "", [3]string{"p", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
		{"named missing", with, stores, "gone", "", [3]string{missing, missing, missing}, [3]string{missing, missing, missing}, [3]string{missing, missing, missing}},
		{"documents and tools", with, stores, "", "tools", [3]string{"p", plain, "p"}, [3]string{plain, plain, plain}, [3]string{"p", "p", "p"}},
		{"empty and tools", with, servertest.Stores{}, "", "tools", [3]string{"p", plain, "p"}, [3]string{plain, plain, plain}, [3]string{"p", "p", "p"}},
		{"named missing and tools", with, stores, "gone", "tools", [3]string{missing, missing, missing}, [3]string{missing, missing, missing}, [3]string{missing, missing, missing}},
		{"no answerer", without, stores, "", "", [3]string{"p", noBase, "p"}, [3]string{noBase, noBase, noBase}, [3]string{"p", "p", "p"}},
		{"no knowledge base", without, nil, "", "", [3]string{"p", noBase, "p"}, [3]string{noBase, noBase, noBase}, [3]string{"p", "p", "p"}},
		{"no knowledge base, named", without, nil, "other", "", [3]string{noStore, noStore, noStore}, [3]string{noStore, noStore, noStore}, [3]string{noStore, noStore, noStore}},
		// A record that can't be read only concerns those who need it.
		{"broken", with, brokenStores{}, "", "", [3]string{"unavailable", "g", "p"}, [3]string{"g", "g", "g"}, [3]string{"p", "p", "p"}},
	} {
		for word, want := range map[string][3]string{"silent": c.silent, "yes": c.yes, "no": c.no} {
			for i, mode := range modes {
				t.Run(fmt.Sprintf("%s/%s/%s", c.name, mode, word), func(t *testing.T) {
					a := ask()
					a.Store, a.Plain, a.Grounded = c.store, c.plain, words[word]
					if got := outcome(dispatch.New(c.models, c.stores, mode), a); got != want[i] {
						t.Errorf("got %q, want %q", got, want[i])
					}
				})
			}
		}
	}
}

type brokenStores struct{}

func (brokenStores) Store(context.Context, string) (retrieval.Store, error) {
	return retrieval.Store{}, fmt.Errorf("open: %w", retrieval.ErrBusy)
}

// gather reads a reply to its end.
func gather(r *dispatch.Reply) (text string, end *dispatch.End, err error) {
	for e, failed := range r.Events {
		if failed != nil {
			return text, end, failed
		}
		text += e.Text
		end = e.End
	}
	return text, end, nil
}

// More messages than the context has tokens are not even rendered.
func TestTooManyMessages(t *testing.T) {
	e := servertest.Engine(t, servertest.NewBackend(128), engine.DefaultConfig())
	d := dispatch.New(dispatch.Models{Chats: []dispatch.Chat{{Generator: e}}}, nil, dispatch.Auto)
	a := ask()
	for len(a.Request.Chat.Messages) <= e.Info().Context {
		a.Request.Chat.Messages = append(a.Request.Chat.Messages, engine.Message{Role: "no template knows this", Content: ""})
	}
	reply, err := d.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = gather(reply)
	if long, ok := errors.AsType[*engine.OverflowError](err); !ok || long.Tokens != e.Info().Context+1 || long.Limit != e.Info().Context {
		t.Errorf("got %v", err)
	}
}

func TestPlain(t *testing.T) {
	e := servertest.Engine(t, servertest.NewBackend(128), engine.DefaultConfig())
	d := dispatch.New(dispatch.Models{Chats: []dispatch.Chat{{Generator: e}}}, nil, dispatch.Auto)
	line := &access.Line{}
	reply, err := d.Open(access.With(t.Context(), line), ask())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := enginetest.Continue("user: "+question+"\n", 5)
	for range 2 { // each range asks anew
		text, end, err := gather(reply)
		if err != nil || text != want {
			t.Fatalf("got %q, %v; want %q", text, err, want)
		}
		if end == nil || end.Finish != engine.FinishLength || end.Usage.GeneratedTokens != 5 || end.Answer != nil {
			t.Errorf("end %+v", end)
		}
		if line.Usage != end.Usage || line.Usage.PromptTokens == 0 || line.Timings.PrefillMS <= 0 || line.Timings.FirstTokenMS <= 0 {
			t.Errorf("line %+v", line)
		}
	}
}

// A client that leaves early ends the generation, and what was generated is still counted.
func TestLeavingCancels(t *testing.T) {
	backend := servertest.NewBackend(4096)
	ended := make(chan error, 1)
	e, err := engine.New(backend, engine.DefaultConfig(), engine.Hooks{Done: func(_ engine.Usage, _ engine.Timings, err error) { ended <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := dispatch.New(dispatch.Models{Chats: []dispatch.Chat{{Generator: e}}}, nil, dispatch.Auto)
	line := &access.Line{}
	a := ask()
	a.Request.MaxTokens, a.Request.IgnoreEOS = 0, true
	reply, err := d.Open(access.With(t.Context(), line), a)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, err := range reply.Events {
		if seen++; err != nil || seen == 3 {
			break
		}
	}
	if err := <-ended; err == nil {
		t.Error("it generated on to its end")
	}
	if line.Usage.GeneratedTokens != 3 {
		t.Errorf("counted %d tokens", line.Usage.GeneratedTokens)
	}
}

func TestGroundedQuestion(t *testing.T) {
	e := servertest.Engine(t, servertest.NewBackend(128), engine.DefaultConfig())
	for _, c := range []struct {
		name     string
		any      bool
		greedily bool
	}{{"a temperature of its own", false, false}, {"any temperature", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			answerer := servertest.Guarantee()
			d := dispatch.New(dispatch.Models{Chats: []dispatch.Chat{{Generator: e, Answerer: answerer}}}, servertest.Stores{"docs": 1}, dispatch.Auto)
			line := &access.Line{}
			a := ask()
			a.Store, a.TopK, a.AnyTemperature = "docs", 4, c.any
			a.Request.ID, a.Request.Key, a.Request.Stop, a.Request.Sampling = "r1", "k1", []string{"x"}, engine.DefaultSampling()
			reply, err := d.Open(access.With(t.Context(), line), a)
			if err != nil {
				t.Fatal(err)
			}
			text, end, err := gather(reply)
			if err != nil || text != answerer.Answer.Answer || end == nil || end.Answer != answerer.Answer {
				t.Fatalf("got %q, %+v, %v", text, end, err)
			}
			sampling := engine.DefaultSampling()
			if c.greedily {
				sampling.Temperature = 0
			}
			want := []answer.Question{{ID: "r1", Key: "k1", Store: "docs", Messages: a.Request.Chat.Messages, TopK: 4, MaxTokens: 5, Stop: []string{"x"}, Sampling: sampling}}
			if got := answerer.Asked(); !reflect.DeepEqual(got, want) {
				t.Errorf("asked %+v, want %+v", got, want)
			}
			if line.Abstained || line.Citations != 1 || line.Usage != answerer.Answer.Usage || line.Timings != answerer.Answer.Timings {
				t.Errorf("line %+v", line)
			}
		})
	}
}

// Refusals of the model and of the documents are the reply's first error, and keep their kind.
func TestErrorsComeThrough(t *testing.T) {
	e := servertest.Engine(t, servertest.NewBackend(32), engine.DefaultConfig())
	failing := &servertest.Answerer{Deltas: []string{"2 years."}, Err: fmt.Errorf("answer: %w", answer.ErrDocumentChanged)}
	d := dispatch.New(dispatch.Models{Chats: []dispatch.Chat{{Generator: e, Answerer: failing}}}, servertest.Stores{"default": 1}, dispatch.Auto)
	for _, c := range []struct {
		grounded bool
		text     string
		want     error
	}{{false, "", engine.ErrContextOverflow}, {true, "2 years.", answer.ErrDocumentChanged}} {
		a := ask()
		a.Grounded = &c.grounded
		reply, err := d.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if text, _, err := gather(reply); text != c.text || !errors.Is(err, c.want) {
			t.Errorf("got %q, %v; want %q, %v", text, err, c.text, c.want)
		}
	}
}

func TestModels(t *testing.T) {
	named := func(name string) dispatch.Chat {
		b := servertest.NewBackend(32)
		b.Name = name
		return dispatch.Chat{Generator: servertest.Engine(t, b, engine.DefaultConfig())}
	}
	m := dispatch.Models{Chats: []dispatch.Chat{named("first"), named("owner/second")}, Embedders: []dispatch.Embedder{servertest.Embedder{}}}
	for name, want := range map[string]string{"": "first", "default": "first", "first": "first", "owner/second": "owner/second"} {
		if c, err := m.Chat(name); err != nil || c.Generator.Info().Name != want {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{"", "default", "embedder/mini"} {
		if e, err := m.Embedder(name); err != nil || e.Info().Name != "embedder/mini" {
			t.Errorf("%q: got %v", name, err)
		}
	}
	for _, c := range []struct {
		models  dispatch.Models
		name    string
		message string
	}{
		{m, "third", `there is no chat model "third" (served: first, owner/second)`},
		{m, "embedder/mini", `there is no chat model "embedder/mini" (served: first, owner/second)`},
		{m, strings.Repeat("x", 1000), `there is no chat model "` + strings.Repeat("x", 100) + `"`},
		{dispatch.Models{}, "default", `there is no chat model "default" (none is served)`},
	} {
		_, err := c.models.Chat(c.name)
		f, ok := errors.AsType[*fault.Fault](err)
		if !ok || f.Status != 404 || f.Code != fault.NoModel || f.Param != "model" || !strings.HasPrefix(f.Message, c.message) {
			t.Errorf("got %+v, want %s", f, c.message)
		}
	}
	for want, models := range map[string]dispatch.Models{
		`there is no model "x" (served: first, owner/second, embedder/mini)`: m, `there is no model "x" (none is served)`: {},
	} {
		if f := models.Unknown("x"); f.Status != 404 || f.Code != fault.NoModel || f.Message != want {
			t.Errorf("got %+v, want %s", f, want)
		}
	}
	if _, err := (dispatch.Models{}).Embedder(""); err == nil {
		t.Error("an embedding model from nowhere")
	}
}

func TestModeValidate(t *testing.T) {
	for mode, ok := range map[dispatch.Mode]bool{dispatch.Auto: true, dispatch.Always: true, dispatch.Never: true, "": false, "Auto": false, "on": false} {
		if err := mode.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", mode, err)
		}
	}
}
