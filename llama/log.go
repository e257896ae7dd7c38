package llama

// #include "core_shim.h"
import "C"

import (
	"runtime/cgo"
	"sync"
	"unsafe"
)

// LogLevel grades a line of llama.cpp's log.
type LogLevel int

// The levels.
const (
	LogDebug LogLevel = iota + 1
	LogInfo
	LogWarn
	LogError
)

func (l LogLevel) String() string {
	switch l {
	case LogDebug:
		return "debug"
	case LogInfo:
		return "info"
	case LogWarn:
		return "warn"
	default:
		return "error"
	}
}

// LogFunc receives one whole line without its end; what llama.cpp writes in pieces has been joined. It is called from
// any thread, several at once, also from inside calls of this package: it must not call back into it. A panic in it is
// swallowed.
type LogFunc func(level LogLevel, text string)

// hook is the one log sink of llama.cpp, whose logger belongs to the process.
var hook struct {
	sync.Mutex
	handle cgo.Handle
}

// SetLog sends llama.cpp's log to fn, for the whole process; nil silences it, as at the start. Lines that other threads
// are delivering at that moment may still reach the previous function.
func SetLog(fn LogFunc) {
	hook.Lock()
	defer hook.Unlock()
	old := hook.handle
	hook.handle = 0
	if fn != nil {
		hook.handle = cgo.NewHandle(fn)
	}
	C.core_log_set(C.uintptr_t(hook.handle))
	_ = ready() // where it fails there is no log
	if old != 0 {
		old.Delete()
	}
}

//export quipuLog
func quipuLog(handle C.uintptr_t, level C.int, text *C.char, n C.size_t) {
	// A handle that SetLog just deleted, or a panicking fn, must not unwind into C.
	defer func() { _ = recover() }()
	fn := cgo.Handle(handle).Value().(LogFunc)
	fn(LogLevel(level), string(unsafe.Slice((*byte)(unsafe.Pointer(text)), int(n))))
}
