package server

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/openai"
)

// guard keeps web pages from using a visitor's browser to reach the server.
//
// A page of another origin shows in the Origin header. A page whose name was made to point here (DNS rebinding) is of
// the same origin as far as the browser knows, and shows in the Host header instead: a server on the loopback interface
// is addressed by an IP, or by a name that can't be bought.
type guard struct {
	hosts   []string
	origins []string
}

// newGuard makes the guard of a Config that was validated.
func newGuard(c Config) *guard {
	g := &guard{}
	for _, h := range c.Hosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	for _, o := range c.Origins {
		g.origins = append(g.origins, strings.ToLower(o))
	}
	return g
}

func (g *guard) check(c *gin.Context) {
	if host := hostname(c.Request.Host); onLoopback(c.Request) && !local(host) && !slices.Contains(g.hosts, host) {
		refuse(c, fmt.Sprintf("the host %.100q is not this server's: allow it in the configuration if it is a proxy's", host))
		return
	}
	origin := strings.ToLower(c.GetHeader("Origin"))
	if origin == "" {
		return
	}
	if slices.Contains(g.origins, origin) {
		share(c)
		return
	}
	if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Host != strings.ToLower(c.Request.Host) {
		refuse(c, "pages of this origin may not call the API: allow it in the configuration")
	}
}

// share lets a page of an allowed origin read the answer, and grants what its browser asks for beforehand (CORS). Any
// header may be sent: none gives a right here.
func share(c *gin.Context) {
	c.Header("Access-Control-Allow-Origin", c.GetHeader("Origin"))
	c.Header("Access-Control-Expose-Headers", "Retry-After, "+requestIDHeader)
	c.Header("Vary", "Origin")
	if c.Request.Method != http.MethodOptions || c.GetHeader("Access-Control-Request-Method") == "" {
		return
	}
	c.Header("Access-Control-Allow-Methods", "GET, POST")
	c.Header("Access-Control-Allow-Headers", c.GetHeader("Access-Control-Request-Headers"))
	c.Header("Access-Control-Max-Age", "600")
	c.AbortWithStatus(http.StatusNoContent)
}

func refuse(c *gin.Context, message string) {
	openai.Fail(c, &fault.Fault{Status: http.StatusForbidden, Type: fault.Forbidden, Code: fault.BadOrigin, Message: message})
}

func onLoopback(r *http.Request) bool {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// local reports whether a host is an address, or a name that no public DNS gives out.
func local(host string) bool {
	if net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return true
	}
	return strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}
