package llama

import "runtime"

// onThread runs f on a thread of the operating system that ends with it. Converting weights starts OpenMP's threads, which stay as
// long as the thread that started them; and with more of them in a process than processors, libgomp lets those of every
// step wait by sleeping instead of spinning: steps that take 5 ms then take 10.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		f()
	}()
	<-done
}
