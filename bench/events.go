package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxEvent is far above any event of a chat.
const maxEvent = 4 << 20

var errLongEvent = fmt.Errorf("an event of the stream is longer than %d bytes", maxEvent)

// events reads server-sent events: lines may end with LF, CRLF or CR, data may have several lines, and comments and other
// fields are skipped.
type events struct {
	r      *bufio.Reader
	wasCR  bool // the last line ended with CR: an LF now belongs to it
	line   []byte
	length int
}

// next gives the data of the next event, valid until the next call. io.EOF is the end between two events.
func (e *events) next() ([]byte, error) {
	var data []byte
	some := false
	e.length = 0
	for {
		line, err := e.readLine()
		switch {
		case errors.Is(err, io.EOF) && (some || len(line) > 0):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case len(line) == 0 && some:
			return data, nil
		}
		// A field without a colon has an empty value.
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "data" {
			continue
		}
		if some {
			data = append(data, '\n')
		}
		data, some = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
	}
}

func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		b, err := e.r.ReadByte()
		if err != nil {
			return e.line, err
		}
		wasCR := e.wasCR
		e.wasCR = b == '\r'
		switch {
		case b == '\n' && wasCR:
		case b == '\n' || b == '\r':
			return e.line, nil
		default:
			e.line = append(e.line, b)
			if e.length++; e.length > maxEvent {
				return nil, errLongEvent
			}
		}
	}
}
