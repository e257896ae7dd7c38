package llama

import (
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// Loading leaves no threads of OpenMP behind, which would make those of every later step sleep.
func TestLoadLeavesNoThreads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc to count threads")
	}
	foreign := func() int { // threads that Go didn't start
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(tasks) - pprof.Lookup("threadcreate").Count()
	}
	before := foreign()
	loadModel(t, chatModel)
	deadline := time.Now().Add(5 * time.Second)
	for foreign() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // threads end in their own time
	}
	if n := foreign(); n > before {
		t.Errorf("%d threads that Go didn't start, before loading %d", n, before)
	}
}
