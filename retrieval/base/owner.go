package base

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/quipu-ai/quipu/retrieval"
)

// newOwner names this process, so that others on the machine can tell whether it lives.
func newOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s %d %s", host, os.Getpid(), rand.Text())
}

// died reports that an owner was a process of this machine and is none any more. A number that another process has now only means
// that the job waits until its silence is long enough.
func died(owner string) bool {
	var host, tag string
	var pid int
	if _, err := fmt.Sscanf(owner, "%s %d %s", &host, &pid, &tag); err != nil {
		return false
	}
	if own, err := os.Hostname(); err != nil || host != own {
		return false
	}
	p, err := os.FindProcess(pid)
	return err != nil || errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// bury queues jobs again whose process has died.
func (b *Base) bury(ctx context.Context) error {
	jobs, err := b.record.Jobs(ctx, retrieval.JobRunning, 1000)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if !died(j.Owner) {
			continue
		}
		state := retrieval.JobQueued
		if j.Cancelling {
			state = retrieval.JobCancelled
		}
		if err := b.record.EndJob(ctx, j.ID, j.Owner, state, ""); err != nil && !errors.Is(err, retrieval.ErrJobLost) {
			return err
		}
	}
	return nil
}
