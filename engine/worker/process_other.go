//go:build !linux

package worker

import "syscall"

// attributes keep the terminal's signals from the child: its front says when it ends.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
