package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// model is what the tests fetch: GGUF by its first bytes, and long enough to be cut in pieces.
var model = append([]byte("GGUF"), bytes.Repeat([]byte("0123456789abcdef"), 20000)...)

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// origin is a server of one file that can misbehave.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	requests []http.Header
	// answer replaces the n-th answer, counted from 1, when it returns true.
	answer func(n int, w http.ResponseWriter, r *http.Request) bool
	data   []byte
	etag   string
}

func serve(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request) bool) *origin {
	t.Helper()
	o := &origin{answer: answer, data: model}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r.Header.Clone())
	n, data, etag := len(o.requests), o.data, o.etag
	o.mu.Unlock()
	if o.answer != nil && o.answer(n, w, r) {
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// ranges are the Range headers of the requests so far.
func (o *origin) ranges() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, h := range o.requests {
		out = append(out, h.Get("Range"))
	}
	return out
}

// cut sends the file until n bytes of it are out, then cuts the connection.
func cut(w http.ResponseWriter, n int) bool {
	w.Header().Set("Content-Length", fmt.Sprint(len(model)))
	_, _ = w.Write(model[:n])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// library is one in a folder of its own that does not wait between tries.
func library(t *testing.T, c Config) *Library {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "models")
	}
	if c.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(transport.CloseIdleConnections)
		c.Client = &http.Client{Transport: transport}
	}
	l, err := New(c)
	must(t, err)
	l.pause = time.Millisecond
	return l
}

func (l *Library) path(name string) string { return filepath.Join(l.config.Dir, name) }
