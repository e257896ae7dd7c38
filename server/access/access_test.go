package access

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// What a probe is told while models load is no error; what goes wrong is, whoever asked.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level  zerolog.Level
		status int
		want   string
	}{
		{zerolog.DebugLevel, http.StatusOK, "debug"},
		{zerolog.DebugLevel, http.StatusServiceUnavailable, "debug"},
		{zerolog.DebugLevel, http.StatusInternalServerError, "error"},
		{zerolog.InfoLevel, http.StatusNotFound, "info"},
		{zerolog.InfoLevel, http.StatusServiceUnavailable, "error"},
	} {
		var b strings.Builder
		log := zerolog.New(&b)
		(&Line{}).Write(&log, HTTP{Method: "GET", Route: "/", Status: c.status}, c.level)
		if !strings.Contains(b.String(), `"level":"`+c.want+`"`) {
			t.Errorf("%d at %s is logged as %s", c.status, c.level, b.String())
		}
	}
}
