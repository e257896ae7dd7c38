package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
)

// What a server did wrong without an error of its own.
var (
	errNoFinish   = errors.New("the stream ended without a finish_reason")
	errNoTokens   = errors.New("the answer holds no tokens")
	errTimeout    = errors.New("no answer within the time limit")
	errNotJSON    = errors.New("the answer is not a JSON object")
	errNoVectors  = errors.New("not every text got a vector")
	errBadChunk   = errors.New("an event of the stream is not a chat's chunk")
	errCutStream  = errors.New("the stream broke off")
	errBadVectors = errors.New("the answer is not a list of embeddings")
)

// client sends requests to one server.
type client struct {
	http    *http.Client
	base    string
	key     string
	timeout time.Duration
}

func newClient(c Config, base string) *client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	// Every client keeps its connection; compression would hold tokens back.
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.DisableCompression = 0, c.Clients+1, true
	return &client{http: &http.Client{Transport: t}, base: base, key: c.Key, timeout: c.Timeout}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// call is one request as its client saw it.
type call struct {
	group    string
	start    time.Time
	first    time.Time // zero: no token came
	last     time.Time
	end      time.Time
	gaps     []time.Duration
	deltas   int
	prompt   int // tokens
	cached   int // of them
	output   int // tokens
	passages int
	finish   string
	cut      bool // by us, on purpose
	err      error

	connections int // that the request was sent on, one after the other
}

// send sends a request and waits for its end. A call that ended because ctx did is cut, not failed.
func (c *client) send(ctx context.Context, r request) call {
	limited, stop := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer stop()
	out := call{group: r.group, start: time.Now()}
	err := c.exchange(limited, r, &out)
	out.end = time.Now()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		out.cut = true
	case limited.Err() != nil:
		out.err = errTimeout
	default:
		out.err = plain(err)
	}
	if out.output == 0 { // the server doesn't count, or was cut
		out.output = out.deltas
	}
	return out
}

func (c *client) exchange(ctx context.Context, r request, out *call) (err error) {
	// A cut request is cancelled by the end of its context.
	ctx, stop := context.WithCancel(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { out.connections++ }}))
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	// llama-server closes connections that it kept, at times just when the next request is on its way. To net/http this
	// header, which is not sent, allows to send it again on another one, as the clients of OpenAI's own packages do.
	req.Header["Idempotency-Key"] = nil
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		if !out.cut { // a body that was read to its end leaves the connection for the next request
			_, _ = io.CopyN(io.Discard, res.Body, 1<<16)
		}
		res.Body.Close()
	}()
	if res.StatusCode != http.StatusOK {
		return refusal(res)
	}
	if !r.stream {
		return out.readVectors(res.Body, r.passages)
	}
	return out.readStream(res.Body, r)
}

// chunk is what we look at of a chat's chunk.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content          string          `json:"content"`
			ReasoningContent string          `json:"reasoning_content"`
			Reasoning        string          `json:"reasoning"`
			ToolCalls        json.RawMessage `json:"tool_calls"`
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		Details          struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

func (out *call) readStream(body io.Reader, r request) error {
	stream := events{r: bufio.NewReader(body)}
	var text strings.Builder
	for {
		data, err := stream.next()
		now := time.Now()
		if errors.Is(err, io.EOF) || string(data) == "[DONE]" {
			return out.check(r, text.String())
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCutStream, err)
		}
		var c chunk
		if err := json.Unmarshal(data, &c); err != nil {
			return errBadChunk
		}
		if len(c.Error) > 0 && string(c.Error) != "null" {
			return errors.New(said(data))
		}
		if c.Usage != nil {
			out.prompt, out.output, out.cached = c.Usage.PromptTokens, c.Usage.CompletionTokens, c.Usage.Details.CachedTokens
		}
		for _, choice := range c.Choices {
			if choice.FinishReason != "" {
				out.finish = choice.FinishReason
			}
			d := choice.Delta
			if d.Content == "" && d.ReasoningContent == "" && d.Reasoning == "" && (len(d.ToolCalls) == 0 || string(d.ToolCalls) == "null") {
				continue
			}
			out.token(now)
			if r.schema {
				text.WriteString(d.Content)
			}
			if r.cutAfter > 0 && out.deltas >= r.cutAfter {
				out.cut = true
				return nil
			}
		}
	}
}

// token notes a delta that holds some.
func (out *call) token(now time.Time) {
	if out.deltas == 0 {
		out.first = now
	} else {
		out.gaps = append(out.gaps, now.Sub(out.last))
	}
	out.deltas++
	out.last = now
}

// check looks at a stream that came to its end.
func (out *call) check(r request, text string) error {
	switch {
	case out.finish == "":
		return errNoFinish
	case out.deltas == 0:
		return errNoTokens
	case r.schema && out.finish == "stop":
		var object map[string]any
		if json.Unmarshal([]byte(text), &object) != nil {
			return errNotJSON
		}
	}
	return nil
}

func (out *call) readVectors(body io.Reader, n int) error {
	var list struct {
		Data []struct {
			Embedding json.RawMessage `json:"embedding"` // not looked into: that would cost the processor which the server uses
		} `json:"data"`
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		if errors.As(err, new(*json.SyntaxError)) || errors.As(err, new(*json.UnmarshalTypeError)) {
			return errBadVectors
		}
		return err
	}
	if len(list.Data) != n {
		return errNoVectors
	}
	for _, d := range list.Data {
		if len(d.Embedding) < len("[0]") {
			return errNoVectors
		}
	}
	out.prompt, out.passages = list.Usage.PromptTokens, n
	return nil
}

// refusal says what an error response says.
func refusal(res *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<14))
	return fmt.Errorf("%d: %s", res.StatusCode, said(body))
}

// said is the message of an OpenAI error, or the text as it is.
func said(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	text := string(body)
	if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
		text = e.Error.Message
	}
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 200 {
		text = string(r[:200]) + "…"
	}
	return text
}

// plain leaves out of an error of the network what differs between equal ones: addresses and ports.
func plain(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		err = e.Err
	}
	if e := new(net.OpError); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}
