package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quipu-ai/quipu/retrieval"
)

// AddJob queues work for a store under an id of the caller's choice.
func (r *Record) AddJob(ctx context.Context, storeID int64, id string, work retrieval.Work) error {
	text, err := json.Marshal(work)
	if err != nil {
		return err
	}
	return r.transact(ctx, "queue a job", func(tx *sql.Tx) error {
		var there int
		switch err := tx.QueryRowContext(ctx, "SELECT 1 FROM stores WHERE id = ?", storeID).Scan(&there); {
		case errors.Is(err, sql.ErrNoRows):
			return retrieval.ErrNoStore
		case err != nil:
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO jobs (id, store_id, state, work, created_at) VALUES (?, ?, ?, ?, ?)",
			id, storeID, retrieval.JobQueued, string(text), time.Now().UnixMilli())
		return err
	})
}

const jobColumns = `j.id, s.name, j.store_id, j.state, j.work, j.total, j.error, j.owner, j.cancel, j.created_at, j.started_at, j.ended_at,
	(SELECT coalesce(json_group_object(status, n), '{}') FROM (SELECT status, count(*) AS n FROM job_documents d WHERE d.job_id = j.id GROUP BY status)),
	(SELECT coalesce(sum(passages), 0) FROM job_documents d WHERE d.job_id = j.id)
	FROM jobs j JOIN stores s ON s.id = j.store_id`

func scanJob(row scanner) (retrieval.Job, error) {
	var j retrieval.Job
	var work, counts []byte
	var created, started, ended int64
	if err := row.Scan(&j.ID, &j.Store, &j.StoreID, &j.State, &work, &j.Total, &j.Error, &j.Owner, &j.Cancelling, &created, &started, &ended, &counts, &j.Passages); err != nil {
		return j, err
	}
	if err := errors.Join(json.Unmarshal(work, &j.Work), json.Unmarshal(counts, &j.Counts)); err != nil {
		return j, fmt.Errorf("job %s: %w (%w)", j.ID, retrieval.ErrCorrupt, err)
	}
	for _, n := range j.Counts {
		j.Done += n
	}
	j.Total = max(j.Total, j.Done)
	j.CreatedAt, j.StartedAt, j.EndedAt = moment(created), moment(started), moment(ended)
	return j, nil
}

// moment is a time of the record; 0 is none.
func moment(milliseconds int64) time.Time {
	if milliseconds == 0 {
		return time.Time{}
	}
	return time.UnixMilli(milliseconds)
}

// Jobs lists the last jobs of all stores, the newest first: those in a state, with an empty one all.
func (r *Record) Jobs(ctx context.Context, state retrieval.JobState, limit int) ([]retrieval.Job, error) {
	return list(ctx, r, "list jobs", scanJob, "SELECT "+jobColumns+" WHERE ? IN ('', j.state) ORDER BY j.created_at DESC, j.id LIMIT ?", state, limit)
}

// Job finds a job; retrieval.ErrNoJob when there is none.
func (r *Record) Job(ctx context.Context, id string) (retrieval.Job, error) {
	j, err := scanJob(r.read.QueryRowContext(ctx, "SELECT "+jobColumns+" WHERE j.id = ?", id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return j, fmt.Errorf("job %q: %w", id, retrieval.ErrNoJob)
	case err != nil:
		return j, failure("find job", err)
	}
	return j, nil
}

// JobDocuments tells what became of a job's documents so far, by their sources.
func (r *Record) JobDocuments(ctx context.Context, id string) (map[string]retrieval.DocumentResult, error) {
	out := map[string]retrieval.DocumentResult{}
	err := r.each(ctx, "read a job's documents", func(row scanner) error {
		var source string
		var d retrieval.DocumentResult
		err := row.Scan(&source, &d.File, &d.Status, &d.Passages, &d.Code, &d.Reason)
		out[source] = d
		return err
	}, "SELECT source, file, status, passages, code, reason FROM job_documents WHERE job_id = ?", id)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ClaimJob gives a job to an owner: the given one, or with an empty id the oldest that is queued or whose owner was not seen since
// silent. Without one it is retrieval.ErrNoJob; one that another process runs, or that has ended, is retrieval.ErrJobLost.
func (r *Record) ClaimJob(ctx context.Context, id, owner string, silent time.Time) (retrieval.Job, error) {
	var claimed string
	err := r.transact(ctx, "claim a job", func(tx *sql.Tx) error {
		now := time.Now().UnixMilli()
		err := tx.QueryRowContext(ctx, `UPDATE jobs SET state = 'running', owner = ?, beat = ?, started_at = CASE started_at WHEN 0 THEN ? ELSE started_at END
			WHERE id = (SELECT id FROM jobs WHERE (? = '' OR id = ?) AND cancel = 0 AND (state = 'queued' OR state = 'running' AND beat < ?)
			ORDER BY created_at, id LIMIT 1) RETURNING id`, owner, now, now, id, id, silent.UnixMilli()).Scan(&claimed)
		if errors.Is(err, sql.ErrNoRows) {
			return retrieval.ErrNoJob
		}
		return err
	})
	if errors.Is(err, retrieval.ErrNoJob) && id != "" {
		if _, err := r.Job(ctx, id); err != nil {
			return retrieval.Job{}, err
		}
		return retrieval.Job{}, fmt.Errorf("job %q: %w", id, retrieval.ErrJobLost)
	}
	if err != nil {
		return retrieval.Job{}, err
	}
	return r.Job(ctx, claimed)
}

// NoteJob says that the owner is alive, how many documents there are, and what became of some of them, by their sources. A job
// that is to be cancelled, or that another process runs, is retrieval.ErrJobLost; nothing is noted then.
func (r *Record) NoteJob(ctx context.Context, id, owner string, total int, results map[string]retrieval.DocumentResult) error {
	return r.transact(ctx, "note a job's progress", func(tx *sql.Tx) error {
		if err := change(ctx, tx, fmt.Errorf("job %q: %w", id, retrieval.ErrJobLost),
			"UPDATE jobs SET beat = ?, total = ? WHERE id = ? AND owner = ? AND state = 'running' AND cancel = 0",
			time.Now().UnixMilli(), total, id, owner); err != nil {
			return err
		}
		for source, d := range results {
			if err := noteDocument(ctx, tx, id, source, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func noteDocument(ctx context.Context, tx *sql.Tx, id, source string, d retrieval.DocumentResult) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO job_documents (job_id, source, file, status, passages, code, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
		id, source, d.File, d.Status, d.Passages, d.Code, d.Reason)
	return err
}

// EndJob gives a job its final state, or with retrieval.JobQueued back to whoever goes on with it. One that another process runs
// is retrieval.ErrJobLost.
func (r *Record) EndJob(ctx context.Context, id, owner string, state retrieval.JobState, reason string) error {
	return r.transact(ctx, "end a job", func(tx *sql.Tx) error {
		ended := time.Now().UnixMilli()
		if !state.Ended() {
			ended = 0
		}
		return change(ctx, tx, fmt.Errorf("job %q: %w", id, retrieval.ErrJobLost),
			"UPDATE jobs SET state = ?, error = ?, owner = '', ended_at = ? WHERE id = ? AND owner = ? AND state = 'running'",
			state, reason, ended, id, owner)
	})
}

// CancelJob ends a job that is queued or whose owner was not seen since silent, and tells the owner of a running one to stop. One
// that has ended stays as it is.
func (r *Record) CancelJob(ctx context.Context, id string, silent time.Time) error {
	return r.transact(ctx, "cancel a job", func(tx *sql.Tx) error {
		var state retrieval.JobState
		err := tx.QueryRowContext(ctx, "SELECT state FROM jobs WHERE id = ?", id).Scan(&state)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("job %q: %w", id, retrieval.ErrNoJob)
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE jobs SET cancel = 1, state = 'cancelled', owner = '', ended_at = ?
			WHERE id = ? AND (state = 'queued' OR state = 'running' AND beat < ?)`, time.Now().UnixMilli(), id, silent.UnixMilli())
		return err
	})
}
