package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/quipu-ai/quipu/server/dispatch"
)

// ErrConfig: a Config is out of range; the text names the fields.
var ErrConfig = errors.New("bad server configuration")

// Config tunes a Server. Start from Default.
type Config struct {
	// Grounded says which chats are answered from the documents when the client doesn't say.
	Grounded dispatch.Mode
	// MaxBody bounds a request's body, in bytes.
	MaxBody int64
	// MaxHeader bounds a request's header, in bytes.
	MaxHeader int
	// HeaderTimeout and BodyTimeout bound how long a client may take to send each.
	HeaderTimeout time.Duration
	BodyTimeout   time.Duration
	// WriteTimeout bounds how long one write may wait for a client that doesn't read.
	WriteTimeout time.Duration
	// IdleTimeout keeps a connection open between requests. It is longer than clients keep theirs, so that it is always the
	// client that closes, and never a request that meets a closed connection.
	IdleTimeout time.Duration
	// Heartbeat is the time after which a silent stream sends a comment.
	Heartbeat time.Duration
	// Drain is how long requests may go on when the server stops; then they are cancelled.
	Drain time.Duration
	// Hosts are names, besides those of this machine and its network, under which clients reach a server that listens on
	// the loopback interface, as through a proxy.
	Hosts []string
	// Origins are web pages' origins, as https://app.example, that may call the API from a browser.
	Origins []string
}

// Default is a Config for one machine.
func Default() Config {
	return Config{
		Grounded:      dispatch.Auto,
		MaxBody:       4 << 20,
		MaxHeader:     64 << 10,
		HeaderTimeout: 10 * time.Second,
		BodyTimeout:   time.Minute,
		WriteTimeout:  30 * time.Second,
		IdleTimeout:   10 * time.Minute,
		Heartbeat:     15 * time.Second,
		Drain:         30 * time.Second,
	}
}

// Validate names everything that is out of range.
func (c Config) Validate() error {
	errs := []error{c.Grounded.Validate()}
	check := func(ok bool, field, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", field, want))
		}
	}
	check(c.MaxBody >= 1<<10, "MaxBody", "at least 1024")
	check(c.MaxHeader >= 1<<10, "MaxHeader", "at least 1024")
	check(c.HeaderTimeout > 0, "HeaderTimeout", "positive")
	check(c.BodyTimeout > 0, "BodyTimeout", "positive")
	check(c.WriteTimeout > 0, "WriteTimeout", "positive")
	check(c.IdleTimeout > 0, "IdleTimeout", "positive")
	check(c.Heartbeat > 0, "Heartbeat", "positive")
	check(c.Drain >= 0, "Drain", "not negative")
	for _, h := range c.Hosts {
		check(isHost(h), "Hosts", fmt.Sprintf("%q is no host's name, such as quipu.example: without scheme, port and path", h))
	}
	for _, o := range c.Origins {
		check(isOrigin(o), "Origins", fmt.Sprintf("%q is no origin, such as https://app.example", o))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

func isHost(h string) bool {
	return h != "" && (net.ParseIP(h) != nil || !strings.ContainsAny(h, "/:@*?# \t\r\n"))
}

// isOrigin reports whether a browser could send this as Origin, but for capitals.
func isOrigin(o string) bool {
	u, err := url.Parse(o)
	return err == nil && u.Host != "" && strings.EqualFold(o, u.Scheme+"://"+u.Host) && u.Scheme != ""
}
