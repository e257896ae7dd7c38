package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares text with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s: got\n%s", name, got)
	}
}

func TestDescribe(t *testing.T) {
	ramp := func(n int) []float64 {
		var times []float64
		for _, i := range rand.Perm(n) {
			times = append(times, float64(i+1))
		}
		return times
	}
	for name, test := range map[string]struct {
		times []float64
		want  Times
	}{
		"none":     {nil, Times{}},
		"one":      {[]float64{5}, Times{1, 5, 5, 5, 5, 5}},
		"two":      {[]float64{9, 1}, Times{2, 5, 1, 9, 9, 9}},
		"three":    {[]float64{9, 1, 2}, Times{3, 4, 2, 9, 9, 9}},
		"twenty":   {ramp(20), Times{20, 10.5, 10, 19, 20, 20}},
		"hundred":  {ramp(100), Times{100, 50.5, 50, 95, 99, 100}},
		"thousand": {ramp(1000), Times{1000, 500.5, 500, 950, 990, 1000}},
	} {
		if got := Describe(test.times); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

// made is a result of calls whose times are known.
func made() Result {
	origin := time.Unix(1_000_000, 0)
	r := run{Config: Default("http://server", "mixed"), spent: 4 * time.Second, warm: []call{{err: errors.New("503: Loading")}, {}}}
	at := func(ms int) time.Time { return origin.Add(time.Duration(ms) * time.Millisecond) }
	for i := range 20 {
		ms := 10 * (i + 1)
		c := call{group: groupStream, start: at(0), first: at(ms), last: at(ms + 30), end: at(ms + 40), deltas: 3, prompt: 20, cached: 10, output: 3, finish: "length",
			gaps: []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}}
		if i >= 18 { // their latencies say nothing, what came before does
			c.cut, c.finish, c.prompt, c.cached = true, "", 0, 0
		}
		r.calls = append(r.calls, c)
	}
	r.calls = append(r.calls,
		call{group: groupLong, start: at(0), first: at(1000), end: at(2000), deltas: 1, prompt: 1240, output: 16, finish: "length"},
		call{group: groupLong, start: at(0), first: at(1), end: at(2), deltas: 1, output: 1, finish: "length", err: errors.New("503: Loading")},
		call{group: groupLong, start: at(0), end: at(2), err: errCutStream})
	return r.result(origin, false)
}

func TestResult(t *testing.T) {
	r := made()
	if r.Completed != 19 || r.Failed != 2 || r.Cut != 2 || r.Requests != 19./4 || r.PromptTokens != 18*20+1240 || r.CachedTokens != 180 || r.OutputTokens != 76 {
		t.Errorf("got %s", r.Table())
	}
	streams := r.Group(groupStream)
	if streams.FirstToken != (Times{20, 105, 100, 190, 200, 200}) || streams.Gap != (Times{40, 15, 10, 20, 20, 20}) || streams.Latency != (Times{18, 135, 130, 220, 220, 220}) {
		t.Errorf("got %+v", streams)
	}
	if long := r.Group(groupLong); long.FirstToken.N != 1 || long.FirstToken.P50 != 1000 || long.Failed != 2 {
		t.Errorf("got %+v", long)
	}
	if len(r.Errors) != 2 || r.Errors[0].Count != 2 {
		t.Errorf("errors %+v", r.Errors)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(data, &back); err != nil || back.Table() != r.Table() || len(back.Calls) != 23 {
		t.Errorf("read back, %v: %s", err, back.Table())
	}
	golden(t, "table.txt", []byte(r.Table()))
}

func TestPlot(t *testing.T) {
	r := made()
	plot := r.Plot()
	golden(t, "plot.svg", plot)
	many := make([]float64, 100_000)
	for i := range many {
		many[i] = float64(i)
	}
	for name, svg := range map[string][]byte{
		"groups":    plot,
		"nothing":   Plot("nothing", nil),
		"odd names": Plot(`<a> & "b"`, []Series{{Name: "</svg>", Gap: []float64{0, 0, 1e9}}}),
		"many":      Plot("many", []Series{{Name: "one", Latency: many}}),
	} {
		d := xml.NewDecoder(strings.NewReader(string(svg)))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
		if len(svg) > 30_000 || strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%s: %d bytes, %.300s", name, len(svg), svg)
		}
	}
}

// Texts have their length to the word, and no place is left open.
func TestText(t *testing.T) {
	seen := map[string]bool{}
	for i := range 200 {
		a := newAuthor(3, "text", i)
		p := a.passage(50 + i)
		if n := len(strings.Fields(p.Text)); n != 50+i || !strings.HasSuffix(p.Text, ".") || strings.ContainsAny(p.Text+p.Title, "{}") {
			t.Errorf("%d words: %s", n, p.Text)
		}
		q := a.question(a.name())
		if strings.ContainsAny(q, "{}") || !strings.HasSuffix(q, "?") && !strings.HasSuffix(q, ".") {
			t.Errorf("question %q", q)
		}
		if seen[p.Text] || seen[q] {
			t.Errorf("twice: %s %s", q, p.Text)
		}
		seen[p.Text], seen[q] = true, true
	}
	if newAuthor(3, "text", 0).passage(50) == newAuthor(4, "text", 0).passage(50) {
		t.Error("the seed changes nothing")
	}
}
