//go:build !purego

package flat

import "golang.org/x/sys/cpu"

// native lists what this processor and its system can run.
func native() []namedKernel {
	var out []namedKernel
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX2 {
		out = append(out, namedKernel{"vnni", vnni})
	}
	if cpu.X86.HasAVX2 {
		out = append(out, namedKernel{"avx2", avx2})
	}
	return out
}

func vnni(out []int32, rows []byte, h *half) {
	if len(out) == 0 {
		return
	}
	n := len(h.bytes)
	_ = rows[:len(out)*n] // the assembly doesn't look
	dotsVNNI(&out[0], &rows[0], &h.bytes[0], n, len(out))
}

func avx2(out []int32, rows []byte, h *half) {
	if len(out) == 0 {
		return
	}
	n := len(h.words)
	_ = rows[:len(out)*n] // the assembly doesn't look
	dotsAVX2(&out[0], &rows[0], &h.words[0], n, len(out))
}

// In kernel_amd64.s; n rows of stride bytes, a multiple of lane.

//go:noescape
func dotsVNNI(out *int32, rows *byte, question *int8, stride, n int)

//go:noescape
func dotsAVX2(out *int32, rows *byte, question *int16, stride, n int)
