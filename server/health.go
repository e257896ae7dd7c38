package server

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// health is the body of the probes' answers.
type health struct {
	Status string `json:"status"` // ok or unavailable
	Reason string `json:"reason,omitempty"`
}

// healthz says that the process lives.
func (s *Server) healthz(c *gin.Context) { c.JSON(http.StatusOK, health{Status: "ok"}) }

// readyz says whether questions can be answered.
func (s *Server) readyz(c *gin.Context) {
	if s.draining.Load() {
		c.JSON(http.StatusServiceUnavailable, health{Status: "unavailable", Reason: "the server is shutting down"})
		return
	}
	if s.deps.Starting {
		c.JSON(http.StatusServiceUnavailable, health{Status: "unavailable", Reason: "the models are being loaded"})
		return
	}
	if s.deps.Ready != nil {
		if err := s.deps.Ready(c.Request.Context()); err != nil {
			c.JSON(http.StatusServiceUnavailable, health{Status: "unavailable", Reason: err.Error()})
			return
		}
	}
	c.JSON(http.StatusOK, health{Status: "ok"})
}
