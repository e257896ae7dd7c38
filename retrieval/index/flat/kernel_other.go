//go:build !amd64 || purego

package flat

func native() []namedKernel { return nil }
