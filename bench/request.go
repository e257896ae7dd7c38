package bench

import "encoding/json"

// request is what a client sends.
type request struct {
	group    string // of calls that are reported together
	path     string
	body     []byte
	stream   bool // the answer is a stream of a chat's chunks, else embeddings
	passages int  // to embed
	cutAfter int  // cancel after so many deltas; 0 is never
	schema   bool // what comes must be a JSON object
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// chat is the body of a chat request. Unknown fields are errors to some servers, so nothing is sent that isn't needed.
type chat struct {
	Model          string          `json:"model,omitempty"`
	Messages       []message       `json:"messages"`
	Documents      []passage       `json:"documents,omitempty"`
	Stream         bool            `json:"stream"`
	StreamOptions  map[string]bool `json:"stream_options"`
	Temperature    float64         `json:"temperature"`
	MaxTokens      int             `json:"max_tokens"`
	IgnoreEOS      bool            `json:"ignore_eos,omitempty"`
	ResponseFormat any             `json:"response_format,omitempty"`
}

// chat completes the body of a chat and encodes it.
func (c Config) chat(group string, b chat) request {
	b.Model, b.Stream, b.StreamOptions = c.Model, true, map[string]bool{"include_usage": true}
	b.IgnoreEOS = b.IgnoreEOS && !c.NoIgnoreEOS
	return request{group: group, path: "/chat/completions", body: encode(b), stream: true, schema: b.ResponseFormat != nil}
}

// embed asks for the vectors of texts.
func (c Config) embed(group string, texts []string) request {
	return request{group: group, path: "/embeddings", passages: len(texts), body: encode(struct {
		Model string   `json:"model,omitempty"`
		Input []string `json:"input"`
	}{c.Model, texts})}
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	return data
}
