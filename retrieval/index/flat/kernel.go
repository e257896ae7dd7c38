package flat

// kernel sets out[i] to the dot product of row i and h, both as they are stored: of bytes 0 to 255 and -128 to 127. Rows
// stand one behind the other, len(h.bytes) bytes each, a multiple of lane.
type kernel func(out []int32, rows []byte, h *half)

type namedKernel struct {
	name string
	dots kernel
}

// kernels lists those that run here, best first; the last one is portable and always there.
func kernels() []namedKernel { return append(native(), namedKernel{"portable", portable}) }

func portable(out []int32, rows []byte, h *half) {
	n := len(h.bytes)
	for i := range out {
		row, q := rows[i*n:][:n], h.bytes
		var a, b, c, d int32
		for len(row) >= 8 && len(q) >= 8 {
			a += int32(row[0])*int32(q[0]) + int32(row[4])*int32(q[4])
			b += int32(row[1])*int32(q[1]) + int32(row[5])*int32(q[5])
			c += int32(row[2])*int32(q[2]) + int32(row[6])*int32(q[6])
			d += int32(row[3])*int32(q[3]) + int32(row[7])*int32(q[7])
			row, q = row[8:], q[8:]
		}
		out[i] = a + b + c + d
	}
}
