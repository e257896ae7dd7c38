package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPullURL(t *testing.T) {
	o := serve(t, nil)
	l := library(t, Config{Token: "secret"})
	var seen []Progress
	m, err := l.Pull(t.Context(), o.URL+"/some/folder/Model.Q4.gguf?download=true", strings.ToUpper(sumOf(model)), func(p Progress) { seen = append(seen, p) })
	must(t, err)
	if m.Name != "Model.Q4" || m.Path != l.path("Model.Q4.gguf") || m.Bytes != int64(len(model)) || m.Entry != nil {
		t.Errorf("got %+v", m)
	}
	wantFile(t, m.Path, model)
	wantFiles(t, l.config.Dir, "Model.Q4.gguf")
	for i, p := range seen {
		if p.File != "Model.Q4.gguf" || p.Total != int64(len(model)) || i > 0 && p.Step == seen[i-1].Step && p.Done <= seen[i-1].Done {
			t.Errorf("progress %d: %+v", i, p)
		}
	}
	if last := len(seen) - 1; last < 1 || seen[0].Step != Fetching || seen[last].Step != Checking || seen[last].Done != int64(len(model)) {
		t.Errorf("progress %+v", seen)
	}
	if h := o.requests[0]; h.Get("Authorization") != "" {
		t.Error("the hub's token went to another server")
	}

	// What is there is not fetched again, but held against a checksum that is given.
	again, err := l.Pull(t.Context(), o.URL+"/Model.Q4.gguf", "", nil)
	must(t, err)
	_, err = l.Pull(t.Context(), o.URL+"/Model.Q4.gguf", sumOf(nil), nil)
	wantError(t, err, ErrChecksum, "there already", l.path("Model.Q4.gguf"))
	wantFile(t, m.Path, model)
	if again != m || len(o.requests) != 1 {
		t.Errorf("%d requests, then %+v", len(o.requests), again)
	}
}

func TestPullNames(t *testing.T) {
	l := library(t, Config{})
	for name, words := range map[string][]string{
		"nothing-known":                      {"nothing-known", "smollm2-135m", "hf:owner/repository/file.gguf"},
		"hf:owner/file.gguf":                 {"hf:owner/repository/file.gguf"},
		"hf:/repository/file.gguf":           {"hf:owner/repository/file.gguf"},
		"ftp://example.invalid/x.gguf":       {"ftp://example.invalid/x.gguf"},
		"http:///x.gguf":                     {"http:///x.gguf"},
		"http://example.invalid/x.bin":       {"does not name a .gguf file"},
		"http://example.invalid/":            {"does not name a .gguf file"},
		"http://example.invalid/.gguf":       {"does not name a .gguf file"},
		`http://example.invalid/..%5Cx.gguf`: {"does not name a .gguf file"},
		"hf:owner/repository/model.bin":      {"does not name a .gguf file"},
	} {
		_, err := l.Pull(t.Context(), name, "", nil)
		wantText(t, err, words...)
	}
	_, err := l.Pull(t.Context(), "http://example.invalid/x.gguf", "abc", nil)
	wantText(t, err, `"abc"`, "64 hexadecimal digits")
	_, err = l.Pull(t.Context(), "smollm2-135m", sumOf(nil), nil)
	wantText(t, err, "smollm2-135m", "checksum")
	if _, err := os.Stat(l.config.Dir); err == nil {
		t.Error("a refused name left a folder")
	}
}

func TestPullFromTheHub(t *testing.T) {
	const name = "hf:owner/repo/sub/a b.gguf"
	var hub *origin
	linked := sumOf(model)
	storage := serve(t, nil)
	hub = serve(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/mirror/owner/repo/resolve/main/sub/a b.gguf" {
			http.NotFound(w, r)
			return true
		}
		w.Header().Set("X-Linked-Etag", `"`+linked+`"`)
		http.Redirect(w, r, storage.URL+"/blob", http.StatusFound)
		return true
	})
	l := library(t, Config{Endpoint: hub.URL + "/mirror/", Token: "secret"})
	m, err := l.Pull(t.Context(), name, "", nil)
	must(t, err)
	wantFile(t, m.Path, model)
	wantFiles(t, l.config.Dir, "a b.gguf")
	if got := hub.requests[0].Get("Authorization"); got != "Bearer secret" {
		t.Errorf("the hub was told %q", got)
	}
	if got := storage.requests[0].Get("Authorization"); got != "" {
		t.Errorf("the storage was told %q", got)
	}

	// The hub's own checksum holds where nobody gave one; the storage's word for it does not.
	linked = sumOf([]byte("another"))
	l = library(t, Config{Endpoint: hub.URL + "/mirror"})
	_, err = l.Pull(t.Context(), name, "", nil)
	wantError(t, err, ErrChecksum, linked, "removed")
	wantFiles(t, l.config.Dir)
	if got := hub.requests[1].Get("Authorization"); got != "" {
		t.Errorf("without a token the hub was told %q", got)
	}
}

// A model of the catalogue comes from the endpoint that stands for the hub.
func TestPullFromTheCatalogue(t *testing.T) {
	var asked string
	o := serve(t, func(_ int, _ http.ResponseWriter, r *http.Request) bool { asked = r.URL.Path; return false })
	l := library(t, Config{Endpoint: o.URL})
	e := &l.catalogue[0]
	e.Sources = []Source{{File: e.File, URL: hub + "/owner/repo/resolve/main/x.gguf", SHA256: sumOf(model), Bytes: int64(len(model))}}
	m, err := l.Pull(t.Context(), e.Aliases[0], "", nil)
	must(t, err)
	if m.Name != e.Name || m.Entry == nil || m.Entry.Name != e.Name || asked != "/owner/repo/resolve/main/x.gguf" {
		t.Errorf("got %+v from %s", m, asked)
	}
}

// An imported model is made from its sources; those that are there are not fetched again, also without a checksum.
func TestPullAndImport(t *testing.T) {
	dir := tinyBert().write(t)
	files := http.FileServer(http.Dir(dir))
	o := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) bool { files.ServeHTTP(w, r); return true })
	l := library(t, Config{})
	e := Entry{Name: "tiny", File: "tiny.f16.gguf", Import: "tiny"}
	for i, name := range []string{"config.json", "vocab.txt", "model.safetensors"} {
		s := Source{File: "tiny/" + name, URL: o.URL + "/" + name}
		if i > 0 {
			s.SHA256 = sumOf(contents(t, filepath.Join(dir, name)))
		}
		e.Sources = append(e.Sources, s)
	}
	l.catalogue = append(l.catalogue, e)
	write(t, l.path("tiny/config.json"), contents(t, filepath.Join(dir, "config.json")))
	write(t, l.path("tiny/vocab.txt"), []byte("of yesterday"))
	_, err := l.Resolve(t.Context(), "tiny", nil)
	wantError(t, err, ErrChecksum, "vocab.txt")
	m, err := l.Pull(t.Context(), "tiny", "", nil)
	must(t, err)
	if len(o.requests) != 2 {
		t.Errorf("%d requests, want one for vocab.txt and one for the weights", len(o.requests))
	}
	wantFiles(t, l.config.Dir, "tiny/config.json", "tiny/model.safetensors", "tiny/vocab.txt", "tiny.f16.gguf")
	must(t, os.Remove(m.Path))
	again, err := l.Resolve(t.Context(), "TINY", nil) // made once more, from what is there
	must(t, err)
	if again.Name != "tiny" || again.Bytes != m.Bytes || again.Entry.Import != "tiny" {
		t.Errorf("resolved %+v", again)
	}
	if removed, err := l.Remove("tiny"); err != nil || removed.Path != m.Path {
		t.Errorf("removed %+v: %v", removed, err)
	}
	wantFiles(t, l.config.Dir)
}

// With its size known, a file that came whole is not asked for at all.
func TestPullNeedsNoServerForWhatCame(t *testing.T) {
	l := library(t, Config{})
	e := &l.catalogue[0]
	e.Sources = []Source{{File: e.File, URL: "http://127.0.0.1:1/" + e.File, SHA256: sumOf(model), Bytes: int64(len(model))}}
	write(t, l.path(e.File+".part"), model)
	done := int64(0)
	m, err := l.Pull(t.Context(), e.Name, "", func(p Progress) { done = p.Done })
	must(t, err)
	wantFile(t, m.Path, model)
	if done != int64(len(model)) {
		t.Errorf("progress ended at %d", done)
	}
}

func TestPullFails(t *testing.T) {
	status := func(code int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	for name, c := range map[string]struct {
		answer   func(n int, w http.ResponseWriter, r *http.Request) bool
		sum      string
		kind     error
		words    []string
		requests int
		left     []string
	}{
		"not found":            {status(404), "", ErrDownload, []string{"m.gguf", "404"}, 1, nil},
		"gone":                 {status(410), "", ErrDownload, []string{"410"}, 1, nil},
		"restricted":           {status(401), "", ErrDownload, []string{"401", "HF_TOKEN"}, 1, nil},
		"forbidden":            {status(403), "", ErrDownload, []string{"403", "HF_TOKEN"}, 1, nil},
		"the server stays ill": {status(502), "", ErrDownload, []string{"502"}, maxTries, nil},
		"a range of nothing":   {status(416), "", ErrDownload, []string{"416"}, 1, nil},
		"another file":         {nil, sumOf([]byte("x")), ErrChecksum, []string{"m.gguf", sumOf(model), sumOf([]byte("x")), "it was removed"}, 1, nil},
		"a page instead of a model": {func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, "<html>log in first</html>")
			return true
		}, "", ErrInvalidFile, []string{"not GGUF", `"<htm"`, "it was removed"}, 1, nil},
		"an empty file":                         {func(_ int, w http.ResponseWriter, _ *http.Request) bool { return true }, "", ErrInvalidFile, []string{"not GGUF"}, 1, nil},
		"cut at the same place again and again": {func(_ int, w http.ResponseWriter, _ *http.Request) bool { return cut(w, 1000) }, "", ErrDownload, []string{"1000"}, maxTries, []string{"m.gguf.part", "m.gguf.part.from"}},
		"round in circles": {func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, "", ErrDownload, []string{"redirect refused", "10"}, maxRedirects + 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, c.answer)
			l := library(t, Config{Endpoint: o.URL})
			_, err := l.Pull(t.Context(), o.URL+"/m.gguf", c.sum, nil)
			wantError(t, err, c.kind, c.words...)
			wantFiles(t, l.config.Dir, c.left...)
			if len(o.requests) != c.requests {
				t.Errorf("%d requests, want %d", len(o.requests), c.requests)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		o := serve(t, nil)
		o.Close()
		l := library(t, Config{})
		_, err := l.Pull(t.Context(), o.URL+"/m.gguf", "", nil)
		wantError(t, err, ErrDownload, "m.gguf")
		wantFiles(t, l.config.Dir)
	})
	t.Run("another size than the catalogue's", func(t *testing.T) {
		o := serve(t, nil)
		l := library(t, Config{})
		e := &l.catalogue[0]
		e.Sources = []Source{{File: e.File, URL: o.URL, SHA256: sumOf(model), Bytes: 7}}
		_, err := l.Pull(t.Context(), e.Name, "", nil)
		wantError(t, err, ErrChecksum, fmt.Sprint(len(model)), "7")
		wantFiles(t, l.config.Dir)
	})
}

func TestPullRefusesPlainRedirect(t *testing.T) {
	plain := serve(t, nil)
	safe := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/m.gguf", http.StatusFound)
	}))
	defer safe.Close()
	l := library(t, Config{Client: safe.Client()})
	_, err := l.Pull(t.Context(), safe.URL+"/m.gguf", "", nil)
	wantError(t, err, ErrDownload, "from https to http")
	if len(plain.requests) != 0 {
		t.Error("the plain server was asked")
	}
	wantFiles(t, l.config.Dir)
}

func TestPullIsCancelled(t *testing.T) {
	o := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(model)))
			_, _ = w.Write(model[:70000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		return n == 1
	})
	l := library(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := l.Pull(ctx, o.URL+"/m.gguf", sumOf(model), func(p Progress) {
		if p.Done == 70000 {
			wantFiles(t, l.config.Dir, "m.gguf.part") // nothing has the final name before it is whole
			cancel()
		}
	})
	wantError(t, err, context.Canceled, "m.gguf")
	wantFiles(t, l.config.Dir, "m.gguf.part")
	m, err := l.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), nil)
	must(t, err)
	wantFile(t, m.Path, model)
	if got := o.ranges(); !slices.Equal(got, []string{"", "bytes=70000-"}) {
		t.Errorf("asked for %q", got)
	}

	l = library(t, Config{}) // while waiting for the next try
	l.pause = time.Hour
	ctx, cancel = context.WithCancel(t.Context())
	ill := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = l.Pull(ctx, ill.URL+"/m.gguf", "", nil)
	wantError(t, err, context.Canceled)
}

func TestPullLeavesAStalledConnection(t *testing.T) {
	o := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n < 3 {
			w.Header().Set("Content-Length", fmt.Sprint(len(model)))
			_, _ = w.Write(model[:1000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // and nothing more
		}
		return n < 3
	})
	l := library(t, Config{})
	l.stall = 100 * time.Millisecond
	m, err := l.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), nil)
	must(t, err)
	wantFile(t, m.Path, model)

	silent := serve(t, func(_ int, _ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	_, err = l.Pull(t.Context(), silent.URL+"/n.gguf", "", nil)
	wantError(t, err, ErrDownload, "stopped sending")
	wantFiles(t, l.config.Dir, "m.gguf")
}

func TestTwoPullsAtOnce(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	o := serve(t, func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			close(began)
			<-goOn
		}
		return false
	})
	l := library(t, Config{})
	first := make(chan error, 1)
	go func() {
		_, err := l.Pull(context.Background(), o.URL+"/m.gguf", sumOf(model), nil)
		first <- err
	}()
	<-began
	other := library(t, Config{Dir: l.config.Dir}) // as in another process
	_, err := other.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), nil)
	close(goOn)
	must(t, <-first)
	wantError(t, err, ErrBusy, "m.gguf", "fetched already")
	wantFile(t, l.path("m.gguf"), model)
	wantFiles(t, l.config.Dir, "m.gguf")

	// Whoever comes at any moment gets the whole file or is told that another fetches it.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				m, err := l.Pull(context.Background(), o.URL+"/n.gguf", sumOf(model), nil)
				if err == nil {
					err = verify(t.Context(), m.Path, sumOf(model), heard(nil))
				}
				if err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantFiles(t, l.config.Dir, "m.gguf", "n.gguf")
}

func TestPullToAFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	o := serve(t, nil)
	l := library(t, Config{})
	must(t, os.MkdirAll(l.config.Dir, 0o755))
	must(t, os.Symlink("/dev/full", l.path("m.gguf.part")))
	_, err := l.Pull(t.Context(), o.URL+"/m.gguf", sumOf(model), nil)
	wantError(t, err, syscall.ENOSPC, "m.gguf", "no space left")
	if len(o.requests) != 1 {
		t.Errorf("%d requests: a full disk is not the server's fault", len(o.requests))
	}
	write(t, filepath.Join(l.config.Dir, "file"), nil)
	l.config.Dir = l.path("file")
	_, err = l.Pull(t.Context(), o.URL+"/m.gguf", "", nil)
	wantError(t, err, syscall.ENOTDIR)
}
