package contract

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// generate writes documents of so many sentences each. Every document says the colour of its own shelf.
func generate(t *testing.T, documents, sentences int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := range documents {
		var text strings.Builder
		fmt.Fprintf(&text, "# Shelf %d\n\nThe colour of shelf number %d is %s.\n", i, i, colour(i))
		for j := range sentences - 1 {
			fmt.Fprintf(&text, "\nBox %d on it holds %d screws of %d mm for the workshop.\n", j, i*31+j*7, 3+(i+j)%20)
		}
		writeFile(t, filepath.Join(dir, shelf(i)), text.String())
	}
	return dir
}

func shelf(i int) string { return fmt.Sprintf("shelf%03d.md", i) }

func colour(i int) string {
	return [...]string{"red", "green", "blue", "yellow", "black", "white", "orange", "violet"}[i%8]
}

// Killed again and again at any moment, an ingestion goes on where it stopped: the record is always whole, and in the end
// every document is there exactly once.
func TestKillIngest(t *testing.T) {
	needModels(t)
	const documents = 240
	docs, data := generate(t, documents, 5), t.TempDir()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	kills := 0
	for before := 0; kills < 6; kills++ {
		cmd := exec.CommandContext(t.Context(), bin, "ingest", "--data", data, docs)
		pause := time.Duration(random.IntN(30)) * time.Millisecond
		end := whenWritten(t, data, folderSize(data)+20<<10+random.Int64N(250<<10), func() {
			time.Sleep(pause)
			_ = cmd.Process.Kill()
		})
		r := run(t, cmd)
		end()
		if r.code == 0 {
			break // it was done before
		}
		if r.code != -1 {
			t.Fatalf("exit code %d: %s", r.code, r.stderr)
		}
		n := stored(t, examined(t, data)["store default"])
		if n < before || n > documents {
			t.Fatalf("after %d documents there were %d", before, n)
		}
		before = n
	}
	if kills < 2 {
		t.Errorf("only %d kills came before the end: the test proves little", kills)
	}
	// The job that was killed last is gone on with.
	quipu(t, "jobs", "run", "--data", data).ok(t)
	wantJobsDone(t, data, documents)
	r := ingest(t, data, docs)
	if r.Added+r.Unchanged != documents || r.Failed+r.Replaced > 0 || r.Unchanged == 0 {
		t.Errorf("after the kills: %d added, %d replaced, %d unchanged, %d failed", r.Added, r.Replaced, r.Unchanged, r.Failed)
	}
	passages := 0
	for i, d := range r.Documents {
		if passages += d.Passages; d.File != shelf(i) {
			t.Errorf("document %d is %s", i, d.File)
		}
	}
	if got, want := examined(t, data)["store default"], fmt.Sprintf("%d documents, %d passages,", documents, passages); !strings.HasPrefix(got, want) {
		t.Errorf("there are %s, want %s", got, want)
	}
	if again := ingest(t, data, docs); again.Unchanged != documents {
		t.Errorf("once more: %d unchanged of %d", again.Unchanged, documents)
	}
	readGrounded(t, quipu(t, "ask", "--data", data, "--json", "What is the colour of shelf number 77?").ok(t), docs).wantCited(t, colour(77), shelf(77))
}

// A data folder without documents may still have a job that waits.
func TestJobsWithoutDocuments(t *testing.T) {
	needModels(t)
	data := t.TempDir()
	if said := quipu(t, "jobs", "run", "--data", data).ok(t); said != "no job waits\n" {
		t.Errorf("got %q", said)
	}
	quipu(t, "jobs", "cancel", "--data", data, "job_x", "job_y").failed(t, 1, "job_x")
}

// wantJobsDone checks that no job is left, and that each has dealt with all documents.
func wantJobsDone(t *testing.T, data string, documents int) {
	t.Helper()
	var jobs []struct {
		State     string
		Documents int
		Counts    map[string]int
	}
	if err := json.Unmarshal([]byte(quipu(t, "jobs", "--data", data, "--json").ok(t)), &jobs); err != nil {
		t.Fatal(err)
	}
	if len(jobs) == 0 {
		t.Error("there is no job")
	}
	for _, j := range jobs {
		if j.State != "done" || j.Documents != documents || j.Counts["added"]+j.Counts["unchanged"] != documents {
			t.Errorf("a job is %+v", j)
		}
	}
}

// stored reads the number of documents out of the doctor's finding; without a store there are none.
func stored(t *testing.T, detail string) int {
	t.Helper()
	if detail == "" {
		return 0
	}
	var n int
	if _, err := fmt.Sscanf(detail, "%d documents", &n); err != nil {
		t.Fatalf("%q: %v", detail, err)
	}
	return n
}

// A server that is killed while it streams loses nothing, and its client knows that the answer is not whole.
func TestKillServe(t *testing.T) {
	data := ingested(t)
	s := start(t, data)
	res, err := s.stream(t.Context(), endlessly(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for n := 0; n < 5 && lines.Scan(); n++ {
	}
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if strings.Contains(lines.Text(), "[DONE]") {
			t.Error("the stream of a killed server ends as if it were whole")
		}
	}
	if lines.Err() == nil {
		t.Error("the client takes the end of a killed server's stream for an ordinary one")
	}
	before := examined(t, data)["store default"]
	s = start(t, data)
	s.ask(t, askedBattery, samples, nil).wantCited(t, wantedBattery, wantedFile)
	if after := examined(t, data)["store default"]; after != before {
		t.Errorf("before: %s; after: %s", before, after)
	}
}

// SIGTERM lets a running stream come to its end, refuses what comes later, and exits with 0.
func TestStopWhileStreaming(t *testing.T) {
	s := start(t, ingested(t))
	res, err := s.stream(t.Context(), endlessly(map[string]any{"max_tokens": 200}))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stopped := make(chan error, 1)
	lines := bufio.NewScanner(res.Body)
	last := ""
	for n := 0; lines.Scan(); n++ {
		if n == 3 {
			go func() { stopped <- s.stop() }()
		}
		if strings.HasPrefix(lines.Text(), "data: ") {
			last = lines.Text()
		}
	}
	if lines.Err() != nil || last != "data: [DONE]" {
		t.Errorf("the stream ends with %s, %v", last, lines.Err())
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Documents that another process ingests are found at once, and places count code points: in a text whose characters have
// one to four bytes they differ from bytes and from UTF-16.
func TestIngestBesideServer(t *testing.T) {
	s := sharedServer(t)
	docs := t.TempDir()
	text := "# Gärten 🌻🌻\n\nÜber den Zaun 🐈 führt kein Weg — naïve Café-Gäste ausgenommen.\n\n## Rules\n\nThe garden gate 🚪 is locked at nine o’clock in summer.\n\nDogs stay outside.\n"
	writeFile(t, filepath.Join(docs, "sub", "garden.md"), text)
	store := map[string]any{"store": "gardens"}
	s.send(t, "/v1/chat/completions", chatBody("When is the gate locked?", map[string]any{"quipu": store})).fails(t, 404)
	if r := ingest(t, s.data, "--store", "gardens", docs); r.Store != "gardens" || r.Added != 1 {
		t.Errorf("got %+v", r)
	}
	ask := func(want string) {
		t.Helper()
		g := s.ask(t, "When is the garden gate locked in summer?", docs, store)
		g.wantCited(t, want, "sub/garden.md")
	}
	ask("nine")
	// What is replaced is gone.
	writeFile(t, filepath.Join(docs, "sub", "garden.md"), strings.Replace(text, "nine", "eleven", 1))
	if r := ingest(t, s.data, "--store", "gardens", docs); r.Replaced != 1 {
		t.Errorf("got %+v", r)
	}
	ask("eleven")
	s.ask(t, askedBattery, samples, nil).wantCited(t, wantedBattery, wantedFile)
}
