package base

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/quipu-ai/quipu/retrieval"
)

const (
	// beat is how often a job's process says that it is alive, and notes what it has done.
	beat = 2 * time.Second
	// silence is how long a job's process may say nothing before another goes on with the job.
	silence = 30 * time.Second
)

// Enqueue makes a job of an ingestion, which is as good as done from then on: RunJob, here or in another process, does it. What
// Paths name must be there still when it runs; Texts can't be part of it.
func (b *Base) Enqueue(ctx context.Context, in retrieval.Ingestion) (retrieval.Job, error) {
	if b.config.Embedder == nil {
		return retrieval.Job{}, retrieval.ErrNoEmbedder
	}
	if in.Texts != nil {
		return retrieval.Job{}, errors.New("base: texts can't be queued")
	}
	name, err := checkName(in.Store)
	if err != nil {
		return retrieval.Job{}, err
	}
	if err := in.Attributes.Validate(); err != nil {
		return retrieval.Job{}, err
	}
	roots, err := Roots(in.Paths)
	if err != nil {
		return retrieval.Job{}, err
	}
	for i := range roots {
		if roots[i], err = filepath.Abs(roots[i]); err != nil {
			return retrieval.Job{}, err
		}
	}
	s, err := b.record.EnsureStore(ctx, name, b.config.Info)
	if err != nil {
		return retrieval.Job{}, err
	}
	id := "job_" + rand.Text()
	if err := b.record.AddJob(ctx, s.ID, id, retrieval.Work{Paths: roots, Attributes: in.Attributes}); err != nil {
		return retrieval.Job{}, err
	}
	return b.record.Job(ctx, id)
}

// wait is how long Work waits for the next job.
const wait = 3 * time.Second

// Work runs jobs as they come, and those whose process died, one at a time, until ctx ends. ended hears of each; of an error that
// concerns no job, the job is empty.
func (b *Base) Work(ctx context.Context, ended func(retrieval.Job, *retrieval.Report, error)) {
	for ctx.Err() == nil {
		id, report, err := b.runJob(ctx, "", nil)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || id != "":
			job, found := b.record.Job(ctx, id)
			ended(job, report, errors.Join(err, found))
			continue
		case !errors.Is(err, retrieval.ErrNoJob):
			ended(retrieval.Job{}, nil, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Jobs lists the last jobs, the newest first.
func (b *Base) Jobs(ctx context.Context, limit int) ([]retrieval.Job, error) {
	return b.record.Jobs(ctx, "", limit)
}

// Job finds a job; retrieval.ErrNoJob when there is none.
func (b *Base) Job(ctx context.Context, id string) (retrieval.Job, error) {
	return b.record.Job(ctx, id)
}

// JobReport says what became of a job's documents so far, in the order of their names.
func (b *Base) JobReport(ctx context.Context, id string) (*retrieval.Report, error) {
	job, err := b.record.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	documents, err := b.record.JobDocuments(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &retrieval.Report{Store: job.Store, Documents: []retrieval.DocumentResult{}}
	if !job.EndedAt.IsZero() {
		r.Seconds = job.EndedAt.Sub(job.StartedAt).Seconds()
	}
	for _, source := range slices.Sorted(maps.Keys(documents)) {
		r.Add(documents[source])
	}
	return r, nil
}

// CancelJob ends a job; a running one stops within seconds. What it has done stays.
func (b *Base) CancelJob(ctx context.Context, id string) error {
	if err := b.bury(ctx); err != nil {
		return err
	}
	return b.record.CancelJob(ctx, id, time.Now().Add(-silence))
}

// RunJob runs a job to its end; with an empty id the next that waits, or whose process died. It reports as Ingest does, documents
// done by an earlier process included. retrieval.ErrNoJob says that there is none, retrieval.ErrJobLost that it was cancelled or
// that another process runs it. When ctx ends, the job goes back into the queue.
func (b *Base) RunJob(ctx context.Context, id string, progress func(retrieval.Progress)) (*retrieval.Report, error) {
	_, report, err := b.runJob(ctx, id, progress)
	return report, err
}

func (b *Base) runJob(ctx context.Context, id string, progress func(retrieval.Progress)) (ran string, report *retrieval.Report, err error) {
	if b.config.Embedder == nil {
		return "", nil, retrieval.ErrNoEmbedder
	}
	run := &jobRun{base: b, owner: newOwner(), noted: map[string]retrieval.DocumentResult{}}
	if err := b.bury(ctx); err != nil {
		return "", nil, err
	}
	job, err := b.record.ClaimJob(ctx, id, run.owner, time.Now().Add(-silence))
	if err != nil {
		return "", nil, err
	}
	run.id = job.ID
	report, err = run.do(ctx, job, progress)
	state, reason := retrieval.JobDone, ""
	switch {
	case err == nil:
	case errors.Is(err, retrieval.ErrJobLost):
		state = retrieval.JobCancelled
	case ctx.Err() != nil:
		state = retrieval.JobQueued
	default:
		state, reason = retrieval.JobFailed, err.Error()
	}
	// It has to be said even when the caller has gone.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), beat)
	defer cancel()
	if ended := b.record.EndJob(ending, job.ID, run.owner, state, reason); ended != nil && err == nil {
		err = ended
	}
	return job.ID, report, err
}

// jobRun is a job while it runs. A nil one notes nothing.
type jobRun struct {
	base      *Base
	id, owner string
	before    map[string]retrieval.DocumentResult // what earlier processes did, by source

	mu    sync.Mutex
	total int
	noted map[string]retrieval.DocumentResult // not written yet
}

func (r *jobRun) do(ctx context.Context, job retrieval.Job, progress func(retrieval.Progress)) (*retrieval.Report, error) {
	var err error
	if r.before, err = r.base.record.JobDocuments(ctx, job.ID); err != nil {
		return nil, err
	}
	s, err := r.base.record.EnsureStore(ctx, job.Store, r.base.config.Info)
	if err != nil {
		return nil, err
	}
	sources, err := walk(job.Work.Paths)
	if err != nil {
		return nil, err
	}
	r.total = len(sources)
	t, err := r.base.newTaker(ctx, s, job.Work.Attributes)
	if err != nil {
		return nil, err
	}
	t.job = r
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := r.flush(ctx); err != nil && ctx.Err() == nil {
					stop(err)
				}
			}
		}
	}()
	report, err := t.run(ctx, sources, nil, progress)
	cause := context.Cause(ctx)
	stop(nil)
	<-beating
	if cause != nil && !errors.Is(cause, context.Canceled) {
		return report, cause
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), beat)
	defer cancel()
	if flushed := r.flush(last); err == nil {
		err = flushed
	}
	return report, err
}

// finished gives what became of a document before.
func (r *jobRun) finished(s source) (retrieval.DocumentResult, bool) {
	if r == nil {
		return retrieval.DocumentResult{}, false
	}
	d, ok := r.before[s.key()]
	return d, ok
}

// note keeps what became of a document for the next beat. A document that was stored was noted with it already, so that a kill in
// between changes nothing.
func (r *jobRun) note(s source, d retrieval.DocumentResult) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted[s.key()] = d
}

// flush writes what was noted.
func (r *jobRun) flush(ctx context.Context) error {
	r.mu.Lock()
	noted := maps.Clone(r.noted)
	r.mu.Unlock()
	if err := r.base.record.NoteJob(ctx, r.id, r.owner, r.total, noted); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for source := range noted {
		delete(r.noted, source)
	}
	return nil
}
