package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Where the passages of the workload rag go, and in which order.
const (
	DocumentsPrompt = "prompt" // into the system message
	DocumentsField  = "field"  // into the request's field "documents", as quipu and vLLM take them
	OrderRandom     = "random"
	OrderCanonical  = "canonical" // the same order whenever they meet
)

// pause follows a failed request, so that a server which refuses is not asked a thousand times a second.
const pause = 100 * time.Millisecond

// Config is one run.
type Config struct {
	URL      string // of the server; without a path, /v1 is added
	Workload string
	Clients  int
	Requests int           // that are counted
	Duration time.Duration // instead of Requests: no request starts later
	Tokens   int           // that each answer has, where the workload wants an exact number
	Model    string        // sent where it isn't empty
	Key      string
	Seed     uint64 // of all texts

	Documents   string
	Order       string
	NoIgnoreEOS bool // don't send ignore_eos: answers end where the model ends them

	Timeout  time.Duration  // of one request
	Progress func(Progress) // called from one goroutine, after every request; may be nil
}

// Progress is how far a run is.
type Progress struct {
	WarmUp      bool
	Done, Total int // requests; Total is 0 where the time counts
	Failed      int
	Tokens      float64 // a second, generated
}

// Default is the run that a workload asks for; an unknown one is refused by Validate.
func Default(url, workload string) Config {
	w, _ := Find(workload)
	return Config{URL: url, Workload: workload, Clients: w.Clients, Requests: w.Requests, Tokens: w.Tokens, Seed: 1,
		Documents: DocumentsPrompt, Order: OrderRandom, Timeout: 10 * time.Minute}
}

// Validate says what is wrong with it.
func (c Config) Validate() error {
	w, known := Find(c.Workload)
	if !known {
		var names []string
		for _, w := range Workloads() {
			names = append(names, w.Name)
		}
		return fmt.Errorf("there is no workload %q: use %s", c.Workload, strings.Join(names, ", "))
	}
	if _, err := base(c.URL); err != nil {
		return err
	}
	for _, n := range []struct {
		name       string
		value, low int
	}{{"clients", c.Clients, 1}, {"requests", c.Requests, 1}, {"tokens", c.Tokens, min(w.Tokens, 1)}} {
		if n.value < n.low || n.value > 1e6 {
			return fmt.Errorf("%s %d: use a number from %d to 1000000", n.name, n.value, n.low)
		}
	}
	switch {
	case c.Duration < 0 || c.Timeout <= 0:
		return errors.New("duration and timeout can't be negative")
	case c.Duration > 0 && c.Workload == "cancel":
		return errors.New("the workload cancel ends by its requests, not by a duration")
	case c.Documents != DocumentsPrompt && c.Documents != DocumentsField:
		return fmt.Errorf("documents %q: use %s or %s", c.Documents, DocumentsPrompt, DocumentsField)
	case c.Order != OrderRandom && c.Order != OrderCanonical:
		return fmt.Errorf("order %q: use %s or %s", c.Order, OrderRandom, OrderCanonical)
	}
	return nil
}

// base is where the API's paths start.
func base(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return "", fmt.Errorf("%q is no server's URL, such as http://127.0.0.1:8080", server)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1"
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// run is a run under way. Its fields belong to the goroutine that called Run.
type run struct {
	Config
	client *client
	total  int // measured requests
	calls  []call
	warm   []call
	spent  time.Duration // in measured phases
}

// Run puts a workload on a server. When ctx ends, requests under way are cut and the result says what was measured so far:
// only a Config that is wrong gives an error.
func Run(ctx context.Context, c Config) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	w, _ := Find(c.Workload)
	url, err := base(c.URL)
	if err != nil {
		return Result{}, err
	}
	r := run{Config: c, client: newClient(c, url)}
	defer r.client.close()
	phases := w.plan(c)
	for _, p := range phases {
		for _, l := range p.lanes {
			if !p.warm && c.Duration == 0 {
				r.total += l.count
			}
		}
	}
	started := time.Now()
	for _, p := range phases {
		if ctx.Err() == nil {
			r.play(ctx, p)
		}
	}
	return r.result(started, ctx.Err() != nil), nil
}

// play runs one phase to its end.
func (r *run) play(ctx context.Context, p phase) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	calls := make(chan call)
	var counted, all sync.WaitGroup
	started := time.Now()
	for _, l := range p.lanes {
		var deadline time.Time
		if l.timed && r.Duration > 0 {
			deadline, l.count = started.Add(r.Duration), 0
		}
		var next atomic.Int64
		for range l.clients {
			all.Add(1)
			endless := l.count == 0 && deadline.IsZero()
			if !endless {
				counted.Add(1)
			}
			go func() {
				defer all.Done()
				if !endless {
					defer counted.Done()
				}
				for ctx.Err() == nil {
					i := int(next.Add(1)) - 1
					if l.count > 0 && i >= l.count || !deadline.IsZero() && time.Now().After(deadline) {
						return
					}
					done := r.client.send(ctx, l.request(i))
					calls <- done
					if done.err != nil {
						wait(ctx, pause)
					}
				}
			}()
		}
	}
	go func() {
		counted.Wait()
		stop() // endless lanes have nothing left to run beside
		all.Wait()
		close(calls)
	}()
	now := Progress{WarmUp: p.warm, Total: r.total, Done: len(r.calls)}
	if p.warm {
		now.Total, now.Done = p.lanes[0].count, 0
	}
	tokens := 0
	for c := range calls {
		if p.warm {
			r.warm = append(r.warm, c)
		} else {
			r.calls = append(r.calls, c)
		}
		if c.group != groupStream { // of those there is no number
			now.Done++
		}
		if c.err != nil {
			now.Failed++
		}
		if tokens += c.output; r.Progress != nil {
			now.Tokens = float64(tokens) / time.Since(started).Seconds()
			r.Progress(now)
		}
	}
	if !p.warm {
		r.spent += time.Since(started)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
