package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a server of chats and embeddings that notes what it was asked.
type fake struct {
	*httptest.Server
	tokens func(chat) int // that it answers with; nil: max_tokens

	mu      sync.Mutex
	bodies  []string
	now     int // requests that it is working on
	most    int
	dropped int // clients that went away
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	mux.HandleFunc("POST /v1/embeddings", f.embed)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) enter(r *http.Request, into any) (leave func()) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies = append(f.bodies, string(body))
	f.now++
	f.most = max(f.most, f.now)
	if err := json.Unmarshal(body, into); err != nil {
		panic(err)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now--
	}
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	var c chat
	defer f.enter(r, &c)()
	n := c.MaxTokens
	if f.tokens != nil {
		n = f.tokens(c)
	}
	for i := range n {
		text := "word "
		if c.ResponseFormat != nil {
			text = "{}"[i : i+1]
		}
		fmt.Fprint(w, delta(text))
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.dropped++
			return
		case <-time.After(time.Millisecond):
		}
	}
	end := finish
	if c.ResponseFormat != nil {
		end = stop
	}
	fmt.Fprintf(w, `%sdata: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":%d}}`+"\n\n"+done, end, n)
}

func (f *fake) embed(w http.ResponseWriter, r *http.Request) {
	var in struct{ Input []string }
	defer f.enter(r, &in)()
	vectors := strings.Repeat(`{"embedding":[1]},`, len(in.Input))
	fmt.Fprintf(w, `{"data":[%s],"usage":{"prompt_tokens":%d}}`, strings.TrimSuffix(vectors, ","), len(in.Input))
}

// Each workload sends what it promises, and the same for the same seed.
func TestWorkloads(t *testing.T) {
	for name, want := range map[string]struct {
		requests, clients  int // asked for
		warm, completed    int
		cut                int // at least
		groups             []string
		words              [2]int // of a prompt, shortest and longest
		different, prompts int    // system messages and questions
	}{
		"rag":         {12, 4, 40, 12, 0, []string{"all"}, [2]int{4*180 + 12, 4*180 + 60}, 12, 12},
		"prefix-cold": {6, 3, 0, 6, 0, []string{"all"}, [2]int{900 + 12, 900 + 40}, 1, 6},
		"prefix-warm": {9, 3, 4, 9, 0, []string{"all"}, [2]int{900 + 12, 900 + 40}, 4, 9},
		"short":       {8, 4, 0, 8, 0, []string{"all"}, [2]int{8, 40}, 1, 8},
		"single":      {3, 1, 0, 3, 0, []string{"all"}, [2]int{8, 40}, 1, 3},
		"mixed":       {3, 3, 0, 3, 1, []string{"streams", "long prompts"}, [2]int{8, 950}, 4, 3},
		"quote":       {2, 1, 0, 2, 0, []string{"all"}, [2]int{300, 320}, 1, 2},
		"json":        {4, 2, 0, 4, 0, []string{"all"}, [2]int{30, 50}, 1, 4},
		"overload":    {3, 3, 0, 3, 0, []string{"all"}, [2]int{900 + 12, 900 + 40}, 3, 3},
		"cancel":      {5, 2, 0, 6, 5, []string{"before", "cancelled", "after"}, [2]int{8, 40}, 1, 11},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [2][]string
			for i := range asked {
				f := newFake(t)
				if name == "json" {
					f.tokens = func(chat) int { return 2 }
				}
				c := Default(f.URL, name)
				c.Requests, c.Clients, c.Seed, c.Model = want.requests, want.clients, 7, "some"
				if c.Tokens > 20 {
					c.Tokens = 20
				}
				var last Progress
				c.Progress = func(p Progress) { last = p }
				r, err := Run(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if r.Failed > 0 || r.WarmUp != want.warm || r.Cut < want.cut || len(r.Errors) > 0 || r.Stopped {
					t.Errorf("got %s", r.Table())
				}
				if r.Completed < want.completed || name != "mixed" && r.Completed != want.completed {
					t.Errorf("completed %d, want %d", r.Completed, want.completed)
				}
				if last.Done != last.Total || last.WarmUp {
					t.Errorf("progress ended at %+v", last)
				}
				if f.most > want.clients {
					t.Errorf("%d at a time", f.most)
				}
				var groups []string
				for _, g := range r.Groups {
					groups = append(groups, g.Name)
				}
				if !slices.Equal(groups, want.groups) {
					t.Errorf("groups %q", groups)
				}
				systems, prompts := map[string]bool{}, map[string]bool{}
				for _, body := range f.bodies[want.warm:] {
					var c chat
					if err := json.Unmarshal([]byte(body), &c); err != nil {
						t.Fatal(err)
					}
					user := c.Messages[len(c.Messages)-1]
					system := ""
					if len(c.Messages) == 2 {
						system = c.Messages[0].Content
					}
					systems[system], prompts[user.Content] = true, true
					if n := len(strings.Fields(system + " " + user.Content)); n < want.words[0] || n > want.words[1] {
						t.Errorf("a prompt of %d words", n)
					}
					if !c.Stream || c.Temperature != 0 || !c.StreamOptions["include_usage"] || c.IgnoreEOS == (name == "json") || c.Model != "some" || user.Role != "user" {
						t.Errorf("sent %.200s", body)
					}
				}
				if len(systems) < want.different || name != "mixed" && len(systems) != want.different || len(prompts) < want.prompts {
					t.Errorf("%d different system messages, %d questions", len(systems), len(prompts))
				}
				asked[i] = f.bodies
			}
			if name == "mixed" { // how many short ones go beside depends on the time
				for i := range asked {
					asked[i] = slices.DeleteFunc(asked[i], func(s string) bool { return !strings.Contains(s, "system") })
				}
			}
			for i := range asked {
				slices.Sort(asked[i])
			}
			if !slices.Equal(asked[0], asked[1]) {
				t.Error("the same seed sent something else")
			}
		})
	}
}

func TestEmbedWorkload(t *testing.T) {
	f := newFake(t)
	c := Default(f.URL+"/v1/", "embed")
	c.Requests = 3
	r, err := Run(t.Context(), c)
	if err != nil || r.Completed != 3 || r.PromptTokens != 192 || r.Passages < 192/r.Seconds*.99 || r.Passages > 192/r.Seconds*1.01 {
		t.Errorf("%v, %s", err, r.Table())
	}
	texts := map[string]bool{}
	for _, body := range f.bodies {
		var in struct{ Input []string }
		if err := json.Unmarshal([]byte(body), &in); err != nil {
			t.Fatal(err)
		}
		for _, text := range in.Input {
			texts[text] = true
			if n := len(strings.Fields(text)); n < embedMinWords || n > embedMaxWords {
				t.Errorf("%d words", n)
			}
		}
	}
	if len(texts) != 192 {
		t.Errorf("%d different texts", len(texts))
	}
}

// The passages of rag: where they go, and in which order.
func TestRAG(t *testing.T) {
	for _, documents := range []string{DocumentsPrompt, DocumentsField} {
		for _, order := range []string{OrderCanonical, OrderRandom} {
			f := newFake(t)
			c := Default(f.URL, "rag")
			c.Requests, c.Tokens, c.Documents, c.Order, c.NoIgnoreEOS = 30, 1, documents, order, true
			if _, err := Run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			place := map[string]int{}
			for i := range poolPassages {
				place[c.author("passage", i).passage(passageWords).Title] = i
			}
			inOrder, warm := 0, map[int]bool{}
			for n, body := range f.bodies {
				if strings.Contains(body, "ignore_eos") {
					t.Error("ignore_eos was sent")
				}
				var asked chat
				if err := json.Unmarshal([]byte(body), &asked); err != nil {
					t.Fatal(err)
				}
				var places []int
				if documents == DocumentsField {
					for _, d := range asked.Documents {
						if len(strings.Fields(d.Text)) != passageWords {
							t.Errorf("a passage of %q", d.Text)
						}
						places = append(places, place[d.Title])
					}
				} else {
					if asked.Documents != nil {
						t.Error("documents in the field")
					}
					for line := range strings.Lines(asked.Messages[0].Content) {
						if title, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
							places = append(places, place[title])
						}
					}
				}
				distinct := len(slices.Compact(slices.Sorted(slices.Values(places))))
				switch {
				case n < poolPassages && len(places) == 1:
					warm[places[0]] = true
				case n < poolPassages || distinct != ragPassages:
					t.Errorf("request %d has passages %v", n, places)
				case slices.IsSorted(places):
					inOrder++
				}
			}
			if len(warm) != poolPassages || order == OrderCanonical && inOrder != 30 || order == OrderRandom && inOrder > 10 {
				t.Errorf("%s, %s: %d of 30 in order, %d warmed", documents, order, inOrder, len(warm))
			}
		}
	}
}

// Whoever ends a run early gets what was measured, and the server's work is ended with it.
func TestStop(t *testing.T) {
	f := newFake(t)
	c := Default(f.URL, "short")
	c.Tokens = 100_000
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	time.AfterFunc(100*time.Millisecond, stop)
	r, err := Run(ctx, c)
	if err != nil || !r.Stopped || r.Cut != c.Clients || r.Completed+r.Failed > 0 || r.Groups[0].FirstToken.N != c.Clients || r.Groups[0].Gap.N == 0 || r.OutputTokens == 0 {
		t.Errorf("%v, %s", err, r.Table())
	}
	f.Close()
	if f.dropped != c.Clients {
		t.Errorf("the server saw %d clients go", f.dropped)
	}
}

// A duration ends the sending, not what is under way.
func TestDuration(t *testing.T) {
	f := newFake(t)
	c := Default(f.URL, "short")
	c.Clients, c.Tokens, c.Duration, c.Requests = 2, 10, 100*time.Millisecond, 1
	var last Progress
	c.Progress = func(p Progress) { last = p }
	r, err := Run(t.Context(), c)
	if err != nil || r.Completed < 2 || r.Cut > 0 || r.Stopped || r.Seconds < .1 || last.Total != 0 || last.Done != r.Completed {
		t.Errorf("%v, %s", err, r.Table())
	}
}

// Failures are counted by what they say, and no more than so many texts are told apart.
func TestFailures(t *testing.T) {
	var mu sync.Mutex
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%2 == 0 {
			fmt.Fprint(w, delta("a")+finish+done)
			return
		}
		http.Error(w, fmt.Sprintf("trouble %d", min(n/4, 6)), http.StatusServiceUnavailable)
	}))
	defer s.Close()
	c := Default(s.URL, "single")
	c.Requests = 32
	r, err := Run(t.Context(), c)
	if err != nil || r.Completed != 16 || r.Failed != 16 || r.Groups[0].Latency.N != 16 || !maps.Equal(r.Finish, map[string]int{"length": 16}) {
		t.Errorf("%v, %s", err, r.Table())
	}
	want := []Failure{{"503: trouble 0", 2}, {"503: trouble 1", 2}, {"503: trouble 2", 2}, {"503: trouble 3", 2}, {"503: trouble 4", 2}, {"others", 6}}
	if !slices.Equal(r.Errors, want) {
		t.Errorf("got %v", r.Errors)
	}
}

func TestValidate(t *testing.T) {
	for mention, change := range map[string]func(*Config){
		"":                     func(*Config) {},
		`no workload "sort"`:   func(c *Config) { c.Workload = "sort" },
		`"localhost:80" is no`: func(c *Config) { c.URL = "localhost:80" },
		`"http://" is no`:      func(c *Config) { c.URL = "http://" },
		"clients 0":            func(c *Config) { c.Clients = 0 },
		"requests -1":          func(c *Config) { c.Requests = -1 },
		"tokens 0":             func(c *Config) { c.Tokens = 0 },
		"can't be negative":    func(c *Config) { c.Duration = -1 },
		"by its requests":      func(c *Config) { c.Workload, c.Duration = "cancel", 1 },
		`documents "file"`:     func(c *Config) { c.Documents = "file" },
		`order "any"`:          func(c *Config) { c.Order = "any" },
	} {
		c := Default("http://127.0.0.1:8080", "short")
		change(&c)
		err := c.Validate()
		if (err == nil) != (mention == "") || err != nil && !strings.Contains(err.Error(), mention) {
			t.Errorf("%q: got %v", mention, err)
		}
		if _, runErr := Run(t.Context(), c); err != nil && runErr == nil {
			t.Errorf("%q: it ran", mention)
		}
	}
	for server, want := range map[string]string{"http://h:1": "http://h:1/v1", "http://h:1/": "http://h:1/v1", "https://h/v1/": "https://h/v1", "https://h/openai/v1": "https://h/openai/v1"} {
		if got, err := base(server); got != want || err != nil {
			t.Errorf("%s: got %s, %v", server, got, err)
		}
	}
}
