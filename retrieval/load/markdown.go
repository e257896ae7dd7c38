package load

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extensions_ast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/quipu-ai/quipu/retrieval"
)

// markdown reads GitHub's dialect with footnotes and front matter.
func (l *Loader) markdown(content string) (retrieval.Text, error) {
	title, content := frontMatter(content)
	if markerDepth(content, l.config.MaxDepth) {
		return retrieval.Text{}, tooDeep(l.config.MaxDepth)
	}
	source := []byte(spaceDefinitions(content))
	md := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote),
		goldmark.WithParserOptions(parser.WithHeadingAttribute(), parser.WithInlineParsers(util.Prioritized(&markGuard{}, 0))))
	w := &markdownWalker{source: source, limit: l.config.MaxDepth}
	if !w.blocks(md.Parser().Parse(text.NewReader(source)), 0) {
		return retrieval.Text{}, tooDeep(l.config.MaxDepth)
	}
	return w.out.done(title), nil
}

func tooDeep(limit int) error {
	return refuse(retrieval.CodeInvalid, "its lists or quotes are nested deeper than %d", limit)
}

// frontMatter cuts off a block of metadata between two lines of --- and gives the title that it names.
func frontMatter(content string) (title, rest string) {
	body, ok := strings.CutPrefix(content, "---\n")
	if !ok {
		return "", content
	}
	head, rest, ok := strings.Cut(body, "\n---\n")
	if !ok {
		return "", content
	}
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(line, "title:"); ok {
			return strings.Trim(strings.TrimSpace(value), `"'`), rest
		}
	}
	return "", rest
}

// markerDepth reports a line that opens more quotes and lists than limit. It is looked for before parsing, because the
// time to parse such lines grows with the square of their depth.
func markerDepth(content string, limit int) bool {
	for line := range strings.Lines(content) {
		depth := 0
		for rest := strings.TrimLeft(line, " \t"); rest != ""; depth++ {
			if rest[0] != '>' && (len(rest) < 2 || rest[1] != ' ' || !strings.ContainsRune("-*+", rune(rest[0]))) {
				digits := strings.TrimLeft(rest, "0123456789")
				if digits == rest || len(digits) < 2 || digits[1] != ' ' || digits[0] != '.' && digits[0] != ')' {
					break
				}
				rest = digits
			}
			rest = strings.TrimLeft(rest[1:], " \t")
		}
		if depth > limit {
			return true
		}
	}
	return false
}

type markdownWalker struct {
	source []byte
	limit  int
	out    builder
}

// blocks writes the children of n and reports whether they kept to the depth limit. depth counts containers.
func (w *markdownWalker) blocks(n ast.Node, depth int) bool {
	if depth > w.limit {
		return false
	}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Heading:
			w.out.heading(c.Level, w.inline(c))
		case *ast.Paragraph, *ast.TextBlock:
			w.out.paragraph(w.inline(c))
		case *ast.FencedCodeBlock:
			w.out.code(string(c.Language(w.source)), w.lines(c))
		case *ast.CodeBlock:
			w.out.code("", w.lines(c))
		case *ast.HTMLBlock:
			raw := w.lines(c)
			if c.HasClosure() {
				raw += string(c.ClosureLine.Value(w.source))
			}
			writeFragment(&w.out, raw)
		case *ast.List:
			if !w.list(c, depth, 0) {
				return false
			}
		case *extensions_ast.Table:
			w.table(c)
		case *extensions_ast.FootnoteList:
			for f := c.FirstChild(); f != nil; f = f.NextSibling() {
				if note, ok := f.(*extensions_ast.Footnote); ok && !w.container(f, "["+strconv.Itoa(note.Index)+"]", depth+1, 0) {
					return false
				}
			}
		default: // quotes, and whatever else holds blocks
			if c.Type() == ast.TypeBlock && !w.blocks(c, depth+1) {
				return false
			}
		}
	}
	return true
}

func (w *markdownWalker) list(l *ast.List, depth, nested int) bool {
	number := l.Start
	for c := l.FirstChild(); c != nil; c = c.NextSibling() {
		marker := "-"
		if l.IsOrdered() {
			marker = strconv.Itoa(number) + "."
			number++
		}
		if !w.container(c, marker, depth+1, nested) {
			return false
		}
	}
	return true
}

// container writes a list item or a footnote: its first paragraph behind the marker, the rest as blocks of their own.
func (w *markdownWalker) container(n ast.Node, marker string, depth, nested int) bool {
	if depth > w.limit {
		return false
	}
	first := n.FirstChild()
	if first == nil {
		return true
	}
	if k := first.Kind(); k == ast.KindParagraph || k == ast.KindTextBlock {
		w.out.item(marker, w.inline(first), nested)
		n.RemoveChild(n, first)
	}
	for c := n.FirstChild(); c != nil; c = n.FirstChild() {
		n.RemoveChild(n, c)
		var ok bool
		if l, isList := c.(*ast.List); isList {
			ok = w.list(l, depth, nested+1)
		} else {
			holder := ast.NewDocument()
			holder.AppendChild(holder, c)
			ok = w.blocks(holder, depth)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (w *markdownWalker) table(t *extensions_ast.Table) {
	for r := t.FirstChild(); r != nil; r = r.NextSibling() {
		var cells []string
		for c := r.FirstChild(); c != nil; c = c.NextSibling() {
			cells = append(cells, w.inline(c))
		}
		kind := retrieval.Row
		if r.Kind() == extensions_ast.KindTableHeader {
			kind = retrieval.Header
		}
		w.out.row(kind, cells)
	}
}

func (w *markdownWalker) lines(n ast.Node) string {
	return string(n.Lines().Value(w.source))
}

// inline gives the words of a block: without emphasis, with the addresses of links, line by line as in the source.
func (w *markdownWalker) inline(n ast.Node) string {
	var b strings.Builder
	w.words(&b, n, 0)
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

func (w *markdownWalker) words(b *strings.Builder, n ast.Node, depth int) {
	if depth > w.limit { // deeper emphasis carries nothing
		return
	}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			if value := c.Segment.Value(w.source); c.IsRaw() {
				b.Write(value)
			} else {
				b.Write(unescape(value))
			}
			if c.SoftLineBreak() || c.HardLineBreak() {
				b.WriteByte('\n')
			}
		case *ast.String:
			b.Write(c.Value)
		case *ast.CodeSpan:
			for t := c.FirstChild(); t != nil; t = t.NextSibling() {
				if t, ok := t.(*ast.Text); ok {
					b.Write(bytes.ReplaceAll(t.Segment.Value(w.source), []byte("\n"), []byte(" ")))
				}
			}
		case *ast.AutoLink:
			b.Write(c.Label(w.source))
		case *ast.Link:
			from := b.Len()
			w.words(b, c, depth+1)
			if to := string(c.Destination); isAddress(to) && !strings.Contains(b.String()[from:], strings.TrimPrefix(to, "mailto:")) {
				b.WriteString(" (" + to + ")")
			}
		case *ast.RawHTML:
			if tag := c.Segments.Value(w.source); len(tag) > 3 && strings.EqualFold(string(tag[:3]), "<br") {
				b.WriteByte('\n')
			}
		case *extensions_ast.TaskCheckBox:
			if c.IsChecked {
				b.WriteString("[x] ")
			} else {
				b.WriteString("[ ] ")
			}
		case *extensions_ast.FootnoteLink:
			b.WriteString("[" + strconv.Itoa(c.Index) + "]")
		case *extensions_ast.FootnoteBacklink:
		case *extensions_ast.Strikethrough: // what is crossed out must not read as valid
			b.WriteString("~~")
			w.words(b, c, depth+1)
			b.WriteString("~~")
		default:
			w.words(b, c, depth+1)
		}
	}
}

// isAddress reports a link that says where to go outside of the documents.
func isAddress(link string) bool {
	return strings.HasPrefix(link, "https://") || strings.HasPrefix(link, "http://") || strings.HasPrefix(link, "mailto:")
}

func unescape(text []byte) []byte {
	return util.UnescapePunctuations(util.ResolveEntityNames(util.ResolveNumericReferences(text)))
}
