package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Progress of a pull, in bytes of the file being fetched. Total is -1 while unknown.
type Progress struct {
	File        string
	Done, Total int64
}

// Pull makes a model available: a name of the catalogue, hf:owner/repository/file.gguf on the hub, or an http(s) URL of a GGUF
// file, for which sum may hold the expected sha256. What is there already is not fetched again; what was cut off goes on where
// it stopped. progress may be nil; it is called from one goroutine.
func (l *Library) Pull(ctx context.Context, name, sum string, progress func(Progress)) (Installed, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	e, known := l.Find(name)
	if !known {
		source, err := l.remote(name, sum)
		if err != nil {
			return Installed{}, err
		}
		e = Entry{Name: strings.TrimSuffix(source.File, ".gguf"), File: source.File, Sources: []Source{source}}
	}
	target := filepath.Join(l.config.Dir, e.File)
	if _, err := os.Stat(target); err != nil {
		for _, s := range e.Sources {
			if err := l.fetch(ctx, s, progress); err != nil {
				return Installed{}, err
			}
		}
		if e.Import != "" {
			if err := l.build(ctx, e, nil); err != nil {
				return Installed{}, err
			}
		}
	}
	info, err := os.Stat(target)
	if err != nil {
		return Installed{}, err
	}
	m := Installed{Name: e.Name, Path: target, Bytes: info.Size()}
	if known {
		m.Entry = &e
	}
	return m, nil
}

// remote is the source that a hub name or a URL means.
func (l *Library) remote(name, sum string) (Source, error) {
	address := name
	if rest, ok := strings.CutPrefix(name, "hf:"); ok {
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) != 3 {
			return Source{}, fmt.Errorf("%q: write hf:owner/repository/file.gguf", name)
		}
		address = hub + "/" + parts[0] + "/" + parts[1] + "/resolve/main/" + parts[2]
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		var known []string
		for _, e := range l.catalogue {
			known = append(known, e.Name)
		}
		return Source{}, &UnknownError{Name: name, Known: known}
	}
	file := path.Base(u.Path)
	if !strings.EqualFold(path.Ext(file), ".gguf") || strings.HasPrefix(file, ".") {
		return Source{}, fmt.Errorf("%q does not name a .gguf file", name)
	}
	return Source{File: file, URL: address, SHA256: strings.ToLower(sum)}, nil
}

const (
	maxRedirects = 10
	maxTries     = 5
)

// fetch gets one file: into FILE.part, checked, then renamed.
func (l *Library) fetch(ctx context.Context, s Source, progress func(Progress)) error {
	target := filepath.Join(l.config.Dir, filepath.FromSlash(s.File))
	if verify(target, s.SHA256) == nil && s.SHA256 != "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	part, err := os.OpenFile(target+".part", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer part.Close()
	if err := lock(part); err != nil {
		return fmt.Errorf("%s is being fetched by another process: %w", s.File, err)
	}
	for try := 1; ; try++ {
		before := size(part)
		err := l.transfer(ctx, s, part, progress)
		if err == nil {
			break
		}
		if size(part) > before {
			try = 1 // it moves: go on
		}
		if !errors.Is(err, errTransient) || try >= maxTries {
			return fmt.Errorf("%s: %w", s.File, err)
		}
		select {
		case <-time.After(time.Duration(try*try) * 200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.SHA256 != "" {
		if err := verify(part.Name(), s.SHA256); err != nil {
			os.Remove(part.Name())
			return err
		}
	}
	if err := part.Sync(); err != nil {
		return err
	}
	return os.Rename(part.Name(), target)
}

// errTransient marks failures that are worth another try.
var errTransient = errors.New("the connection failed")

// transfer asks for what is missing of a file and appends it.
func (l *Library) transfer(ctx context.Context, s Source, part *os.File, progress func(Progress)) error {
	have := size(part)
	address := s.URL
	onHub := strings.HasPrefix(address, hub+"/")
	if onHub {
		address = l.config.Endpoint + strings.TrimPrefix(address, hub)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	if onHub && l.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.config.Token)
	}
	client := *l.config.Client
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		if r.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
			return errors.New("redirected from https to http")
		}
		if r.URL.Host != via[0].URL.Host {
			r.Header.Del("Authorization") // the token is for the hub alone
		}
		return nil
	}
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w: %w", ErrDownload, errTransient, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusPartialContent && have > 0:
	case res.StatusCode == http.StatusOK:
		have = 0 // the server gives the whole file
		if err := part.Truncate(0); err != nil {
			return err
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return nil // nothing is missing; the checksum decides
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s: access is restricted; set HF_TOKEN to a token that may read it", ErrDownload, res.Status)
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return fmt.Errorf("%w: %w: %s", ErrDownload, errTransient, res.Status)
	default:
		return fmt.Errorf("%w: %s for %s", ErrDownload, res.Status, s.URL)
	}
	total := int64(-1)
	if res.ContentLength >= 0 {
		total = have + res.ContentLength
	}
	if _, err := part.Seek(have, io.SeekStart); err != nil {
		return err
	}
	buffer := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buffer)
		if n > 0 {
			if _, err := part.Write(buffer[:n]); err != nil {
				return err
			}
			have += int64(n)
			progress(Progress{File: s.File, Done: have, Total: total})
		}
		switch {
		case errors.Is(err, io.EOF) && (total < 0 || have == total):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w after %d of %d bytes: %w", ErrDownload, errTransient, have, total, err)
		}
	}
}

func size(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// verify checks a file's sha256; without one, that the file is there.
func verify(path, sum string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if sum == "" {
		return nil
	}
	got, err := checksum(f)
	if err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("%s: %w: it has sha256 %s, expected %s", path, ErrChecksum, got, sum)
	}
	return nil
}

func checksum(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Checksum is the sha256 of a model file, in hexadecimal. It is kept beside the file, for as long as its size and time stay
// the same.
func (l *Library) Checksum(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	stamp := fmt.Sprintf("%d %d ", info.Size(), info.ModTime().UnixNano())
	note := filepath.Join(l.config.Dir, ".sums", filepath.Base(path))
	if kept, err := os.ReadFile(note); err == nil && strings.HasPrefix(string(kept), stamp) {
		return strings.TrimPrefix(string(kept), stamp), nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := checksum(f)
	if err != nil {
		return "", err
	}
	// A folder that can't be written costs the next start a second, no more.
	if os.MkdirAll(filepath.Dir(note), 0o755) == nil {
		_ = os.WriteFile(note, []byte(stamp+sum), 0o644)
	}
	return sum, nil
}
