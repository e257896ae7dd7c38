package openai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quipu-ai/quipu/answer"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/dispatch"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/servertest"
)

// A client that leaves ends the generation that runs for it, wherever it stands.
func TestDisconnectCancels(t *testing.T) {
	prompt := `{"messages":[{"role":"user","content":"` + strings.Repeat("more than one batch ", 5) + `"}],"ignore_eos":true`
	for _, c := range []struct {
		name     string
		body     string
		prefill  bool // it leaves while the prompt is computed
		streamed bool // it leaves after the first event
	}{
		{"whole, in the prompt", prompt + "}", true, false},
		{"whole", prompt + "}", false, false},
		{"streamed, in the prompt", prompt + `,"stream":true}`, true, false},
		{"streamed", prompt + `,"stream":true}`, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := servertest.NewBackend(1 << 16)
			b.Gate = make(chan struct{})
			compute := func() { // without end
				for {
					select {
					case b.Gate <- struct{}{}:
					case <-t.Context().Done():
						return
					}
				}
			}
			ended := make(chan error, 1)
			e, err := engine.New(b, engine.DefaultConfig(), engine.Hooks{Done: func(_ engine.Usage, _ engine.Timings, err error) { ended <- err }})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			lines := make(chan *access.Line, 1)
			s := httptest.NewServer(serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: e}}}, nil, lines))
			defer s.Close()

			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			left := make(chan struct{})
			go func() {
				defer close(left)
				w, err := s.Client().Do(r)
				if err != nil {
					return
				}
				defer w.Body.Close()
				line, err := bufio.NewReader(w.Body).ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "data: {") {
					t.Errorf("got %q, %v", line, err)
				}
				leave()
			}()
			b.Gate <- struct{}{} // the prompt's first piece
			if !c.prefill {
				b.Gate <- struct{}{} // and its second, which gives a token
				go compute()
			}
			if !c.streamed {
				leave()
			}
			line := <-lines
			if c.prefill {
				go compute()
			}
			if err := <-ended; err == nil {
				t.Error("it was generated to its end")
			}
			<-left
			if f := line.Fault; f == nil || f.Status != fault.StatusClientGone {
				t.Errorf("noted %+v", f)
			}
		})
	}
}

// slow is an Answerer that is silent for a while and then fails.
type slow time.Duration

var errSecret = errors.New("a secret of the server's")

func (s slow) Stream(context.Context, answer.Question) iter.Seq2[answer.Event, error] {
	return func(yield func(answer.Event, error) bool) {
		time.Sleep(time.Duration(s))
		yield(answer.Event{}, errSecret)
	}
}

// A heartbeat begins the stream, so that what goes wrong later is an event.
func TestHeartbeatBeforeTheFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan *access.Line, 1)
		h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &recorder{}, Answerer: slow(150 * time.Second)}}}, servertest.Stores{"default": 1}, lines)
		w := chat(h, hi(`"stream":true`))
		const beat = ": still working\n\n"
		want := beat + beat + `data: {"error":{"message":"internal error (request req_test)","type":"server_error","param":null,"code":"internal_error"}}` + "\n\n"
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		if f := (<-lines).Fault; f == nil || f.Status != 500 || !errors.Is(f, errSecret) {
			t.Errorf("noted %+v", f)
		}
	})
}

// Nothing is written once the handler has returned.
func TestHeartbeatEndsWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &recorder{}}}}, nil, nil)
		w := chat(h, hi(`"stream":true`))
		answer := w.Body.String()
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.Body.String() != answer {
			t.Errorf("%q came after %q", strings.TrimPrefix(w.Body.String(), answer), answer)
		}
	})
}

// Whatever a client sends, it gets an answer, or an error that is its own.
func FuzzChat(f *testing.F) {
	for _, c := range understood {
		f.Add(body(c.member))
	}
	for _, c := range refused {
		f.Add(body(c.member))
	}
	answerer := servertest.Guarantee()
	h := serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &recorder{}, Answerer: answerer}}}, servertest.Stores{"default": 1}, nil)
	f.Fuzz(func(t *testing.T, body string) {
		w := chat(h, body)
		if w.Code == http.StatusOK {
			return
		}
		var got struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code < 400 || w.Code >= 500 || got.Error.Message == "" || got.Error.Code == "" {
			t.Errorf("%d %s %v", w.Code, w.Body, err)
		}
	})
}

// Events of a stream are sent as they come: the first is read while the next isn't there yet.
func TestEventsAreNotHeldBack(t *testing.T) {
	answerer := servertest.Guarantee()
	answerer.Hold = make(chan struct{}, 1)
	answerer.Hold <- struct{}{}
	s := httptest.NewServer(serve(dispatch.Models{Chats: []dispatch.Chat{{Generator: &recorder{}, Answerer: answerer}}}, servertest.Stores{"default": 1}, nil))
	defer s.Close()
	w, err := s.Client().Post(s.URL+"/v1/chat/completions", "application/json", strings.NewReader(hi(`"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	events := bufio.NewScanner(w.Body)
	for events.Scan() && !strings.Contains(events.Text(), "2 years") {
	}
	answerer.Hold <- struct{}{}
	last := ""
	for events.Scan() {
		if events.Text() != "" {
			last = events.Text()
		}
	}
	if last != "data: [DONE]" {
		t.Errorf("ended with %q, %v", last, events.Err())
	}
}
