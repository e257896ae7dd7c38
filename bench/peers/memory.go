//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
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

// processes are numbers and what stat in /proc says of each, from the state on.
type processes map[int][]string

// started is where stat says when a process started, which tells it from a later one of its number.
const started = 19

// family finds a process and all that descend from it: workers may have groups of their own.
func family(root int) processes {
	all := processes{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// The name, in brackets, may hold anything; then come state and parent.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && len(fields) > started {
			all[pid] = fields
		}
	}
	found := processes{}
	for pid := range all {
		for at := pid; all[at] != nil; at, _ = strconv.Atoi(all[at][1]) {
			if at == root {
				found[pid] = all[pid]
				break
			}
		}
	}
	return found
}

// usage adds up the memory of a family.
func usage(root int) (anonymous, peak int64) {
	for pid := range family(root) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		anonymous += field(status, "RssAnon") + field(status, "RssShmem")
		peak += field(status, "VmHWM")
	}
	return anonymous, peak
}

// computed adds up the time that a family computed.
func computed(root int) (sum time.Duration) {
	for _, stat := range family(root) {
		for _, ticks := range stat[11:13] { // user and system, in hundredths of a second
			n, _ := strconv.ParseInt(ticks, 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// restTime is how long a server may take to come to rest.
const restTime = 2 * time.Minute

// rest waits until a family computes no more than a twentieth of the time: some servers try out models after they are ready.
func rest(ctx context.Context, root int) time.Duration {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	begun := time.Now()
	for last := computed(root); time.Since(begun) < restTime; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return time.Since(begun)
		}
		now := computed(root)
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

// watch looks at a family's memory until end is called, which gives the peaks.
func watch(root int) (end func() memory) {
	var m memory
	m.Idle, _ = usage(root)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			anonymous, peak := usage(root)
			m.Peak, m.RSS = max(m.Peak, anonymous), max(m.RSS, peak)
			select {
			case <-ticker.C:
			case <-over:
				anonymous, peak = usage(root)
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
