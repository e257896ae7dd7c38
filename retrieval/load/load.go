package load

import (
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"github.com/quipu-ai/quipu/retrieval"
)

// Version changes whenever the same file gives another text, so that documents are read again.
const Version = 2

// Config limits what one document may cost.
type Config struct {
	MaxBytes      int64 // of the file
	MaxCharacters int   // of the extracted text, in code points
	MaxDepth      int   // of nested lists and quotes; HTML is bounded by its parser at 512 open elements
}

// Default is generous for documents that people wrote.
func Default() Config {
	return Config{MaxBytes: 64 << 20, MaxCharacters: 32 << 20, MaxDepth: 100}
}

// Validate reports a limit that is not positive.
func (c Config) Validate() error {
	if c.MaxBytes < 1 || c.MaxCharacters < 1 || c.MaxDepth < 1 {
		return fmt.Errorf("load: limits must be positive, have %+v", c)
	}
	return nil
}

// Loader reads documents.
type Loader struct{ config Config }

// New returns a Loader with these limits.
func New(c Config) *Loader { return &Loader{config: c} }

// Read reads a whole file and refuses one over the limit.
func (l *Loader) Read(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, l.config.MaxBytes+1))
	switch {
	case err != nil:
		return nil, &retrieval.DocumentError{Code: retrieval.CodeUnreadable, Reason: "it can't be read: " + err.Error(), Err: err}
	case int64(len(content)) > l.config.MaxBytes:
		return nil, refuse(retrieval.CodeTooLarge, "it is larger than %d bytes", l.config.MaxBytes)
	}
	return content, nil
}

// format is one kind of file that we read.
type format struct {
	mediaType string
	read      func(l *Loader, text string) (retrieval.Text, error)
}

// byExtension gives the format of names whose files must hold text.
func byExtension(name string) (format, bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".mdown", ".mkd":
		return format{"text/markdown", (*Loader).markdown}, true
	case ".html", ".htm", ".xhtml":
		return format{"text/html", (*Loader).html}, true
	case ".txt", ".text", ".log":
		return format{"text/plain", (*Loader).plain}, true
	}
	return format{}, false
}

// Load reads a document; its name's extension helps to tell the format. Every error is a *retrieval.DocumentError.
func (l *Loader) Load(name string, content []byte) (text retrieval.Text, err error) {
	defer func() {
		// Other people's parsers read what other people wrote: a panic there costs this document only.
		if p := recover(); p != nil {
			text, err = retrieval.Text{}, refuse(retrieval.CodeInvalid, "it is broken in a way that its reader can't bear: %v", p)
		}
	}()
	if len(content) == 0 {
		return text, refuse(retrieval.CodeEmpty, "it is empty")
	}
	f, decoded, err := recognise(name, content)
	if err != nil {
		return text, err
	}
	text, err = f.read(l, decoded)
	switch {
	case err != nil:
		return retrieval.Text{}, err
	case len(text.Blocks) == 0:
		return retrieval.Text{}, refuse(retrieval.CodeEmpty, "it holds no text")
	case utf8.RuneCountInString(text.Text) > l.config.MaxCharacters:
		return retrieval.Text{}, refuse(retrieval.CodeTooLarge, "its text is longer than %d characters", l.config.MaxCharacters)
	}
	text.MediaType = f.mediaType
	return text, nil
}

// recognise tells the format and decodes the text.
func recognise(name string, content []byte) (format, string, error) {
	detected := mimetype.Detect(content)
	mediaType, _, _ := strings.Cut(detected.String(), ";")
	f, named := byExtension(name)
	switch {
	case named:
	case mediaType == "text/html" || mediaType == "application/xhtml+xml":
		f = format{mediaType, (*Loader).html}
	case isText(detected):
		f = format{mediaType, (*Loader).plain}
	default: // text may happen to begin like something else
		f = format{"text/plain", (*Loader).plain}
	}
	text, ok := decode(content, f.mediaType == "text/html", named || isText(detected))
	switch {
	case ok && !isMarkup(mediaType):
		return f, text, nil
	case !named:
		return f, "", refuse(retrieval.CodeUnsupported, "%s is not read; Markdown, HTML and plain text are", mediaType)
	case mediaType == "application/octet-stream":
		mediaType = "binary data"
	}
	return f, "", refuse(retrieval.CodeInvalid, "its name says %s, but it holds %s", f.mediaType, mediaType)
}

// isMarkup reports formats of letters that nobody reads as they stand.
func isMarkup(mediaType string) bool {
	switch mediaType {
	case "application/pdf", "text/rtf", "image/svg+xml", "application/postscript":
		return true
	}
	return false
}

func isText(m *mimetype.MIME) bool {
	for ; m != nil; m = m.Parent() {
		if m.Is("text/plain") {
			return true
		}
	}
	return false
}

func refuse(code, reason string, args ...any) *retrieval.DocumentError {
	return &retrieval.DocumentError{Code: code, Reason: fmt.Sprintf(reason, args...)}
}
