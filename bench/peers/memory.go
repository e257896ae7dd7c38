//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
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

// members goes through the processes of a group: their folders in /proc and what stat says from the state on.
func members(group int, do func(dir string, stat []string)) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// The name, in brackets, may hold anything; then come state, parent and group.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 12 && fields[2] == strconv.Itoa(group) {
			do(filepath.Dir(path), fields)
		}
	}
}

// usage adds up the memory of a group's processes.
func usage(group int) (anonymous, peak int64) {
	members(group, func(dir string, _ []string) {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			return
		}
		anonymous += field(status, "RssAnon") + field(status, "RssShmem")
		peak += field(status, "VmHWM")
	})
	return anonymous, peak
}

// computed adds up the time that a group's processes computed.
func computed(group int) (sum time.Duration) {
	members(group, func(_ string, stat []string) {
		for _, ticks := range stat[11:13] { // user and system, in hundredths of a second
			n, _ := strconv.ParseInt(ticks, 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	})
	return sum
}

// restTime is how long a server may take to come to rest.
const restTime = 2 * time.Minute

// rest waits until a group computes no more than a twentieth of the time: some servers try out models after they are ready.
func rest(ctx context.Context, group int) time.Duration {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	begun := time.Now()
	for last := computed(group); time.Since(begun) < restTime; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return time.Since(begun)
		}
		now := computed(group)
		if now-last <= time.Second/20 {
			break
		}
		last = now
	}
	return time.Since(begun)
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
