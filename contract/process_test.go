package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds everything that a test waits for: on a busy machine models are slow, and nothing here measures time.
const patience = 2 * time.Minute

// result is what a run of the binary left.
type result struct {
	code           int // -1: killed
	stdout, stderr string
}

// quipu runs the binary to its end.
func quipu(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, exec.CommandContext(t.Context(), bin, args...))
}

// run runs a command in the tests' environment to its end.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(environment(), cmd.Env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// environment is the tests' own with the test home, and without what would change quipu's settings.
func environment() []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if name == "HOME" || strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "QUIPU_") && name != "QUIPU_THREADS" {
			continue
		}
		env = append(env, pair)
	}
	return append(env, "HOME="+home, "QUIPU_CACHE="+filepath.Join(home, "cache"))
}

// ok fails the test unless the run succeeded, and returns its standard output.
func (r result) ok(t *testing.T) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// failed checks that the run failed with this code, one line that holds every mention, and no result.
func (r result) failed(t *testing.T, code int, mentions ...string) {
	t.Helper()
	line := strings.TrimSuffix(withoutProgress(r.stderr), "\n")
	if r.code != code || strings.Contains(line, "\n") || !strings.HasPrefix(line, "quipu: ") {
		t.Errorf("exit code %d, want %d and one line\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, m := range mentions {
		if !strings.Contains(line, m) {
			t.Errorf("%q does not mention %q", line, m)
		}
	}
	if r.stdout != "" {
		t.Errorf("it failed, but printed %q", r.stdout)
	}
}

// withoutProgress leaves out the lines that a slow machine makes quipu write meanwhile.
func withoutProgress(stderr string) string {
	var rest strings.Builder
	for line := range strings.Lines(stderr) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !slices.Contains([]string{"loading", "ingesting:", "fetching", "checking", "importing"}, word) {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// decode reads a command's JSON output.
func decode[T any](t *testing.T, stdout string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	return v
}

// report is what `quipu ingest --json` prints.
type report struct {
	Store     string
	Documents []struct {
		File, Status, Code, Reason string
		Passages                   int
	}
	Added, Replaced, Unchanged, Failed, Skipped, Passages int
}

func ingest(t *testing.T, data string, args ...string) report {
	t.Helper()
	return decode[report](t, quipu(t, append([]string{"ingest", "--data", data, "--json"}, args...)...).ok(t))
}

// ingested is a data folder of the test's own that holds the sample documents, in the default store.
func ingested(t *testing.T) string {
	t.Helper()
	needModels(t)
	data := t.TempDir()
	r := ingest(t, data, samples)
	if r.Store != "default" || r.Added != countFiles(t, samples) || r.Failed != 0 {
		t.Fatalf("got %+v", r)
	}
	return data
}

// finding is a line of `quipu doctor --json`.
type finding struct {
	Name, Detail string
	OK           bool
}

// examined runs the doctor, who must find nothing wrong, and returns the detail of every finding.
func examined(t *testing.T, data string) map[string]string {
	t.Helper()
	details := map[string]string{}
	r := quipu(t, "doctor", "--data", data, "--json")
	for _, f := range decode[[]finding](t, r.stdout) {
		if details[f.Name] = f.Detail; !f.OK {
			t.Errorf("doctor: %s: %s", f.Name, f.Detail)
		}
	}
	r.ok(t)
	return details
}

func countFiles(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// freeAddress is one of this machine that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
