//go:build linux

package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is what the processes of a server hold, in bytes. Anonymous memory is that beyond files: a model that is mapped
// from its file doesn't count, a copy of its weights in another layout does.
type memory struct {
	Idle int64 `json:"idle_anonymous"`
	Peak int64 `json:"peak_anonymous"`
	RSS  int64 `json:"peak_resident"` // with files
}

// usage adds up the processes of a group.
func usage(group int) (anonymous, peak int64) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// The name, in brackets, may hold anything; then come state, parent and group.
		_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 3 || fields[2] != strconv.Itoa(group) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if err != nil {
			continue
		}
		anonymous += field(status, "RssAnon") + field(status, "RssShmem")
		peak += field(status, "VmHWM")
	}
	return anonymous, peak
}

// field reads a line such as "RssAnon:  1234 kB", in bytes.
func field(status []byte, name string) int64 {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// watch looks at a group's memory until end is called, which gives the peaks.
func watch(group int) (end func() memory) {
	var m memory
	m.Idle, _ = usage(group)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			anonymous, peak := usage(group)
			m.Peak, m.RSS = max(m.Peak, anonymous), max(m.RSS, peak)
			select {
			case <-ticker.C:
			case <-over:
				anonymous, peak = usage(group)
				m.Peak, m.RSS = max(m.Peak, anonymous), max(m.RSS, peak)
				return
			}
		}
	}()
	return func() memory {
		close(over)
		<-done
		return m
	}
}
