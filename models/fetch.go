package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxTries is how often in a row nothing may come.
const maxTries = 5

var (
	// errTransient marks failures that are worth another try.
	errTransient = errors.New("it may work later")
	errStalled   = errors.New("the server stopped sending")
)

// download is a file on its way: into FILE.part, which is locked meanwhile and stays for the next time when the transfer is
// cut off.
type download struct {
	*Library
	source   Source
	url      string // of the source, on the endpoint that stands for the hub
	onHub    bool
	sum      string // of the source, or as the hub says
	part     *os.File
	progress func(Progress)
}

// fetch gets one file: into FILE.part, checked, then renamed.
func (l *Library) fetch(ctx context.Context, s Source, progress func(Progress)) (err error) {
	target := filepath.Join(l.config.Dir, filepath.FromSlash(s.File))
	if verify(ctx, target, s.SHA256, progress) == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	part, err := openPart(target + ".part")
	if err != nil {
		return err
	}
	defer part.Close()
	d := &download{Library: l, source: s, url: s.URL, sum: s.SHA256, part: part, progress: progress}
	defer func() {
		if err != nil && size(part) == 0 {
			d.discard()
		}
	}()
	if verify(ctx, target, s.SHA256, progress) == nil {
		d.discard() // another process has fetched it since
		return nil
	}
	if hosted, ok := strings.CutPrefix(s.URL, hub+"/"); ok {
		d.url = l.config.Endpoint + "/" + hosted
	}
	d.onHub = strings.HasPrefix(d.url, l.config.Endpoint+"/")
	if err := d.run(ctx); err != nil {
		return err
	}
	if err := d.check(ctx); err != nil {
		if ctx.Err() != nil {
			return err // what came is as good as before
		}
		d.discard()
		return fmt.Errorf("%w; it was removed", err)
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), target); err != nil {
		return err
	}
	os.Remove(d.originFile())
	return nil
}

// openPart opens and locks an unfinished file.
func openPart(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, err
		}
		// Between the opening and the lock, who had it before may have renamed or removed the file.
		opened, err := f.Stat()
		if there, now := os.Stat(path); err == nil && now == nil && os.SameFile(opened, there) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// run asks until the file is whole. It gives up when several tries in a row bring nothing.
func (d *download) run(ctx context.Context) error {
	for try := 1; ; try++ {
		before := size(d.part)
		if d.sum != "" && d.source.Bytes > 0 && before == d.source.Bytes {
			d.progress(Progress{Step: Fetching, File: d.source.File, Done: before, Total: before})
			return nil // all of it came before; the checksum decides
		}
		err := d.transfer(ctx)
		if err == nil {
			return nil
		}
		if size(d.part) > before {
			try = 1
		}
		if !errors.Is(err, errTransient) || try >= maxTries {
			return err
		}
		wait := time.NewTimer(time.Duration(try*try) * d.pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
	}
}

// transfer asks for what is missing of a file and appends it.
func (d *download) transfer(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watch := time.AfterFunc(d.stall, func() { cancel(errStalled) })
	defer watch.Stop()
	broken := func(err error) error {
		if parent.Err() != nil {
			return parent.Err()
		}
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		return fmt.Errorf("%w: %w: %w", ErrDownload, errTransient, err)
	}
	res, err := d.ask(ctx)
	if errors.Is(err, errRedirect) {
		return fmt.Errorf("%w: %w", ErrDownload, err)
	}
	if err != nil {
		return broken(err)
	}
	defer res.Body.Close()
	have, total, err := d.begin(res)
	if err != nil || total == have {
		return err
	}
	buffer := make([]byte, 256<<10)
	for {
		watch.Reset(d.stall)
		n, err := res.Body.Read(buffer)
		if n > 0 {
			if _, err := d.part.Write(buffer[:n]); err != nil {
				return err
			}
			have += int64(n)
			d.progress(Progress{Step: Fetching, File: d.source.File, Done: have, Total: total})
		}
		if errors.Is(err, io.EOF) && (total < 0 || have == total) {
			return nil
		}
		if err != nil {
			return broken(fmt.Errorf("after %d of %d bytes: %w", have, total, err))
		}
	}
}

// origin tells whether what is there is of this source, and the version of the file that the server is to give the rest of,
// if it still has it; a checksum makes both needless.
func (d *download) origin() (version string, ok bool) {
	if d.source.SHA256 != "" || size(d.part) == 0 {
		return "", true
	}
	note, err := os.ReadFile(d.originFile())
	url, version, _ := strings.Cut(string(note), "\n")
	if d.onHub {
		version = "" // the hub's checksum tells, and its mirrors have marks of their own
	}
	return version, err == nil && url == d.source.URL
}

// restart empties the unfinished file and notes which file the server is about to give.
func (d *download) restart(res *http.Response) error {
	os.Remove(d.originFile())
	if size(d.part) > 0 {
		if err := d.part.Truncate(0); err != nil {
			return err
		}
	}
	if res == nil || d.source.SHA256 != "" {
		return nil
	}
	version := res.Header.Get("ETag")
	if version == "" || strings.HasPrefix(version, "W/") { // If-Range needs a strong one
		version = res.Header.Get("Last-Modified")
	}
	return os.WriteFile(d.originFile(), []byte(d.source.URL+"\n"+version), 0o644)
}

// check decides whether what was received is what was asked for.
func (d *download) check(ctx context.Context) error {
	if _, err := d.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if d.sum == "" {
		magic := make([]byte, 4)
		if n, _ := io.ReadFull(d.part, magic); strings.EqualFold(filepath.Ext(d.source.File), ".gguf") && string(magic[:n]) != "GGUF" {
			return fmt.Errorf("%w: what the server gave is not GGUF: it begins with %q", ErrInvalidFile, magic[:n])
		}
		return nil
	}
	got, err := checksum(ctx, d.part, d.progress)
	if err != nil {
		return err
	}
	if got != d.sum {
		return fmt.Errorf("%w: it has sha256 %s, expected %s", ErrChecksum, got, d.sum)
	}
	return nil
}

// originFile holds the URL that the unfinished file came from and the server's mark of its version.
func (d *download) originFile() string { return d.part.Name() + ".from" }

func (d *download) discard() {
	os.Remove(d.part.Name())
	os.Remove(d.originFile())
}

func size(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
