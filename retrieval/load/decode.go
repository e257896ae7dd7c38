package load

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// decode turns text of any charset into UTF-8 with \n as line ends, and reports false for what is no text. An encoding is
// only guessed when guess is set: any bytes are text in some encoding.
func decode(content []byte, isHTML, guess bool) (string, bool) {
	e, body := byMark(content)
	if e == nil && guess && (bytes.Contains(content, []byte("\x1b$B")) || bytes.Contains(content, []byte("\x1b$@"))) {
		e = japanese.ISO2022JP // the only charset that looks like ASCII
	}
	if e == nil && (!utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0) {
		if !guess {
			return "", false
		}
		if e = byContent(content, isHTML); e == nil {
			return "", false
		}
	}
	if e != nil {
		decoded, err := e.NewDecoder().Bytes(body)
		if err != nil {
			return "", false
		}
		body = decoded
	}
	if isBinary(body) {
		return "", false
	}
	text := strings.ToValidUTF8(string(body), "\uFFFD")
	if strings.IndexByte(text, '\r') >= 0 {
		text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	}
	return text, true
}

// byMark tells the encoding by its byte order mark and cuts the mark off. UTF-8's mark alone needs no decoder.
func byMark(content []byte) (encoding.Encoding, []byte) {
	for _, m := range []struct {
		mark     string
		encoding encoding.Encoding
	}{
		{"\xEF\xBB\xBF", unicode.UTF8},
		{"\xFF\xFE\x00\x00", utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)}, // before UTF-16, whose mark it begins with
		{"\x00\x00\xFE\xFF", utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)},
		{"\xFF\xFE", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
		{"\xFE\xFF", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	} {
		if rest, ok := bytes.CutPrefix(content, []byte(m.mark)); ok {
			return m.encoding, rest
		}
	}
	return nil, content
}

// byContent guesses the encoding of text that is not valid UTF-8; nil when it is no text.
func byContent(content []byte, isHTML bool) encoding.Encoding {
	if bytes.IndexByte(content, 0) >= 0 {
		return wide(content)
	}
	if mostlyUTF8(content) {
		return unicode.UTF8
	}
	if isHTML {
		// What it gives without a declaration is windows-1252, which is a guess like any other.
		if e, name, _ := charset.DetermineEncoding(content, ""); name != "windows-1252" {
			return e
		}
	}
	sample := content[:min(len(content), 1<<16)]
	if best, err := chardet.NewTextDetector().DetectBest(sample); err == nil {
		if e, err := htmlindex.Get(best.Charset); err == nil && e != unicode.UTF8 {
			return e
		}
	}
	return charmap.Windows1252
}

// wide recognises UTF-16 without a mark: every second byte of most scripts' text is the same, mostly 0.
func wide(content []byte) encoding.Encoding {
	sample := content[:min(len(content), 1<<12)&^1]
	var zeros [2]int
	for i, c := range sample {
		if c == 0 {
			zeros[i&1]++
		}
	}
	half := len(sample) / 2
	switch {
	case half > 0 && zeros[1] > half/2 && zeros[0] <= half/50:
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case half > 0 && zeros[0] > half/2 && zeros[1] <= half/50:
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	}
	return nil
}

// mostlyUTF8 recognises UTF-8 with a few bad bytes, which no other encoding would read better.
func mostlyUTF8(content []byte) bool {
	good, bad := 0, 0
	for len(content) > 0 {
		r, size := utf8.DecodeRune(content)
		switch {
		case r == utf8.RuneError && size == 1:
			bad++
		case size > 1:
			good++
		}
		content = content[size:]
	}
	return good > 3*bad
}

// isBinary reports data that is no text: NULs, or more control characters than a log file or a page break explains.
func isBinary(body []byte) bool {
	control := 0
	for _, c := range body {
		switch {
		case c == 0:
			return true
		case c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b, c == 0x7f:
			control++
		}
	}
	return control > 2+len(body)/100
}
