package server_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/quipu-ai/quipu/server"
)

func TestGuard(t *testing.T) {
	f := newFixture(t)
	f.config.Hosts = []string{"Proxy.example"}
	f.config.Origins = []string{"https://App.example"}
	h := f.new(t).Handler()
	loopback, network := net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 7)
	for _, c := range []struct {
		name, host, origin string
		at                 net.IP
		allowed            bool
	}{
		{"a program", "127.0.0.1:8080", "", loopback, true},
		{"by name", "localhost:8080", "", loopback, true},
		{"IPv6", "[::1]:8080", "", loopback, true},
		{"IPv6 without a port", "[::1]", "", loopback, true},
		{"no host", "", "", loopback, true},
		{"a short name", "quipu", "", loopback, true},
		{"a name under localhost", "api.LOCALHOST:8080", "", loopback, true},
		{"a name of the network", "box.local", "", loopback, true},
		{"another address", "10.0.0.7", "", loopback, true},
		{"a rebound name", "evil.example:8080", "", loopback, false},
		{"a rebound name, and its page", "evil.example:8080", "http://evil.example:8080", loopback, false},
		{"a name that ends alike", "evil-localhost.example", "", loopback, false},
		{"the proxy", "proxy.example", "", loopback, true},
		{"the proxy in capitals", "PROXY.EXAMPLE:443", "", loopback, true},
		{"a name on the network", "quipu.example", "", network, true},
		{"our own page", "127.0.0.1:8080", "http://127.0.0.1:8080", loopback, true},
		{"a page of another port", "127.0.0.1:8080", "http://127.0.0.1:3000", loopback, false},
		{"a foreign page", "127.0.0.1:8080", "https://evil.example", loopback, false},
		{"a foreign page on the network", "quipu.example", "https://evil.example", network, false},
		{"a page from nowhere", "127.0.0.1:8080", "null", loopback, false},
		{"an origin that is none", "127.0.0.1:8080", "http://%zz", loopback, false},
		{"an allowed page", "127.0.0.1:8080", "https://app.example", loopback, true},
		{"an allowed page by another scheme", "127.0.0.1:8080", "http://app.example", loopback, false},
		{"an allowed page on a foreign host", "evil.example", "https://app.example", loopback, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/v1/models", nil)
			r.Host = c.host
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: c.at, Port: 8080})))
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if c.allowed {
				if w.Code != http.StatusOK {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			if code, _ := fault(t, w.Body.String()); w.Code != http.StatusForbidden || code != "origin_not_allowed" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("the page may read the refusal")
			}
		})
	}
}

// A page of an allowed origin can send JSON and read what comes back; its browser asks beforehand.
func TestAllowedOrigin(t *testing.T) {
	f := newFixture(t)
	f.config.Origins = []string{"https://app.example"}
	h := f.new(t).Handler()
	const app, evil = "https://app.example", "https://evil.example"
	for _, c := range []struct {
		name, method, path, origin string
		asks                       bool
		status                     int
		shared                     bool
	}{
		{"asking beforehand", http.MethodOptions, "/v1/chat/completions", app, true, 204, true},
		{"asking beforehand from elsewhere", http.MethodOptions, "/v1/chat/completions", evil, true, 403, false},
		{"asking for something else", http.MethodOptions, "/v1/chat/completions", app, false, 405, true},
		{"calling", http.MethodPost, "/v1/chat/completions", app, false, 200, true},
		{"calling wrongly", http.MethodPost, "/v1/embeddings", app, false, 400, true},
		{"not in a browser", http.MethodPost, "/v1/chat/completions", "", false, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.origin != "" {
				header = append(header, "Origin", c.origin)
			}
			if c.asks {
				header = append(header, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-stainless-os")
			}
			w := record(h, c.method, c.path, ask("hi"), header...)
			if w.Code != c.status {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			want := map[string]string{"Access-Control-Allow-Origin": "", "Vary": "", "Access-Control-Expose-Headers": "", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Headers": ""}
			if c.shared {
				want["Access-Control-Allow-Origin"], want["Vary"], want["Access-Control-Expose-Headers"] = app, "Origin", "Retry-After, X-Request-Id"
			}
			if c.asks && c.shared {
				want["Access-Control-Allow-Methods"], want["Access-Control-Allow-Headers"] = "GET, POST", "content-type,x-stainless-os"
			}
			for name, value := range want {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
		})
	}
}

func TestOriginsAreChecked(t *testing.T) {
	f := newFixture(t)
	for _, origin := range []string{"app.example", "https://", "https://app.example/", "*", "null", "https://%zz", "", "https://app.example?x", "https://u@app.example", "https://app.example#"} {
		f.config.Origins = []string{origin}
		if _, err := server.New(f.config, f.deps); err == nil {
			t.Errorf("%q was taken", origin)
		}
	}
}

func TestHostsAreChecked(t *testing.T) {
	f := newFixture(t)
	for host, ok := range map[string]bool{"proxy.example": true, "PROXY": true, "::1": true, "192.0.2.7": true,
		"": false, "https://proxy.example": false, "proxy.example:443": false, "proxy.example/": false, "*.example": false, "a b": false} {
		f.config.Hosts = []string{host}
		if err := f.config.Validate(); (err == nil) != ok || !ok && !errors.Is(err, server.ErrConfig) {
			t.Errorf("%q: %v", host, err)
		}
	}
}
