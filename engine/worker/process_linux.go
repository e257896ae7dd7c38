package worker

import "syscall"

// attributes let the child die with the thread that started it, also when this process was killed, and keep the
// terminal's signals from it: its front says when it ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
