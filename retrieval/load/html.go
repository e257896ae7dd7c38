package load

import (
	"strconv"
	"strings"

	"codeberg.org/readeck/go-readability/v2"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/quipu-ai/quipu/retrieval"
)

// maxElements bounds the time that looking for the article takes; a larger page is taken whole.
const maxElements = 100_000

// html reads a page: the article where there is one, else all of the body but navigation.
func (l *Loader) html(content string) (retrieval.Text, error) {
	document, err := html.Parse(strings.NewReader(content))
	if err != nil {
		return retrieval.Text{}, refuse(retrieval.CodeInvalid, "it can't be parsed as HTML: %v", err)
	}
	title := ""
	if t := find(document, atom.Title); t != nil {
		title = textOf(t)
	}
	whole := &htmlWalker{out: &builder{}}
	whole.write(document)

	reader := readability.NewParser()
	reader.MaxElemsToParse = maxElements
	article, err := reader.ParseDocument(document, nil)
	if err != nil || article.Node == nil {
		return whole.out.done(title), nil
	}
	main := &htmlWalker{out: &builder{}}
	main.write(article.Node)
	// The search for an article sometimes finds only a corner of a page that is all content.
	if main.out.text.Len() < whole.out.text.Len()/3 {
		return whole.out.done(title), nil
	}
	if t := strings.TrimSpace(article.Title()); t != "" {
		title = t
	}
	return main.out.done(title), nil
}

// writeFragment writes HTML that stands in another format.
func writeFragment(out *builder, raw string) {
	body := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(strings.NewReader(raw), body)
	if err != nil {
		return
	}
	w := &htmlWalker{out: out}
	for _, n := range nodes {
		w.walk(n)
	}
	w.flush()
}

// htmlWalker writes a tree of at most 512 levels, which the parser warrants.
type htmlWalker struct {
	out    *builder
	line   strings.Builder // of the open paragraph or item
	marker string          // of the open item; empty in a paragraph
	nested int             // lists around the open item, less one
}

func (w *htmlWalker) write(n *html.Node) {
	w.walk(n)
	w.flush()
}

// flush writes the open paragraph or item.
func (w *htmlWalker) flush() {
	lines := strings.Split(w.line.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	text := strings.TrimSpace(strings.Join(lines, "\n"))
	w.line.Reset()
	if text == "" {
		return
	}
	if w.marker == "" {
		w.out.paragraph(text)
		return
	}
	w.out.item(w.marker, text, w.nested)
	w.marker = ""
}

func (w *htmlWalker) children(n *html.Node) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.walk(c)
	}
}

func (w *htmlWalker) walk(n *html.Node) {
	switch {
	case n.Type == html.TextNode:
		w.text(n.Data)
		return
	case n.Type == html.DocumentNode:
		w.children(n)
		return
	case n.Type != html.ElementNode || isSkipped(n):
		return
	}
	switch n.DataAtom {
	case atom.Br:
		w.line.WriteByte('\n')
	case atom.Img:
		w.text(" " + attribute(n, "alt") + " ")
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		w.flush()
		w.out.heading(int(n.Data[1]-'0'), textOf(n))
	case atom.Pre:
		w.flush()
		w.out.code("", rawText(n))
	case atom.Ul, atom.Ol, atom.Menu:
		w.list(n)
	case atom.Table:
		w.flush()
		if !w.table(n) {
			w.children(n)
		}
		w.flush()
	default:
		if isInline(n.DataAtom) {
			w.children(n)
			return
		}
		w.flush()
		w.children(n)
		w.flush()
	}
}

// text adds words to the open line, white space collapsed.
func (w *htmlWalker) text(s string) {
	fields := strings.Fields(s)
	if len(fields) == 0 {
		if s != "" && w.line.Len() > 0 {
			w.line.WriteByte(' ')
		}
		return
	}
	if open := w.line.String(); open != "" && s[0] <= ' ' && open[len(open)-1] != ' ' {
		w.line.WriteByte(' ')
	}
	w.line.WriteString(strings.Join(fields, " "))
	if s[len(s)-1] <= ' ' {
		w.line.WriteByte(' ')
	}
}

func (w *htmlWalker) list(n *html.Node) {
	w.flush()
	outer := w.nested
	if insideList(n) {
		w.nested++
	}
	number := 1
	if start, err := strconv.Atoi(attribute(n, "start")); err == nil {
		number = start
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom == atom.Li && !isSkipped(c) {
			w.marker = "-"
			if n.DataAtom == atom.Ol {
				w.marker = strconv.Itoa(number) + "."
				number++
			}
			w.children(c)
			w.flush()
			w.marker = ""
			continue
		}
		w.walk(c)
	}
	w.flush()
	w.nested = outer
}

func insideList(n *html.Node) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if p.DataAtom == atom.Li {
			return true
		}
	}
	return false
}

// table writes a table of data, and reports false for one that only lays out the page.
func (w *htmlWalker) table(n *html.Node) bool {
	var rows [][]string
	columns, headed, caption := 0, false, ""
	var walk func(n *html.Node) bool
	walk = func(n *html.Node) bool {
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			switch c.DataAtom {
			case atom.Table:
				return false
			case atom.Tr:
				var cells []string
				named := true
				for d := c.FirstChild; d != nil; d = d.NextSibling {
					if d.DataAtom == atom.Td || d.DataAtom == atom.Th {
						if find(d, atom.Table) != nil {
							return false
						}
						cells = append(cells, textOf(d))
						named = named && d.DataAtom == atom.Th
					}
				}
				headed = headed || len(rows) == 0 && named
				columns = max(columns, len(cells))
				rows = append(rows, cells)
			case atom.Caption:
				caption = textOf(c)
			default:
				if !walk(c) {
					return false
				}
			}
		}
		return true
	}
	if !walk(n) || columns < 2 {
		return false
	}
	w.out.paragraph(caption)
	for i, cells := range rows {
		kind := retrieval.Row
		if i == 0 && headed {
			kind = retrieval.Header
		}
		w.out.row(kind, cells)
	}
	return true
}

// isSkipped reports elements without words for a reader.
func isSkipped(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Head, atom.Script, atom.Style, atom.Noscript, atom.Template, atom.Iframe, atom.Object, atom.Svg, atom.Canvas,
		atom.Audio, atom.Video, atom.Nav, atom.Footer, atom.Button, atom.Select, atom.Textarea, atom.Datalist:
		return true
	}
	for _, a := range n.Attr {
		if a.Key == "hidden" {
			return true
		}
	}
	return false
}

func isInline(a atom.Atom) bool {
	switch a {
	case atom.A, atom.Abbr, atom.B, atom.Bdi, atom.Bdo, atom.Big, atom.Cite, atom.Code, atom.Data, atom.Del, atom.Dfn, atom.Em,
		atom.Font, atom.I, atom.Ins, atom.Kbd, atom.Label, atom.Mark, atom.Meter, atom.Output, atom.Picture, atom.Q, atom.S,
		atom.Samp, atom.Small, atom.Span, atom.Strike, atom.Strong, atom.Sub, atom.Sup, atom.Time, atom.Tt, atom.U, atom.Var,
		atom.Wbr, atom.Ruby, atom.Rb, atom.Rt, atom.Rp, 0: // 0: elements of the page's own making
		return true
	}
	return false
}

// textOf gives all words under n on one line.
func textOf(n *html.Node) string {
	w := &htmlWalker{out: &builder{}}
	w.children(n)
	w.flush()
	return strings.Join(strings.Fields(w.out.text.String()), " ")
}

// rawText gives the text under n as it stands.
func rawText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		switch {
		case d.Type == html.TextNode:
			b.WriteString(d.Data)
		case d.DataAtom == atom.Br:
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func find(n *html.Node, a atom.Atom) *html.Node {
	for d := range n.Descendants() {
		if d.DataAtom == a {
			return d
		}
	}
	return nil
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}
