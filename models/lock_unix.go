//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package models

import (
	"errors"
	"os"
	"syscall"
)

// lock takes an exclusive lock that ends with the file's closing, without waiting; ErrBusy when another has it.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrBusy
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}
