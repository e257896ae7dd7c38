package contract

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestDocs runs every command that the documentation shows, against the shared server and in a folder of its own. What
// builds, fetches or never ends is checked in another way.
func TestDocs(t *testing.T) {
	s := sharedServer(t)
	pages := []string{"README.md", "examples/README.md"}
	more, err := filepath.Glob(filepath.Join(repo, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range more {
		pages = append(pages, filepath.Join("docs", filepath.Base(page)))
	}
	work := documented(t)
	commands := 0
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(repo, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
			for _, command := range split(block[1]) {
				commands++
				t.Run(page, func(t *testing.T) { tryDocumented(t, s, work, command) })
			}
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands were found: the test proves little", commands)
	}
}

// documented is a folder as a reader has it after the commands before: data folders, the examples, a model, the binary.
func documented(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	for name, target := range map[string]string{
		"examples": filepath.Join(repo, "examples"), "path/to/documents": samples, "bin/quipu": bin,
		"path/to/model.gguf": filepath.Join(home, "cache", "models", chatFile),
	} {
		link := filepath.Join(work, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	quipu(t, "ingest", "--data", filepath.Join(work, "quipu-data"), samples).ok(t)
	return work
}

// split cuts a block into commands: a command goes on while a line ends in a backslash or a quote is open.
func split(block string) []string {
	var out []string
	command := ""
	for line := range strings.Lines(block) {
		command += line
		if strings.HasSuffix(strings.TrimSpace(line), `\`) || strings.Count(command, "'")%2 == 1 {
			continue
		}
		if strings.TrimSpace(command) != "" {
			out = append(out, strings.TrimSpace(command))
		}
		command = ""
	}
	return out
}

func tryDocumented(t *testing.T, s *server, work, command string) {
	t.Helper()
	fields := strings.Fields(command)
	switch {
	case fields[0] == "make" || strings.HasPrefix(fields[0], "BACKEND="):
		target := fields[1]
		if fields[0] != "make" {
			target = fields[2]
		}
		makefile, err := os.ReadFile(filepath.Join(repo, "Makefile"))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).Match(makefile) {
			t.Errorf("the Makefile has no target %s", target)
		}
	case strings.HasPrefix(command, "bin/quipu models pull "):
		if list := quipu(t, "models", "list", "--json").ok(t); !strings.Contains(list, `"`+fields[3]+`"`) {
			t.Errorf("the catalogue does not know %s", fields[3])
		}
	case strings.HasPrefix(command, "bin/quipu serve "):
		data := filepath.Join(work, "quipu-data")
		args := regexp.MustCompile(`--(addr|data|model) \S+`).ReplaceAllString(strings.Join(fields[2:], " "), "")
		other, err := launch(data, strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.stop(); err != nil {
			t.Error(err)
		}
	case strings.HasPrefix(command, "cd contract && go run "): // its own test runs it on a model
		if _, err := os.Stat(filepath.Join(repo, "contract", fields[5], "main.go")); err != nil {
			t.Error(err)
		}
	default:
		command = strings.ReplaceAll(command, "http://127.0.0.1:8080", s.url)
		shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", command)
		shell.Dir = work
		out := run(t, shell).ok(t)
		refused := strings.Contains(out, `"error":{`)
		if strings.Contains(out, "0 documents added, 0 replaced, 0 unchanged") {
			t.Errorf("%s\nreads nothing: %s", command, out)
		}
		if strings.TrimSpace(out) == "" || refused != strings.Contains(command, "critic") {
			t.Errorf("%s\nprints %s", command, out)
		}
	}
}
