//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// startNeighbour starts a process that keeps the last processor busy.
func startNeighbour() (pid int, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	cmd := exec.Command(self, "spin", fmt.Sprint(runtime.NumCPU()-1))
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, nil
}

// spin keeps one processor busy until whoever started it is gone.
func spin(processor string) {
	runtime.LockOSThread()
	var set unix.CPUSet
	if n, err := strconv.Atoi(processor); err == nil {
		set.Set(n)
		_ = unix.SchedSetaffinity(0, &set) // where that isn't allowed it spins wherever it is put
	}
	for parent := os.Getppid(); os.Getppid() == parent; {
		for begun := time.Now(); time.Since(begun) < 100*time.Millisecond; {
		}
	}
}
