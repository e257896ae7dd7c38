package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/quipu-ai/quipu/engine"
)

// Config names the server. Nothing but it is ever connected to.
type Config struct {
	URL   string // of its API, with or without /v1
	Key   string // sent as the bearer token; empty for none
	Model string // empty: the first that the server names
	// Context is the tokens of one request where the server doesn't say; 0 is 8,192.
	Context int
}

const defaultContext = 8192

// Upstream is a model of another server. Safe for concurrent use.
type Upstream struct {
	base   string // ends in /v1
	key    string
	client *http.Client
	info   engine.Info
	words  words

	mu     sync.Mutex
	closed bool
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	calls  sync.WaitGroup
}

var _ engine.Generator = (*Upstream)(nil)

// words are those of a server's own, beyond OpenAI's.
type words int

const (
	openAI words = iota
	llamaServer
	vLLM
)

// New asks the server for its models, to find the one named and what kind of server it is.
func New(ctx context.Context, c Config) (*Upstream, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("upstream: %q is no address of a server: use one such as http://127.0.0.1:8000/v1", redacted(u, c.URL))
	}
	if c.Context < 0 {
		return nil, errors.New("upstream: Context must not be negative")
	}
	base := strings.TrimRight(c.URL, "/")
	if !strings.HasSuffix(base, "/v1") {
		base += "/v1"
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	up := &Upstream{base: base, key: c.Key, client: &http.Client{Transport: transport}}
	up.ctx, up.stop = context.WithCancel(context.Background())
	if err := up.meet(ctx, c); err != nil {
		return nil, errors.Join(err, up.Close())
	}
	return up, nil
}

// redacted leaves a password out of an error.
func redacted(u *url.URL, raw string) string {
	if u != nil {
		return u.Redacted()
	}
	_, host, found := strings.Cut(raw, "@")
	if found {
		return host
	}
	return raw
}

// listed is a model in a server's list, with what vLLM and llama-server add.
type listed struct {
	ID          string `json:"id"`
	OwnedBy     string `json:"owned_by"`
	MaxModelLen int    `json:"max_model_len"`
	Meta        struct {
		ContextTrain int    `json:"n_ctx_train"`
		Parameters   uint64 `json:"n_params"`
		Size         uint64 `json:"size"`
	} `json:"meta"`
}

// meet finds the model and the kind of server.
func (u *Upstream) meet(ctx context.Context, c Config) error {
	var list struct {
		Data []listed `json:"data"`
	}
	if err := u.call(ctx, http.MethodGet, u.base+"/models", nil, &list); err != nil {
		return err
	}
	i := slices.IndexFunc(list.Data, func(m listed) bool { return c.Model == "" || m.ID == c.Model })
	if i < 0 {
		names := make([]string, len(list.Data))
		for i, m := range list.Data {
			names[i] = m.ID
		}
		return fmt.Errorf("upstream: %s has no model %q, but %s", u.base, c.Model, cmp.Or(strings.Join(names, ", "), "none"))
	}
	m := list.Data[i]
	u.info = engine.Info{Name: m.ID, Parameters: m.Meta.Parameters, SizeBytes: m.Meta.Size, ContextTrain: m.Meta.ContextTrain}
	u.info.Context = cmp.Or(m.MaxModelLen, c.Context, defaultContext)
	switch m.OwnedBy {
	case "vllm":
		u.words = vLLM
	case "llamacpp":
		u.words = llamaServer
		var props struct {
			Defaults struct {
				Context int `json:"n_ctx"`
			} `json:"default_generation_settings"`
		}
		if err := u.call(ctx, http.MethodGet, u.root()+"/props", nil, &props); err != nil {
			return err
		}
		u.info.Context = cmp.Or(props.Defaults.Context, u.info.Context)
	}
	return nil
}

// root is where what is not OpenAI's has its routes.
func (u *Upstream) root() string { return strings.TrimSuffix(u.base, "/v1") }

// Info describes the model as far as the server tells.
func (u *Upstream) Info() engine.Info { return u.info }

// Close ends what is under way with engine.ErrClosed. It may be called again.
func (u *Upstream) Close() error {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	u.stop()
	u.calls.Wait()
	u.client.CloseIdleConnections()
	return nil
}

// enter counts a call; its context ends with the Upstream too.
func (u *Upstream) enter(ctx context.Context) (context.Context, func(), error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, nil, engine.ErrClosed
	}
	u.calls.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(u.ctx, cancel)
	return ctx, func() {
		unhook()
		cancel()
		u.calls.Done()
	}, nil
}

// send makes a request and returns the body of a good answer.
func (u *Upstream) send(ctx context.Context, method, address string, question any, header http.Header) (io.ReadCloser, error) {
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return nil, &engine.FieldError{Field: "Request", Problem: err.Error()}
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	// Servers close connections that they kept, at times just when the next request is on its way, and then answer nothing of it. To
	// net/http this header, which is not sent, allows to send it again on another connection.
	r.Header["Idempotency-Key"] = nil
	if u.key != "" {
		r.Header.Set("Authorization", "Bearer "+u.key)
	}
	res, err := u.client.Do(r)
	if err != nil {
		return nil, u.failure(ctx, err)
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		return nil, u.refusal(ctx, res)
	}
	return res.Body, nil
}

// answerLimit bounds what is read of an answer that comes at once.
const answerLimit = 64 << 20

// call asks for an answer that comes at once.
func (u *Upstream) call(ctx context.Context, method, address string, question, answer any) error {
	outer := ctx
	ctx, leave, err := u.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	body, err := u.send(ctx, method, address, question, nil)
	if err == nil {
		defer body.Close()
		err = json.NewDecoder(io.LimitReader(body, answerLimit)).Decode(answer)
		if err != nil {
			err = u.failure(ctx, fmt.Errorf("%s: %w", address, err))
		}
	}
	return u.ended(outer, err)
}

// ended says why a call that failed had to: because its caller or the Upstream ended it, or for a reason of its own.
func (u *Upstream) ended(outer context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case u.ctx.Err() != nil:
		return engine.ErrClosed
	case outer.Err() != nil:
		return outer.Err()
	default:
		return err
	}
}

// Score is not to be had from such a server.
func (u *Upstream) Score(context.Context, []engine.ScoreAsk) ([]engine.Score, error) {
	return nil, fmt.Errorf("upstream: scores: %w", errors.ErrUnsupported)
}
