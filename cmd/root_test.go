package cmd

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestUsageErrors(t *testing.T) {
	clean(t)
	for line, mention := range map[string]string{
		"--bogus":                    "unknown flag: --bogus (see quipu --help)",
		"bogus":                      `quipu has no command "bogus"`,
		"srve":                       "did you mean serve?",
		"models bogus":               `quipu models has no command "bogus"`,
		"models lst":                 "did you mean list?",
		"models pull":                "quipu models pull takes one model (see quipu models pull --help)",
		"models pull a b":            "takes one model",
		"models list --bogus":        "see quipu models list --help",
		"models import folder":       "takes a folder and the file to write",
		"ask":                        "takes a question",
		"ask --top-k many question":  "--top-k",
		"ask --top-k -5 question":    "--top-k -5: use a number from 0 to 200",
		"ask --bogus question":       "unknown flag: --bogus (see quipu ask --help)",
		"chat question":              "takes no arguments",
		"ingest":                     "at least one file or folder",
		"serve now":                  "takes no arguments",
		"serve --addr=":              "--addr is empty",
		"serve --grounded maybe":     `not "maybe"`,
		"serve --isolation maybe":    "--isolation maybe: use process or none",
		"worker now":                 "takes no arguments",
		"serve --origin app.example": `"app.example" is no origin`,
		"serve --host http://proxy":  `"http://proxy" is no host's name`,
		"doctor --log-level loud":    "--log-level loud",
		"doctor --log-format pretty": "--log-format pretty",
		"version extra":              "takes no arguments",
		"ask --threads -1 --data nowhere question":                   "--threads -1",
		"serve --addr 127.0.0.1:0 --draft=false --draft-model small": "--draft-model small: with --draft=false nothing is guessed",
	} {
		code, stdout, stderr := execute(t, strings.Fields(line)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, mention) || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "quipu: ") {
			t.Errorf("%s: code %d, stdout %q, stderr %q", line, code, stdout, stderr)
		}
	}
	for _, command := range []string{"ask", "search"} {
		if code, _, stderr := execute(t, command, "  "); code != exitUsage || !strings.Contains(stderr, "the question is empty") {
			t.Errorf("%s a blank question: code %d, %s", command, code, stderr)
		}
	}
	t.Setenv("QUIPU_TOP_K", "many")
	if code, _, stderr := execute(t, "ask", "question"); code != exitUsage || strings.Count(stderr, "\n") != 1 {
		t.Errorf("environment: code %d, %s", code, stderr)
	}
}

func TestFailures(t *testing.T) {
	home := clean(t)
	file := filepath.Join(home, "file")
	write(t, file, "no folder")
	for _, test := range []struct {
		args    []string
		mention string
	}{
		{[]string{"ask", "--data", filepath.Join(home, "none"), "question"}, "holds no documents yet: read some with `quipu ingest --data "},
		{[]string{"ask", "--data", filepath.Join(home, "none"), "--store", "s", "question"}, "--store s PATH`"},
		{[]string{"chat", "--data", filepath.Join(home, "none")}, "holds no documents yet"},
		{[]string{"ingest", "--data", filepath.Join(home, "none"), file}, "all-minilm-l6-v2 is not on this machine: get it with `quipu models pull all-minilm-l6-v2`"},
		{[]string{"ingest", "--embedding-model", "nope", file}, `there is no model "nope"`},
		{[]string{"serve", "--addr", "127.0.0.1:99999"}, "invalid port"},
		{[]string{"serve", "--addr", "127.0.0.1:0", "--data", filepath.Join(home, "none")}, "embedding model"},
		{[]string{"models", "show", "smolm2-135m"}, "did you mean smollm2-135m?"},
		{[]string{"ingest", "/dev/null"}, "/dev/null is neither a file nor a folder"},
		{[]string{"ingest", filepath.Join(home, "a\nb")}, "a b: no such file"},
		{[]string{"models", "show", "nope"}, `there is no model "nope"`},
		{[]string{"models", "rm", "smollm2-135m"}, "not on this machine"},
		{[]string{"--config", file, "doctor"}, "config file " + file},
	} {
		code, stdout, stderr := execute(t, test.args...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, test.mention) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: code %d, stdout %q, stderr %q", test.args, code, stdout, stderr)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(home, "none*")); found != nil {
		t.Errorf("asking made %s", found)
	}
}

func TestWithoutModels(t *testing.T) {
	home := clean(t)
	code, stdout, stderr := execute(t, "doctor", "--json", "--data", filepath.Join(home, "none"))
	var findings []finding
	if err := json.Unmarshal([]byte(stdout), &findings); err != nil {
		t.Fatal(err)
	}
	bad := map[string]bool{}
	for _, f := range findings {
		bad[f.Name] = !f.OK
	}
	if code != exitError || !bad["chat model"] || !bad["embedding model"] || bad["processor"] || bad["data folder"] || !strings.Contains(stderr, "2 of ") {
		t.Errorf("code %d, %+v, %s", code, findings, stderr)
	}
	if found, _ := filepath.Glob(filepath.Join(home, "none*")); found != nil {
		t.Errorf("the doctor made %s", found)
	}
	code, stdout, _ = execute(t, "models", "list", "--json")
	var rows []struct {
		Name, Kind string
		Installed  bool
	}
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK {
		t.Fatalf("code %d, %v", code, err)
	}
	if len(rows) < 3 || rows[0].Kind != "chat" || rows[0].Installed {
		t.Errorf("got %+v", rows)
	}
	write(t, filepath.Join(home, "cache", "quipu", "models", "mine.gguf"), "GGUF")
	if _, stdout, _ = execute(t, "models", "list"); !strings.Contains(stdout, "mine ") || !strings.Contains(stdout, "yes") {
		t.Errorf("got %s", stdout)
	}
	for _, args := range [][]string{{}, {"models"}, {"--version"}, {"version"}, {"version", "--json"}} {
		if code, stdout, stderr := execute(t, args...); code != exitOK || stdout == "" || stderr != "" {
			t.Errorf("%s: code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if !strings.HasPrefix(cmd.Example, "  quipu ") {
			t.Errorf("%s: the help has no example", cmd.CommandPath())
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		if !cmd.Runnable() || cmd.Args == nil {
			t.Errorf("%s: it does not look at its arguments", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}
