package retrieval

import "time"

// JobState says where a job is.
type JobState string

// The states of jobs. The last three are final.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done" // documents that could not be read don't make it fail
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Ended reports a final state.
func (s JobState) Ended() bool { return s == JobDone || s == JobFailed || s == JobCancelled }

// Job is an ingestion that survives its process: what it did stays done, and another process goes on with the rest.
type Job struct {
	ID         string
	Store      string
	StoreID    int64
	State      JobState
	Work       Work
	Total      int // documents, as far as they are known
	Done       int // of them
	Counts     map[Status]int
	Passages   int
	Error      string // why it failed
	Owner      string // the process that runs it; empty while none does
	Cancelling bool   // it was told to stop
	CreatedAt  time.Time
	StartedAt  time.Time // zero while it is queued
	EndedAt    time.Time // zero until it has ended
}

// Work is what a job reads. It names things instead of holding them, so that another process can go on.
type Work struct {
	Paths      []string   `json:"paths,omitempty"` // absolute
	Attributes Attributes `json:"attributes,omitempty"`
}
