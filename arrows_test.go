package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/quipu-ai/quipu/"

// arrows says which rooms a room may import besides itself (docs/ARCHITECTURE.md). cmd and main may import everything.
var arrows = map[string][]string{
	"llama":     {},
	"engine":    {},
	"retrieval": {},
	"monitor":   {},
	"models":    {"llama"},
	"answer":    {"engine", "retrieval"},
	"bench":     {},
	"lab":       {"answer", "engine", "retrieval", "monitor"},
	"server":    {"answer", "engine", "models", "retrieval", "monitor", "lab"},
}

// exceptions are folders inside a room with an arrow of their own.
var exceptions = map[string][]string{
	"engine/native":   {"engine", "llama"},
	"engine/upstream": {"engine"},
	"engine/worker":   {"engine"},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-e", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 3 {
		t.Fatalf("go list found %d packages: the test would prove nothing", len(lines))
	}
	for _, line := range lines {
		fields := strings.Fields(line)
		from, ok := strings.CutPrefix(fields[0], module)
		if !ok {
			continue // main
		}
		room := strings.SplitN(from, "/", 2)[0]
		if room == "cmd" {
			continue
		}
		allowed, known := arrows[room]
		if !known {
			t.Errorf("%s: there is no room %q in docs/ARCHITECTURE.md", from, room)
			continue
		}
		if own, ok := exceptions[from]; ok {
			allowed = own
		}
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			target := strings.SplitN(to, "/", 2)[0]
			if _, exception := exceptions[to]; exception && target != room {
				t.Errorf("%s imports %s, which only cmd may wire", from, to)
			}
			if target != room && !slices.Contains(allowed, target) {
				t.Errorf("%s imports %s: no arrow leads there", from, to)
			}
		}
	}
}
