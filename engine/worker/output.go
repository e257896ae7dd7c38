package worker

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/rs/zerolog"
)

// output passes on what a child writes, line by line: lines of its log as they are, anything else as a warning.
type output struct {
	log zerolog.Logger

	mu    sync.Mutex
	rest  []byte
	first string // line that was not of the log: mostly what the child died of
}

// lineLimit is the longest line; a longer one comes in pieces.
const lineLimit = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, p...)
	for {
		end := bytes.IndexByte(o.rest, '\n')
		if end < 0 && len(o.rest) < lineLimit {
			return len(p), nil
		}
		line := o.rest
		if o.rest = nil; end >= 0 {
			line, o.rest = line[:end], line[end+1:]
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			o.pass(line)
		}
	}
}

func (o *output) pass(line []byte) {
	var fields map[string]any
	if line[0] == '{' && json.Unmarshal(line, &fields) == nil {
		level, _ := fields[zerolog.LevelFieldName].(string)
		message, _ := fields[zerolog.MessageFieldName].(string)
		for _, name := range []string{zerolog.LevelFieldName, zerolog.MessageFieldName, zerolog.TimestampFieldName} {
			delete(fields, name)
		}
		l, err := zerolog.ParseLevel(level)
		if err != nil {
			l = zerolog.WarnLevel
		}
		o.log.WithLevel(l).Fields(fields).Msg(message)
		return
	}
	if o.first == "" {
		o.first = string(line[:min(len(line), 500)])
	}
	o.log.Warn().Msg(string(line))
}

// said is the first line that was not of the log: what follows it is mostly a trace.
func (o *output) said() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first
}
