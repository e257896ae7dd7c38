package ranking

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// Plot draws the report as an SVG: a group of bars a metric, a bar an arm, with whiskers for the intervals.
func (r Report) Plot() []byte {
	const height, bottom, left, bar, gap = 240, 290, 50, 26, 30
	colours := []string{"#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#9c755f", "#76b7b2"}
	group := bar*len(r.Arms) + gap
	width := max(left+group*len(Names())+20, 560)
	y := func(v float64) float64 { return bottom - height*v }
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 350" width="%d" font-family="sans-serif" font-size="12">`+"\n", width, width)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%d" y="20" font-size="14">%s: %d documents, %d questions</text>`+"\n", left, escape(r.Data), r.Documents, r.Questions)
	for tick := range 6 {
		v := float64(tick) / 5
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%.1f</text>`+"\n", left, y(v), width-10, left-6, y(v)+4, v)
	}
	for g, name := range Names() {
		x := left + 10 + g*group
		for i, m := range r.Arms {
			v, at := m.Means[name], x+i*bar
			middle := at + (bar-4)/2
			fmt.Fprintf(&b, `<rect x="%d" y="%.1f" width="%d" height="%.1f" fill="%s"><title>%s %s %.3f [%.3f, %.3f]</title></rect>`, at, y(v.Mean), bar-4, height*v.Mean,
				colours[i%len(colours)], escape(m.Arm), name, v.Mean, v.Low, v.High)
			fmt.Fprintf(&b, `<path d="M%d %.1fV%.1f" stroke="#222"/><text x="%d" y="%d" font-size="9" text-anchor="middle" fill="#fff">%s</text>`+"\n", middle, y(v.Low), y(v.High), middle, bottom-5,
				strings.TrimPrefix(fmt.Sprintf("%.2f", v.Mean), "0"))
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", x+bar*len(r.Arms)/2, bottom+18, name)
	}
	at := left
	for i, m := range r.Arms {
		fmt.Fprintf(&b, `<rect x="%d" y="325" width="12" height="12" fill="%s"/><text x="%d" y="335">%s</text>`+"\n", at, colours[i%len(colours)], at+17, escape(m.Arm))
		at += 40 + 8*len(m.Arm)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func escape(s string) string {
	var b strings.Builder
	if xml.EscapeText(&b, []byte(s)) != nil {
		return ""
	}
	return b.String()
}
