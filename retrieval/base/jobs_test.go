package base_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/base"
)

func enqueue(t *testing.T, b *base.Base, paths ...string) retrieval.Job {
	t.Helper()
	j, err := b.Enqueue(t.Context(), retrieval.Ingestion{Paths: paths, Attributes: retrieval.Attributes{"from": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func job(t *testing.T, b *base.Base, id string) retrieval.Job {
	t.Helper()
	j, err := b.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJob(t *testing.T) {
	data, docs := t.TempDir(), t.TempDir()
	b := open(t, data)
	write(t, docs, map[string]string{"a.md": "Apples are red.", "b.md": "Pears are green.", "c.bin": "\x00\x01\x02"})
	j := enqueue(t, b, docs)
	if j.State != retrieval.JobQueued || j.Store != "default" || j.Work.Paths[0] != docs {
		t.Errorf("queued: %+v", j)
	}
	if got := open(t, data); job(t, got, j.ID).State != retrieval.JobQueued {
		t.Error("another process doesn't see it")
	}
	r, err := b.RunJob(t.Context(), "", nil)
	if err != nil || r.Added != 2 || r.Failed != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	j = job(t, b, j.ID)
	if j.State != retrieval.JobDone || j.Done != 3 || j.Total != 3 || j.Counts[retrieval.Added] != 2 || j.Counts[retrieval.Failed] != 1 || j.Passages != 2 ||
		j.StartedAt.IsZero() || j.EndedAt.Before(j.StartedAt) {
		t.Errorf("done: %+v", j)
	}
	documents, err := b.Documents(t.Context(), "")
	if err != nil || len(documents) != 2 || documents[0].Attributes["from"] != "test" {
		t.Errorf("%+v, %v", documents, err)
	}
	if _, err := b.RunJob(t.Context(), "", nil); !errors.Is(err, retrieval.ErrNoJob) {
		t.Errorf("nothing to do: %v", err)
	}
	if _, err := b.RunJob(t.Context(), j.ID, nil); !errors.Is(err, retrieval.ErrJobLost) {
		t.Errorf("one that has ended: %v", err)
	}
	if _, err := b.RunJob(t.Context(), "job_x", nil); !errors.Is(err, retrieval.ErrNoJob) {
		t.Errorf("one that is not there: %v", err)
	}
	if jobs, err := b.Jobs(t.Context(), 5); err != nil || len(jobs) != 1 || jobs[0].ID != j.ID {
		t.Errorf("%+v, %v", jobs, err)
	}
}

func TestEnqueueRefuses(t *testing.T) {
	b := open(t, t.TempDir())
	if _, err := b.Enqueue(t.Context(), retrieval.Ingestion{Paths: []string{"absent"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := b.Enqueue(t.Context(), retrieval.Ingestion{Store: "No Name"}); !errors.Is(err, retrieval.ErrStoreName) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := b.Enqueue(t.Context(), retrieval.Ingestion{Attributes: retrieval.Attributes{"a": 1}}); !errors.Is(err, retrieval.ErrAttributes) {
		t.Errorf("bad attributes: %v", err)
	}
}

// A job that is stopped goes on where it was, and reports all of it.
func TestJobGoesOn(t *testing.T) {
	b, docs := open(t, t.TempDir()), t.TempDir()
	files := map[string]string{}
	for i := range 60 {
		files[fmt.Sprintf("%02d.md", i)] = fmt.Sprintf("Document number %d.", i)
	}
	write(t, docs, files)
	j := enqueue(t, b, docs)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := b.RunJob(ctx, j.ID, func(p retrieval.Progress) {
		if p.Documents == 20 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) || r.Added < 20 || r.Added == 60 {
		t.Fatalf("stopped: %d, %v", r.Added, err)
	}
	if j = job(t, b, j.ID); j.State != retrieval.JobQueued || j.Done != r.Added {
		t.Errorf("stopped after %d: %+v", r.Added, j)
	}
	again := 0
	r, err = b.RunJob(t.Context(), "", func(p retrieval.Progress) { again = p.Documents })
	if err != nil || r.Added != 60 || r.Unchanged > 0 || again != 60 {
		t.Errorf("in the end: %+v, %v", r, err)
	}
	if j = job(t, b, j.ID); j.State != retrieval.JobDone || j.Done != 60 || j.Counts[retrieval.Added] != 60 {
		t.Errorf("in the end: %+v", j)
	}
}

func TestCancelJob(t *testing.T) {
	b, docs := open(t, t.TempDir()), t.TempDir()
	write(t, docs, map[string]string{"a.md": "Apples."})
	queued := enqueue(t, b, docs)
	if err := b.CancelJob(t.Context(), queued.ID); err != nil || job(t, b, queued.ID).State != retrieval.JobCancelled {
		t.Errorf("a queued one: %v, %+v", err, job(t, b, queued.ID))
	}
	if err := b.CancelJob(t.Context(), queued.ID); err != nil || job(t, b, queued.ID).State != retrieval.JobCancelled {
		t.Errorf("again: %v", err)
	}
	if err := b.CancelJob(t.Context(), "job_x"); !errors.Is(err, retrieval.ErrNoJob) {
		t.Errorf("one that is not there: %v", err)
	}
	running := enqueue(t, b, docs)
	r, err := b.RunJob(t.Context(), running.ID, func(p retrieval.Progress) {
		if p.Last == nil && p.Passages == 0 {
			if err := b.CancelJob(context.Background(), running.ID); err != nil {
				t.Error(err)
			}
			if j := job(t, b, running.ID); j.State != retrieval.JobRunning || !j.Cancelling {
				t.Errorf("while it runs: %+v", j)
			}
		}
	})
	if !errors.Is(err, retrieval.ErrJobLost) || job(t, b, running.ID).State != retrieval.JobCancelled {
		t.Errorf("a running one: %+v, %v, %+v", r, err, job(t, b, running.ID))
	}
}

// A filter chooses before the best are chosen, and one that chooses nothing finds nothing, by either arm.
func TestSearchFiltered(t *testing.T) {
	b := open(t, t.TempDir())
	for team, text := range map[string]string{"red": "Apples are red fruit.", "green": "Apples are green fruit."} {
		docs := t.TempDir()
		write(t, docs, map[string]string{team + ".md": text})
		if _, err := b.Ingest(t.Context(), retrieval.Ingestion{Paths: []string{docs}, Attributes: retrieval.Attributes{"team": team}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, arms := range []retrieval.Arms{retrieval.Dense, retrieval.Lexical, retrieval.Both} {
		for team, want := range map[string]string{"red": "red.md", "green": "green.md", "blue": ""} {
			hits, err := b.Search(t.Context(), retrieval.Query{Text: "apples", Arms: arms, Filter: &retrieval.Filter{Type: retrieval.Equal, Key: "team", Value: team}})
			var got []string
			for _, h := range hits {
				got = append(got, h.Passage.File)
			}
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("arms %d, team %s: %v, %v", arms, team, got, err)
			}
		}
	}
}

// Work does what is queued, one after the other.
func TestWork(t *testing.T) {
	b, docs := open(t, t.TempDir()), t.TempDir()
	write(t, docs, map[string]string{"a.md": "Apples."})
	first, second := enqueue(t, b, docs), enqueue(t, b, docs)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var ended []string
	b.Work(ctx, func(j retrieval.Job, r *retrieval.Report, err error) {
		if err != nil || j.State != retrieval.JobDone || len(r.Documents) != 1 {
			t.Errorf("%+v, %+v, %v", j, r, err)
		}
		if ended = append(ended, j.ID); len(ended) == 2 {
			stop()
		}
	})
	if strings.Join(ended, " ") != first.ID+" "+second.ID {
		t.Errorf("ended are %v, want %s, then %s", ended, first.ID, second.ID)
	}
}
