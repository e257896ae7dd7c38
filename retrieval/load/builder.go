package load

import (
	"strings"

	"github.com/quipu-ai/quipu/retrieval"
)

// builder writes a retrieval.Text block by block.
type builder struct {
	text   strings.Builder
	blocks []retrieval.Block
}

// add writes one block, without the blank space around it. What is nested stands indented by two spaces a level.
func (b *builder) add(block retrieval.Block, text string, nested int) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	if n := len(b.blocks); n > 0 {
		b.text.WriteString(between(b.blocks[n-1].Kind, block.Kind))
	}
	b.text.WriteString(strings.Repeat("  ", nested))
	block.Start = b.text.Len()
	b.text.WriteString(text)
	block.End = b.text.Len()
	b.blocks = append(b.blocks, block)
}

// between keeps lists and tables together.
func between(a, b retrieval.BlockKind) string {
	inTable := (a == retrieval.Header || a == retrieval.Row) && b == retrieval.Row
	if inTable || a == retrieval.Item && b == retrieval.Item {
		return "\n"
	}
	return "\n\n"
}

func (b *builder) paragraph(text string) {
	b.add(retrieval.Block{Kind: retrieval.Paragraph}, text, 0)
}

func (b *builder) item(marker, text string, nested int) {
	if text = strings.TrimSpace(text); text != "" {
		b.add(retrieval.Block{Kind: retrieval.Item}, marker+" "+text, nested)
	}
}

func (b *builder) heading(level int, text string) {
	if text = strings.Join(strings.Fields(text), " "); text != "" {
		b.add(retrieval.Block{Kind: retrieval.Heading, Level: level, Heading: text}, strings.Repeat("#", level)+" "+text, 0)
	}
}

func (b *builder) row(kind retrieval.BlockKind, cells []string) {
	var line strings.Builder
	blank := true
	for _, c := range cells {
		c = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
		blank = blank && c == ""
		line.WriteString("| " + c)
		if c != "" {
			line.WriteByte(' ')
		}
	}
	if blank {
		return
	}
	b.add(retrieval.Block{Kind: kind}, line.String()+"|", 0)
	if kind == retrieval.Header {
		b.text.WriteString("\n" + strings.Repeat("|---", len(cells)) + "|") // tells the header from a row wherever it is read
	}
}

func (b *builder) code(language, text string) {
	text = strings.Trim(text, "\n")
	if strings.TrimSpace(text) == "" {
		return
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	b.add(retrieval.Block{Kind: retrieval.Code}, fence+language+"\n"+text+"\n"+fence, 0)
}

// done gives the text. Without a title of its own a document is named by its first heading of level 1, or by the
// heading that it begins with.
func (b *builder) done(title string) retrieval.Text {
	title = strings.Join(strings.Fields(title), " ")
	for i, block := range b.blocks {
		if title == "" && block.Kind == retrieval.Heading && (block.Level == 1 || i == 0) {
			title = block.Heading
		}
	}
	return retrieval.Text{Title: title, Text: b.text.String(), Blocks: b.blocks}
}
