package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const maxRedirects = 10

var errRedirect = errors.New("redirect refused")

// ask sends the request for what is missing.
func (d *download) ask(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // positions count bytes of the file
	version, ok := d.origin()
	if !ok {
		if err := d.restart(nil); err != nil {
			return nil, err
		}
	}
	if have := size(d.part); have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		if version != "" {
			req.Header.Set("If-Range", version)
		}
	}
	if d.onHub && d.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+d.config.Token)
	}
	client := *d.config.Client
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
		}
		if r.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
			return fmt.Errorf("%w: from https to %s", errRedirect, r.URL.Scheme)
		}
		if r.URL.Host != via[0].URL.Host {
			r.Header.Del("Authorization") // the token is for the hub alone
		}
		d.learn(r.Response)
		return nil
	}
	res, err := client.Do(req)
	if err == nil {
		d.learn(res)
	}
	return res, err
}

// learn takes the checksum that the hub says a file has, where nobody else told.
func (d *download) learn(res *http.Response) {
	if !d.onHub || d.sum != "" || res == nil || res.Request == nil || !strings.HasPrefix(res.Request.URL.String(), d.config.Endpoint+"/") {
		return
	}
	if sum := strings.Trim(res.Header.Get("X-Linked-Etag"), `"`); isChecksum(sum) {
		d.sum = sum
	}
}

// begin reads the head of an answer and puts the file where the body goes on: after have bytes of total, which is -1 when
// unknown. Nothing is missing when they are equal.
func (d *download) begin(res *http.Response) (have, total int64, err error) {
	have = size(d.part)
	from, total := contentRange(res.Header.Get("Content-Range"))
	switch {
	case res.StatusCode == http.StatusPartialContent && have > 0 && from == have:
	case res.StatusCode == http.StatusOK: // the whole file
		have, total = 0, res.ContentLength
		if err := d.restart(res); err != nil {
			return 0, 0, err
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0 && (total == have || total < 0 && d.sum != ""):
		d.progress(Progress{File: d.source.File, Done: have, Total: have})
		return have, have, nil // all of it came before; the checksum decides, where there is one
	case res.StatusCode == http.StatusPartialContent, res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		// It does not fit what is there: begin anew.
		if err := d.restart(nil); err != nil {
			return 0, 0, err
		}
		return 0, 0, fmt.Errorf("%w: %w: %s, which does not fit the %d bytes that are there", ErrDownload, errTransient, res.Status, have)
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return 0, 0, fmt.Errorf("%w: %s: %s", ErrDownload, res.Status, d.restricted())
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return 0, 0, fmt.Errorf("%w: %w: %s", ErrDownload, errTransient, res.Status)
	default:
		return 0, 0, fmt.Errorf("%w: %s for %s", ErrDownload, res.Status, d.url)
	}
	if d.sum != "" && d.source.Bytes > 0 && total >= 0 && total != d.source.Bytes {
		return 0, 0, fmt.Errorf("%w: the server has a file of %d bytes, expected are %d", ErrChecksum, total, d.source.Bytes)
	}
	_, err = d.part.Seek(have, io.SeekStart)
	return have, total, err
}

// restricted says why the server may have refused.
func (d *download) restricted() string {
	switch {
	case !d.onHub:
		return "access is restricted"
	case d.config.Token == "":
		return "there is no such repository, or access is restricted: set HF_TOKEN to a token that may read it"
	}
	return "there is no such repository, or the token in HF_TOKEN may not read it"
}

// contentRange reads "bytes 5-9/10" and "bytes */10"; what is not told is -1.
func contentRange(header string) (from, total int64) {
	span, whole, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	begin, _, _ := strings.Cut(span, "-")
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	return number(begin), number(whole)
}
