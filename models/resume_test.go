package models

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
)

func TestPullGoesOn(t *testing.T) {
	const piece = 100000
	whole := fmt.Sprint(len(model))
	for name, c := range map[string]struct {
		answer func(n int, w http.ResponseWriter, r *http.Request) bool
		part   []byte // of an earlier pull
		ranges []string
	}{
		"after a cut connection": {func(n int, w http.ResponseWriter, _ *http.Request) bool { return n == 1 && cut(w, piece) }, nil, []string{"", "bytes=100000-"}},
		"on a server without ranges": {func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				return cut(w, piece)
			}
			_, _ = w.Write(model)
			return true
		}, nil, []string{"", "bytes=100000-"}},
		"when the server is ill for a while": {func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 4 {
				w.WriteHeader([]int{500, 429, 503}[n-1])
			}
			return n < 4
		}, nil, []string{"", "", "", ""}},
		"from yesterday":                {nil, model[:piece], []string{"bytes=100000-"}},
		"when all of it came yesterday": {nil, model, []string{"bytes=" + whole + "-"}},
		"when too much came yesterday":  {nil, append(slices.Clone(model), 1), []string{"bytes=" + fmt.Sprint(len(model)+1) + "-", ""}},
		"when another piece is given": {func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				w.Header().Set("Content-Range", "bytes 7-9/"+whole)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "abc")
			}
			return n == 1
		}, model[:piece], []string{"bytes=100000-", ""}},
		"when pieces are small": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			var from int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			to := min(from+piece, len(model))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(model)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(model[from:to])
			return true
		}, model[:1], []string{"bytes=1-", "bytes=100001-", "bytes=200001-", "bytes=300001-"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, c.answer)
			l := library(t, Config{})
			if c.part != nil {
				write(t, l.path("m.gguf.part"), c.part)
			}
			done := int64(0)
			m, err := l.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), func(p Progress) { done = p.Done })
			must(t, err)
			wantFile(t, m.Path, model)
			wantFiles(t, l.config.Dir, "m.gguf")
			if got := o.ranges(); !slices.Equal(got, c.ranges) {
				t.Errorf("asked for %q, want %q", got, c.ranges)
			}
			if done != int64(len(model)) {
				t.Errorf("progress ended at %d", done)
			}
		})
	}
}

// Without a checksum the rest of a file is taken only from the same version at the same place.
func TestPullGoesOnWithTheSameVersion(t *testing.T) {
	other := append([]byte("GGUF"), bytes.Repeat([]byte("fedcba9876543210"), 20000)...)
	for name, c := range map[string]struct {
		later func(o *origin)
		path  string
		want  []byte
		sent  string // If-Range
		asked string // Range
	}{
		"same version":             {func(*origin) {}, "/m.gguf", model, `"v1"`, "bytes=5000-"},
		"new version":              {func(o *origin) { o.data, o.etag = other, `"v2"` }, "/m.gguf", other, `"v1"`, "bytes=5000-"},
		"another place, same name": {func(o *origin) { o.data, o.etag = other, "" }, "/elsewhere/m.gguf", other, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			o := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					w.Header().Set("ETag", `"v1"`)
					return cut(w, 5000)
				}
				if n == 2 {
					cancel() // the end of the first process
					<-r.Context().Done()
				}
				return n == 2
			})
			o.etag = `"v1"`
			l := library(t, Config{})
			_, err := l.Pull(ctx, o.URL+"/m.gguf", "", nil)
			wantError(t, err, context.Canceled)
			wantFiles(t, l.config.Dir, "m.gguf.part", "m.gguf.part.from")
			c.later(o)
			m, err := l.Pull(t.Context(), o.URL+c.path, "", nil)
			must(t, err)
			wantFile(t, m.Path, c.want)
			wantFiles(t, l.config.Dir, "m.gguf")
			if h := o.requests[2]; h.Get("If-Range") != c.sent || h.Get("Range") != c.asked {
				t.Errorf("asked for %q if it is %q", h.Get("Range"), h.Get("If-Range"))
			}
		})
	}
}

// A pull that is stopped while it checks what came keeps it for the next time.
func TestPullStoppedWhileChecking(t *testing.T) {
	o := serve(t, nil)
	l := library(t, Config{})
	ctx, stop := context.WithCancel(t.Context())
	_, err := l.Pull(ctx, o.URL+"/m.gguf", sumOf(model), func(p Progress) {
		if p.Step == Checking {
			stop()
		}
	})
	wantError(t, err, context.Canceled)
	wantFile(t, l.path("m.gguf.part"), model)
	_, err = l.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), nil)
	must(t, err)
	wantFiles(t, l.config.Dir, "m.gguf")
}
