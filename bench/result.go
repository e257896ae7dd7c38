package bench

import (
	"math"
	"slices"
	"time"
)

// Result is what a run measured. Times are milliseconds.
type Result struct {
	Workload  string    `json:"workload"`
	URL       string    `json:"url"`
	Model     string    `json:"model,omitempty"`
	Seed      uint64    `json:"seed"`
	Clients   int       `json:"clients"`
	Tokens    int       `json:"tokens"` // asked for in each answer
	Documents string    `json:"documents,omitempty"`
	Order     string    `json:"order,omitempty"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`           // of measuring, warm-up left out
	Stopped   bool      `json:"stopped,omitempty"` // before its end

	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	Cut       int `json:"cut"` // by the client, on purpose
	WarmUp    int `json:"warm_up"`
	Again     int `json:"sent_again"` // because the server had closed the connection that it kept
	// Rates count what requests that didn't fail got, between the start of the first request and the end of the last.
	Requests     float64        `json:"requests_per_second"`
	Output       float64        `json:"output_tokens_per_second"`
	Prompt       float64        `json:"prompt_tokens_per_second"` // those that the server had in its cache too
	Passages     float64        `json:"passages_per_second,omitempty"`
	OutputTokens int            `json:"output_tokens"`
	PromptTokens int            `json:"prompt_tokens"`
	CachedTokens int            `json:"cached_tokens"` // of the prompts, where the server says it
	Finish       map[string]int `json:"finish,omitempty"`
	Groups       []Group        `json:"groups"`
	Errors       []Failure      `json:"errors,omitempty"`
	Calls        []Call         `json:"calls"`
}

// Group is a kind of request within a workload. First tokens and gaps are those of all its requests that did not fail,
// latencies those of the completed.
type Group struct {
	Name       string `json:"name"`
	Completed  int    `json:"completed"`
	Failed     int    `json:"failed"`
	Cut        int    `json:"cut"`
	FirstToken Times  `json:"first_token"`
	Gap        Times  `json:"gap"`
	Latency    Times  `json:"latency"`
}

// Failure is an error that requests ended with.
type Failure struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

// Call is one request.
type Call struct {
	Group   string    `json:"group"`
	Start   float64   `json:"start"` // since the run's
	First   float64   `json:"first_token,omitempty"`
	Latency float64   `json:"latency"`
	Gaps    []float64 `json:"gaps,omitempty"`
	Prompt  int       `json:"prompt_tokens,omitempty"`
	Output  int       `json:"output_tokens,omitempty"`
	Finish  string    `json:"finish,omitempty"`
	Cut     bool      `json:"cut,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Times describes a set of times.
type Times struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Describe describes times, which it sorts.
func Describe(times []float64) Times {
	if len(times) == 0 {
		return Times{}
	}
	slices.Sort(times)
	sum := 0.0
	for _, t := range times {
		sum += t
	}
	return Times{len(times), sum / float64(len(times)), percentile(times, 50), percentile(times, 95), percentile(times, 99), times[len(times)-1]}
}

// percentile is the smallest of the sorted values that p percent of them do not exceed (the nearest rank): one that was
// measured, never one between two.
func percentile(sorted []float64, p int) float64 {
	return sorted[(p*len(sorted)+99)/100-1]
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// differentErrors is how many texts of errors a result tells apart.
const differentErrors = 5

func (r *run) result(started time.Time, stopped bool) Result {
	out := Result{Workload: r.Workload, URL: r.URL, Model: r.Model, Seed: r.Seed, Clients: r.Clients, Tokens: r.Tokens,
		Started: started.UTC(), Seconds: r.spent.Seconds(), Stopped: stopped, WarmUp: len(r.warm), Finish: map[string]int{}}
	if r.Workload == "rag" {
		out.Documents, out.Order = r.Documents, r.Order
	}
	passages := 0
	for _, c := range r.calls {
		out.Calls = append(out.Calls, c.export(started))
		if c.err != nil {
			continue // what it got is of no use
		}
		passages += c.passages
		out.PromptTokens += c.prompt
		out.CachedTokens += c.cached
		out.OutputTokens += c.output
		if c.finish != "" {
			out.Finish[c.finish]++
		}
	}
	for _, c := range append(slices.Clone(r.warm), r.calls...) {
		out.fail(c.err)
		out.Again += max(0, c.connections-1)
	}
	out.group()
	if out.Seconds > 0 {
		out.Requests, out.Passages = float64(out.Completed)/out.Seconds, float64(passages)/out.Seconds
		out.Output, out.Prompt = float64(out.OutputTokens)/out.Seconds, float64(out.PromptTokens)/out.Seconds
	}
	return out
}

func (c call) export(started time.Time) Call {
	out := Call{Group: c.group, Start: milliseconds(c.start.Sub(started)), Latency: milliseconds(c.end.Sub(c.start)), Prompt: c.prompt,
		Output: c.output, Finish: c.finish, Cut: c.cut}
	if !c.first.IsZero() {
		out.First = milliseconds(c.first.Sub(c.start))
	}
	for _, g := range c.gaps {
		out.Gaps = append(out.Gaps, milliseconds(g))
	}
	if c.err != nil {
		out.Error = c.err.Error()
	}
	return out
}

// fail counts an error.
func (r *Result) fail(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	i := slices.IndexFunc(r.Errors, func(f Failure) bool { return f.Text == text })
	switch {
	case i < 0 && len(r.Errors) < differentErrors:
		r.Errors = append(r.Errors, Failure{Text: text})
		i = len(r.Errors) - 1
	case i < 0:
		if i = differentErrors; len(r.Errors) == i {
			r.Errors = append(r.Errors, Failure{Text: "others"})
		}
	}
	r.Errors[i].Count++
}

// group sorts the calls into their groups.
func (r *Result) group() {
	for _, name := range []string{groupAll, groupStream, groupLong, groupIdle, groupCut, groupAfter} {
		g := Group{Name: name}
		first, gaps, latency := r.times(name)
		for _, c := range r.Calls {
			switch {
			case c.Group != name:
			case c.Error != "":
				g.Failed++
			case c.Cut:
				g.Cut++
			default:
				g.Completed++
			}
		}
		if g.Completed+g.Failed+g.Cut == 0 {
			continue
		}
		g.FirstToken, g.Gap, g.Latency = Describe(first), Describe(gaps), Describe(latency)
		r.Groups = append(r.Groups, g)
		r.Completed += g.Completed
		r.Failed += g.Failed
		r.Cut += g.Cut
	}
}

// times lists what a group measured.
func (r *Result) times(group string) (first, gaps, latency []float64) {
	for _, c := range r.Calls {
		if c.Group != group || c.Error != "" {
			continue
		}
		if c.First > 0 {
			first = append(first, c.First)
		}
		gaps = append(gaps, c.Gaps...)
		if !c.Cut {
			latency = append(latency, c.Latency)
		}
	}
	return first, gaps, latency
}

// Group finds a group; one that had no requests is empty.
func (r *Result) Group(name string) Group {
	for _, g := range r.Groups {
		if g.Name == name {
			return g
		}
	}
	return Group{Name: name}
}
