package contract

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAsk(t *testing.T) {
	data := ingested(t)
	r := quipu(t, "ask", "--data", data, "--json", askedBattery)
	readGrounded(t, r.ok(t), samples).wantCited(t, wantedBattery, wantedFile)
	if withoutProgress(r.stderr) != "" || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("beside one line of JSON it prints %q and %q", r.stdout, r.stderr)
	}
	text := quipu(t, "ask", "--data", data, askedBattery).ok(t)
	if !strings.Contains(text, wantedBattery) || !strings.Contains(text, "] "+wantedFile) {
		t.Errorf("for people it prints %q", text)
	}
	readGrounded(t, quipu(t, "ask", "--data", data, "--json", askedPancakes).ok(t), samples).wantAbstained(t)

	chat := exec.CommandContext(t.Context(), bin, "chat", "--data", data)
	chat.Stdin = strings.NewReader(askedBattery + "\n" + askedPancakes) // the last line has no end
	if text := run(t, chat).ok(t); !strings.Contains(text, wantedBattery) || strings.Count(text, "] "+wantedFile) != 1 {
		t.Errorf("in a conversation it prints %q", text)
	}
	quipu(t, "ask", "--data", data, "--store", "other", askedBattery).failed(t, 1, "store other", "quipu ingest")
	quipu(t, "ask", "--data", data, "--model", "nope", askedBattery).failed(t, 1, "chat model", `"nope"`, "quipu models pull")
	quipu(t, "ask", "--data", data, "--embedding-model", "nope", askedBattery).failed(t, 1, "embedding model", `"nope"`)
	quipu(t, "ask", "--data", data, "--model", filepath.Join(samples, wantedFile), askedBattery).failed(t, 1, "chat model")
	for _, broken := range []string{"", "GGUF", "GGUF" + strings.Repeat("\xff", 1000)} {
		file := filepath.Join(t.TempDir(), "broken.gguf")
		writeFile(t, file, broken)
		quipu(t, "ask", "--data", data, "--model", file, askedBattery).failed(t, 1, "chat model", "broken.gguf")
		quipu(t, "ingest", "--data", data, "--embedding-model", file, samples).failed(t, 1, "embedding model", "broken.gguf")
	}
	quipu(t, "ingest", "--data", data, "--embedding-model", "smollm2-135m", samples).failed(t, 1, "embedding model")
}

func TestUsage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	quipu(t, "ask", "--data", data, askedBattery).failed(t, 1, "holds no documents yet", "quipu ingest --data "+data)
	if _, err := os.Stat(data); err == nil {
		t.Error("asking made a data folder")
	}
	for line, mention := range map[string]string{
		"--bogus": "--bogus", "bogus": `"bogus"`, "models bogus": `"bogus"`, "ask": "a question", "ask --bogus x": "--bogus", "ingest": "at least one",
		"serve --grounded maybe": "grounded", "ask --top-k x y": "--top-k", "doctor --log-level loud": "--log-level", "models pull": "one model",
	} {
		quipu(t, strings.Fields(line)...).failed(t, 2, mention)
	}
	typo := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, typo, "adr: 127.0.0.1:1\n")
	quipu(t, "serve", "--config", typo).failed(t, 1, `"adr"`, typo)

	commands := []string{"", "serve", "ask", "chat", "search", "ingest", "models", "models list", "models pull", "models show", "models import", "models rm", "doctor", "version"}
	for _, command := range commands {
		r := quipu(t, append(strings.Fields(command), "--help")...)
		if text := r.ok(t); !strings.Contains(text, "Examples:\n  quipu ") || r.stderr != "" {
			t.Errorf("quipu %s --help has no example: %s%s", command, text, r.stderr)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if text := quipu(t, "completion", shell).ok(t); !strings.Contains(text, "quipu") {
			t.Errorf("completion %s prints %.200q", shell, text)
		}
	}
	if text := quipu(t, "__complete", "ser").ok(t); !strings.HasPrefix(text, "serve\t") {
		t.Errorf("completing ser gives %q", text)
	}
	version := decode[map[string]string](t, quipu(t, "version", "--json").ok(t))
	for _, key := range []string{"quipu", "go", "platform", "llama", "system"} {
		if version[key] == "" {
			t.Errorf("version --json says nothing of %s: %v", key, version)
		}
	}
	if text := quipu(t, "--version").ok(t); text != "quipu "+version["quipu"]+"\n" {
		t.Errorf("--version prints %q", text)
	}
}

func TestModelsAndDoctor(t *testing.T) {
	needModels(t)
	type row struct {
		Name, Kind string
		Installed  bool
		Bytes      int64
	}
	kinds := map[string]string{}
	for _, r := range decode[[]row](t, quipu(t, "models", "list", "--json").ok(t)) {
		if r.Bytes <= 0 {
			t.Errorf("%+v", r)
		}
		if r.Installed {
			kinds[r.Name] = r.Kind
		}
	}
	if kinds["smollm2-135m"] != "chat" || kinds["all-minilm-l6-v2"] != "embedding" {
		t.Errorf("installed are %v", kinds)
	}
	facts := decode[map[string]any](t, quipu(t, "models", "show", "smollm2-135m").ok(t))
	if facts["architecture"] != "llama" || facts["context"] != 8192. {
		t.Errorf("got %v", facts)
	}
	data := filepath.Join(t.TempDir(), "data")
	for _, name := range []string{"processor", "chat model", "embedding model", "data folder"} {
		if details := examined(t, data); details[name] == "" {
			t.Errorf("the doctor says nothing of the %s: %v", name, details)
		}
	}
	damaged := t.TempDir()
	writeFile(t, filepath.Join(damaged, "quipu.db"), strings.Repeat("this is no database ", 1000))
	r := quipu(t, "doctor", "--data", damaged)
	if r.code != 1 || !strings.Contains(r.stdout, "BAD") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("of a damaged record the doctor says, with exit code %d, %q and %q", r.code, r.stdout, r.stderr)
	}
	quipu(t, "ask", "--data", damaged, askedBattery).failed(t, 1, "damaged")
}

// Where documents can't be kept there is one line that says so.
func TestUnusableDataFolder(t *testing.T) {
	needModels(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "no folder")
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // whom permissions don't stop
		closed = "/proc"
	}
	for _, command := range [][]string{{"ingest", samples}, {"ask", askedBattery}, {"serve", "--addr", "127.0.0.1:0"}} {
		quipu(t, append(command, "--data", file)...).failed(t, 1, file)
		if command[0] != "ask" {
			quipu(t, append(command, "--data", filepath.Join(closed, "data"))...).failed(t, 1, closed)
		}
	}
}

func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	quipu(t, "serve", "--data", t.TempDir(), "--addr", listener.Addr().String()).failed(t, 1, listener.Addr().String(), "in use", "--addr")
	quipu(t, "serve", "--data", t.TempDir(), "--addr", "nonsense").failed(t, 1, "nonsense")
}

// One document that can't be read fails with its reason, and the others go on.
func TestUnreadableDocuments(t *testing.T) {
	needModels(t)
	docs, data := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(docs, "good.md"), "# Paint\n\nThe shed is painted green every spring.\n")
	writeFile(t, filepath.Join(docs, "below", "good.txt"), "The ladder stands behind the shed.\n")
	writeFile(t, filepath.Join(docs, "binary.md"), "\x7fELF\x02\x01\x01\x00\x00\x00\x00\xff\xfe\x00\x01")
	writeFile(t, filepath.Join(docs, "picture.png"), "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01")
	writeFile(t, filepath.Join(docs, "empty.md"), "")
	bad := map[string]bool{"binary.md": true, "picture.png": true, "empty.md": true}
	if os.Getuid() != 0 {
		writeFile(t, filepath.Join(docs, "closed.md"), "secret")
		if err := os.Chmod(filepath.Join(docs, "closed.md"), 0); err != nil {
			t.Fatal(err)
		}
		bad["closed.md"] = true
	}
	paths := []string{docs}
	if runtime.GOOS == "linux" {
		paths = append(paths, "/proc/self/mem") // it opens, and can't be read
		bad["mem"] = true
	}
	r := ingest(t, data, paths...)
	if r.Added != 2 || r.Failed != len(bad) || len(r.Documents) != 2+len(bad) {
		t.Errorf("got %+v", r)
	}
	for _, d := range r.Documents {
		if failed := d.Status == "failed"; failed != bad[d.File] || failed != (d.Reason != "") || failed != (d.Code != "") {
			t.Errorf("got %+v", d)
		}
	}
	out := quipu(t, append([]string{"ingest", "--data", data}, paths...)...)
	if out.code != 0 || !strings.Contains(out.stdout, "2 unchanged") || strings.Count(withoutProgress(out.stderr), "\n") != len(bad) || !strings.Contains(out.stderr, "binary.md: ") {
		t.Errorf("exit code %d, %q, %q", out.code, out.stdout, out.stderr)
	}
	readGrounded(t, quipu(t, "ask", "--data", data, "--json", "What colour is the shed painted?").ok(t), docs).wantCited(t, "green", "good.md")

	// When nothing at all could be read, that is a failure.
	if out := quipu(t, "ingest", "--data", data, filepath.Join(docs, "binary.md"), filepath.Join(docs, "empty.md")); out.code != 1 || !strings.Contains(out.stderr, "none of the 2 documents") {
		t.Errorf("exit code %d, %q", out.code, out.stderr)
	}
	quipu(t, "ingest", "--data", data, filepath.Join(docs, "absent.md")).failed(t, 1, "absent.md")
	quipu(t, "ingest", "--data", data, "--store", "../up", docs).failed(t, 1, "../up")
	if out := quipu(t, "ingest", "--data", data, filepath.Join(docs, "empty.md")); out.code != 1 || !strings.Contains(out.stderr, "quipu: the document could not") {
		t.Errorf("exit code %d, %q", out.code, out.stderr)
	}
}

// A link to a folder stands for it; links below it, pipes and devices are never followed or opened.
func TestOddFiles(t *testing.T) {
	needModels(t)
	docs, data := t.TempDir(), t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret.md")
	writeFile(t, outside, "The secret is out.\n")
	writeFile(t, filepath.Join(docs, "good.md"), "The ladder stands behind the shed.\n")
	pipe := filepath.Join(docs, "pipe.md")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"loop": ".", "self.md": "self.md", "secret.md": outside, "zero.txt": "/dev/zero", "dangling.md": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(docs, link)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(docs, link); err != nil {
		t.Fatal(err)
	}
	if r := ingest(t, data, link); r.Added != 1 || r.Skipped != 6 || len(r.Documents) != 7 {
		t.Errorf("got %+v", r)
	}
	for _, path := range []string{pipe, "/dev/zero"} {
		quipu(t, "ingest", "--data", data, path).failed(t, 1, path, "neither a file nor a folder")
	}
	if r := quipu(t, "ingest", "--data", data, t.TempDir()); r.code != 0 || !strings.Contains(r.stderr, "there is no file in ") {
		t.Errorf("of an empty folder it says, with exit code %d, %q", r.code, r.stderr)
	}
}

// What can be known to be wrong is said before anything is loaded or made.
func TestWrongBeforeLoading(t *testing.T) {
	data := ingested(t)
	for line, test := range map[string]struct {
		code    int
		mention string
	}{
		"serve --origin app.example":     {2, `"app.example" is no origin`},
		"serve --host http://p":          {2, `"http://p" is no host's name`},
		"serve --grounded maybe":         {2, "maybe"},
		"serve --addr 127.0.0.1:99999":   {1, "invalid port"},
		"serve --model smolm2-135m":      {1, "did you mean smollm2-135m?"},
		"ask --model smolm2-135m x":      {1, "did you mean smollm2-135m?"},
		"ask --store ../up x":            {1, "../up"},
		"search --store UP x":            {1, `"UP"`},
		"chat --store none":              {1, "store none of"},
		"ingest --store ../up " + data:   {1, "../up"},
		"ingest --embedding-model mni x": {1, "x"},
	} {
		args := append(strings.Fields(line), "--data", data)
		r := quipu(t, args...)
		if r.failed(t, test.code, test.mention); strings.Contains(r.stderr, "loading ") {
			t.Errorf("%s: it loaded something first: %s", line, r.stderr)
		}
	}
}

// A disk that fills up ends an ingestion with one line, and what was stored before is still there.
func TestDiskFull(t *testing.T) {
	data := ingested(t)
	before := examined(t, data)["store default"]
	docs := generate(t, 60, 30)
	limited := exec.CommandContext(t.Context(), "bash", "-c", `ulimit -f 700; exec "$0" "$@"`, bin, "ingest", "--data", data, docs)
	r := run(t, limited)
	said := withoutProgress(r.stderr)
	if r.code != 1 || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "quipu: shelf") {
		t.Fatalf("exit code %d, stderr %s", r.code, r.stderr)
	}
	after := examined(t, data)["store default"]
	if !strings.HasPrefix(r.stdout, "store default: ") {
		t.Errorf("it does not say what it did: %q", r.stdout)
	}
	t.Logf("before: %s; after: %s", before, after)
	readGrounded(t, quipu(t, "ask", "--data", data, "--json", askedBattery).ok(t), samples).wantCited(t, wantedBattery, wantedFile)
	if r := ingest(t, data, samples); r.Unchanged != countFiles(t, samples) {
		t.Errorf("of what was stored before there is left %+v", r)
	}
	if r := ingest(t, data, docs); r.Added+r.Unchanged != 60 || r.Failed != 0 {
		t.Errorf("with room again: %d added, %d unchanged, %d failed", r.Added, r.Unchanged, r.Failed)
	}
}

// Ctrl-C ends an ingestion soon, keeps what was done, and says so.
func TestInterruptIngest(t *testing.T) {
	needModels(t)
	docs, data := generate(t, 200, 8), t.TempDir()
	cmd := exec.CommandContext(t.Context(), bin, "ingest", "--data", data, docs)
	// An empty record has 120 kB, and as many in its log.
	timer := whenWritten(t, data, 700<<10, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
	defer timer()
	r := run(t, cmd)
	if r.code != 130 || !strings.HasSuffix(r.stderr, "quipu: stopped\n") || !strings.HasPrefix(r.stdout, "store default: ") {
		t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	examined(t, data)
	if got := ingest(t, data, docs); got.Added+got.Unchanged != 200 || got.Unchanged == 0 || got.Added == 0 {
		t.Errorf("going on: %d added, %d unchanged", got.Added, got.Unchanged)
	}
}

// whenWritten calls f once a folder's files have grown to a size. The returned function ends the watch.
func whenWritten(t *testing.T, dir string, size int64, f func()) (end func()) {
	t.Helper()
	over := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-over:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if folderSize(dir) >= size {
				f()
				return
			}
		}
	}()
	return func() {
		close(over)
		<-watched
	}
}

func folderSize(dir string) int64 {
	entries, _ := os.ReadDir(dir)
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// While a large model is read, the probes already say that the server lives and is not ready; and it can be stopped.
func TestStarting(t *testing.T) {
	data := ingested(t)
	large := filepath.Join(t.TempDir(), "large.gguf")
	writeFile(t, large, "GGUF")
	if err := os.Truncate(large, 1<<40); err != nil { // of which nothing is on the disk, and the checksum of which takes an hour
		t.Skipf("the file system makes no file of a terabyte with nothing in it: %v", err)
	}
	address := freeAddress(t)
	cmd := exec.Command(bin, "serve", "--data", data, "--addr", address, "--model", large)
	cmd.Env = environment()
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	s := &server{url: "http://" + address}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if res, err := client.Get(s.url + "/healthz"); err == nil {
			res.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not listen")
		}
	}
	if r := s.send(t, "/readyz", ""); r.status != 503 || !strings.Contains(r.body, "being loaded") {
		t.Errorf("/readyz: %d %s", r.status, r.body)
	}
	s.send(t, "/v1/chat/completions", chatBody(askedBattery, nil)).fails(t, 503)
	client.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 130 || !strings.HasSuffix(said.String(), "quipu: stopped\n") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), &said)
	}
}
