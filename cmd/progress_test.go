package cmd

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"
)

// On anything but a terminal progress is a line now and then.
func TestProgressInLog(t *testing.T) {
	old := os.Stderr
	defer func() { os.Stderr = old }()
	os.Stderr = capture(t)
	var out strings.Builder
	p := newProgress("file.gguf", 0, byteSize)
	p.out = &out
	p.set(1_000_000, 2_000_000)
	if out.Len() > 0 {
		t.Errorf("at once it wrote %q", out.String())
	}
	p.last = p.last.Add(-2 * p.every)
	p.set(1_500_000, 2_000_000)
	p.set(1_600_000, 2_000_000) // too soon for another
	p.last = p.last.Add(-2 * p.every)
	p.set(1_700_000, -1)
	p.last = p.last.Add(-2 * p.every)
	p.at("b.md")
	p.set(3, 7)
	p.line("a.md: it is empty (empty)")
	p.done()
	p.done()
	if want := "file.gguf: 1.5 MB of 2.0 MB\nfile.gguf: 1.7 MB\nfile.gguf: 3 B of 7 B, at b.md\na.md: it is empty (empty)\n"; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	if p.every < time.Second {
		t.Errorf("a line every %v fills a log", p.every)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 98_362_432: "98.4 MB", 7_300_000_000: "7.3 GB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// While one step takes long, the last word is said again.
func TestProgressStandsStill(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	p := &progress{out: w, every: time.Millisecond, label: "ingesting", unit: func(int64) string { return "1" }, over: make(chan struct{})}
	go p.tick(p.over, time.Millisecond)
	defer p.done()
	p.set(1, 1)
	said := bufio.NewReader(r)
	for range 3 {
		if line, err := said.ReadString('\n'); line != "ingesting: 1 of 1\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
}
