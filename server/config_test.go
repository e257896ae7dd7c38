package server_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/server"
)

func TestConfigValidate(t *testing.T) {
	if err := server.Default().Validate(); err != nil {
		t.Error(err)
	}
	for field, set := range map[string]func(*server.Config){
		"grounded":      func(c *server.Config) { c.Grounded = "sometimes" },
		"MaxBody":       func(c *server.Config) { c.MaxBody = 1023 },
		"MaxHeader":     func(c *server.Config) { c.MaxHeader = 0 },
		"HeaderTimeout": func(c *server.Config) { c.HeaderTimeout = 0 },
		"BodyTimeout":   func(c *server.Config) { c.BodyTimeout = -1 },
		"WriteTimeout":  func(c *server.Config) { c.WriteTimeout = 0 },
		"IdleTimeout":   func(c *server.Config) { c.IdleTimeout = 0 },
		"Heartbeat":     func(c *server.Config) { c.Heartbeat = 0 },
		"Drain":         func(c *server.Config) { c.Drain = -1 },
	} {
		f := newFixture(t)
		set(&f.config)
		if _, err := server.New(f.config, f.deps); !errors.Is(err, server.ErrConfig) || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	none := server.Config{}
	if err := none.Validate(); strings.Count(err.Error(), "\n") != 7 {
		t.Errorf("not everything is named: %v", err)
	}
}
