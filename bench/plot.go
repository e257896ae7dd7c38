package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Series is a curve in each panel of a plot.
type Series struct {
	Name                     string
	FirstToken, Gap, Latency []float64 // milliseconds
}

// Series gives the result's groups, to be plotted.
func (r *Result) Series() []Series {
	var all []Series
	for _, g := range r.Groups {
		s := Series{Name: g.Name}
		if len(r.Groups) == 1 {
			s.Name = r.Workload
		}
		s.FirstToken, s.Gap, s.Latency = r.times(g.Name)
		all = append(all, s)
	}
	return all
}

// Plot is the result as an SVG.
func (r *Result) Plot() []byte { return Plot(r.title(), r.Series()) }

const (
	plotWidth   = 760
	plotLeft    = 64
	plotRight   = 24
	plotTop     = 64
	panelHeight = 190
	panelGap    = 70
	legendWidth = 336
	legendRow   = 2
	curvePoints = 400
)

// These differ for people who see colours differently too (Okabe and Ito).
var curveColours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

// Plot draws how times are distributed: a panel for first tokens, gaps and latencies, a curve for each series, which says
// what share of its times is at most so long.
func Plot(title string, series []Series) []byte {
	panels := []struct {
		name string
		of   func(Series) []float64
	}{
		{"first token", func(s Series) []float64 { return s.FirstToken }},
		{"gap between tokens", func(s Series) []float64 { return s.Gap }},
		{"whole latency", func(s Series) []float64 { return s.Latency }},
	}
	var body bytes.Buffer
	y := plotTop + 22*((len(series)-1)/legendRow)
	legend(&body, series)
	for _, p := range panels {
		if !slices.ContainsFunc(series, func(s Series) bool { return len(p.of(s)) > 0 }) {
			continue
		}
		y += 26
		panel(&body, p.name, y, series, p.of)
		y += panelHeight + panelGap - 26
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="Helvetica, Arial, sans-serif" font-size="12">
<rect width="%[1]d" height="%[2]d" fill="#fff"/>
<text x="%[3]d" y="26" font-size="15" font-weight="bold">%[4]s</text>
`, plotWidth, y, plotLeft, escaped(title))
	out.Write(body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func legend(b *bytes.Buffer, series []Series) {
	for i, s := range series {
		x, y := plotLeft+legendWidth*(i%legendRow), 48+22*(i/legendRow)
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%[2]d" stroke="%[4]s" stroke-width="3"/><text x="%[5]d" y="%[6]d">%[7]s</text>`+"\n",
			x, y, x+18, colour(i), x+24, y+4, escaped(s.Name))
	}
}

func colour(i int) string { return curveColours[i%len(curveColours)] }

func panel(b *bytes.Buffer, name string, top int, series []Series, of func(Series) []float64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range series {
		for _, t := range of(s) {
			low, high = min(low, max(t, .01)), max(high, t, .01)
		}
	}
	ticks := logTicks(low, high)
	low, high = ticks[0], ticks[len(ticks)-1]
	x := func(t float64) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*math.Log(max(t, low)/low)/math.Log(high/low)
	}
	y := func(share float64) float64 { return float64(top) + panelHeight*(1-share) }

	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", plotLeft, top-10, name)
	fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%[2]d" stroke="#ddd"/>`+"\n", plotLeft, top, plotWidth-plotRight)
	for _, share := range []float64{0, .25, .5, .75, .95} {
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1[2]f" stroke="#ddd"/><text x="%[4]d" y="%.1[5]f" text-anchor="end" fill="#555">%.0[6]f %%</text>`+"\n",
			plotLeft, y(share), plotWidth-plotRight, plotLeft-8, y(share)+4, 100*share)
	}
	for i, t := range ticks {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d" stroke="#eee"/>`+"\n", x(t), top, top+panelHeight)
		if len(ticks) <= 14 || i%3 == 0 {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n", x(t), top+panelHeight+16, span(t))
		}
	}
	for i, s := range series {
		if times := of(s); len(times) > 0 {
			fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", curve(times, x, y), colour(i))
		}
	}
}

// curve is the path of a distribution; of very many times it takes some, evenly, and the last.
func curve(times []float64, x, y func(float64) float64) string {
	times = slices.Sorted(slices.Values(times))
	var b strings.Builder
	fmt.Fprintf(&b, "M%.1f %.1f", x(times[0]), y(0))
	step := max(1, len(times)/curvePoints)
	for i := step - 1; ; i = min(i+step, len(times)-1) {
		fmt.Fprintf(&b, "H%.1fV%.1f", x(times[i]), y(float64(i+1)/float64(len(times))))
		if i == len(times)-1 {
			return b.String()
		}
	}
}

// logTicks lists 1, 2, 5, 10, … from the last that is at most low to the first that is at least high; two at least.
func logTicks(low, high float64) []float64 {
	var ticks []float64
	for decade := math.Floor(math.Log10(low)); ; decade++ {
		for _, digit := range []float64{1, 2, 5} {
			t := digit * math.Pow(10, decade)
			if t <= low {
				ticks = ticks[:0]
			}
			if ticks = append(ticks, t); t >= high && len(ticks) > 1 {
				return ticks
			}
		}
	}
}

// span writes milliseconds shortly.
func span(ms float64) string {
	if ms >= 1000 {
		return fmt.Sprintf("%g s", ms/1000)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
