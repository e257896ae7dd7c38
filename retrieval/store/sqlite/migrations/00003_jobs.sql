-- +goose Up

CREATE TABLE jobs (
    id         TEXT    PRIMARY KEY,
    store_id   INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    state      TEXT    NOT NULL, -- queued, running, done, failed, cancelled
    work       TEXT    NOT NULL, -- what is to be read, as JSON
    total      INTEGER NOT NULL DEFAULT 0, -- documents, as far as they are known
    error      TEXT    NOT NULL DEFAULT '',
    owner      TEXT    NOT NULL DEFAULT '', -- the process that runs it
    beat       INTEGER NOT NULL DEFAULT 0,  -- when the owner was last seen; one that is silent for long has died
    cancel     INTEGER NOT NULL DEFAULT 0,  -- whether the owner is to stop
    created_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL DEFAULT 0,
    ended_at   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, created_at);

-- What became of a job's documents: what is here is not done again.
CREATE TABLE job_documents (
    job_id   TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    source   TEXT    NOT NULL, -- where it was read from
    file     TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    passages INTEGER NOT NULL,
    code     TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    PRIMARY KEY (job_id, source)
) STRICT, WITHOUT ROWID;
