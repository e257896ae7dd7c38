package retrieval

// Text is a document in readable form with its structure: light Markdown, in which headings stand behind #, list items
// behind their marker and table rows between bars, one block or row a line or more, without inline markup. Plain text
// stays as it is.
type Text struct {
	Title     string // empty when the document names none
	MediaType string // of the file that it was read from
	Text      string // UTF-8, lines end in \n
	// Blocks are in order, don't overlap, are never blank, and hold all of Text but white space and drawing (rules,
	// underlines).
	Blocks []Block
}

// Block is a piece of a Text that is better not cut.
type Block struct {
	Kind    BlockKind `json:"k,omitempty"`
	Start   int       `json:"s"` // byte offsets in Text.Text
	End     int       `json:"e"`
	Level   int       `json:"l,omitempty"` // of a heading: 1 is the outermost
	Heading string    `json:"h,omitempty"` // a heading's words, without its marks
	Page    int       `json:"p,omitempty"` // of the file, from 1: a page, slide or sheet; 0 where there are none
}

// BlockKind says what a block is.
type BlockKind uint8

// The kinds of blocks.
const (
	Paragraph BlockKind = iota
	Heading
	Item   // of a list, without the items nested in it
	Header // the first row of a table, which names its columns
	Row    // any other row; its header is the Header before the unbroken run of Rows
	Code
)

// String names the kind, for test output.
func (k BlockKind) String() string {
	return [...]string{"paragraph", "heading", "item", "header", "row", "code"}[k]
}
