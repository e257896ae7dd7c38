package llama

// #include "core_shim.h"
import "C"

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"unsafe"
)

// StateFlags say which part of a sequence's state is meant.
type StateFlags uint32

// StatePartial takes only what cannot be cut: the sliding-window cache or the recurrent state. It makes small
// checkpoints of such models.
const StatePartial StateFlags = C.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

// A state is this header and llama.cpp's own bytes, which it believes blindly. The header keeps states of other models
// and contexts away; files also have a checksum. Nobody else's bytes may be given to SetState.
const (
	stateMagic  = 0x31545351 // "QST1"
	stateHeader = 4 + 4 + 8 + 8
	wholeState  = -1
)

// State copies the whole memory, all sequences, appending to dst.
func (c *Context) State(dst []byte) ([]byte, error) { return c.state(dst, wholeState, 0) }

// SetState replaces the whole memory by one that State returned. It needs the same model, file and parameters, and
// says ErrWrongState otherwise; the memory may then be empty.
func (c *Context) SetState(src []byte) error { return c.setState(src, wholeState, 0) }

// SequenceState copies the memory of one sequence, appending to dst: some 23 kB a token for a 135M model. flags is 0
// for all of it.
func (c *Context) SequenceState(dst []byte, sequence int, flags StateFlags) ([]byte, error) {
	if err := c.Memory().use("save state", sequence); err != nil {
		return dst, err
	}
	return c.state(dst, sequence, flags)
}

// SetSequenceState replaces a sequence by one that SequenceState returned, of whatever sequence it was. flags must be
// the same. It needs the same model, file and parameters, and says ErrWrongState otherwise, and ErrNoKVSlot when there
// is no room; the sequence may then be empty.
func (c *Context) SetSequenceState(src []byte, sequence int, flags StateFlags) error {
	if err := c.Memory().use("load state", sequence); err != nil {
		return err
	}
	return c.setState(src, sequence, flags)
}

func (c *Context) state(dst []byte, sequence int, flags StateFlags) ([]byte, error) {
	const op = "save state"
	if err := c.Memory().use(op); err != nil {
		return dst, err
	}
	size := C.core_state_size(c.ptr, C.int32_t(sequence), C.uint32_t(flags), c.err)
	if size == 0 {
		return dst, cFailure(op, 0, c.err, ErrUnsupported)
	}
	start := len(dst)
	dst = append(dst, make([]byte, stateHeader+int(size))...)
	b := dst[start:]
	n := C.core_state_get(c.ptr, (*C.uint8_t)(unsafe.Pointer(&b[stateHeader])), size, C.int32_t(sequence), C.uint32_t(flags), c.err)
	if n == 0 || n > size {
		return dst[:start], cFailure(op, 0, c.err, ErrUnsupported)
	}
	binary.LittleEndian.PutUint32(b, stateMagic)
	binary.LittleEndian.PutUint32(b[4:], stateKind(sequence, flags))
	binary.LittleEndian.PutUint64(b[8:], c.id)
	binary.LittleEndian.PutUint64(b[16:], uint64(n))
	return dst[:start+stateHeader+int(n)], nil
}

// stateKind keeps whole, sequence and partial states apart.
func stateKind(sequence int, flags StateFlags) uint32 {
	if sequence == wholeState {
		return 1
	}
	return 2 + uint32(flags)
}

func (c *Context) setState(src []byte, sequence int, flags StateFlags) error {
	const op = "load state"
	if err := c.Memory().use(op); err != nil {
		return err
	}
	switch {
	case len(src) < stateHeader || binary.LittleEndian.Uint32(src) != stateMagic:
		return fail(op, ErrCorrupt, "these %d bytes are no state", len(src))
	case binary.LittleEndian.Uint32(src[4:]) != stateKind(sequence, flags):
		return fail(op, ErrWrongState, "a state of a whole context is not one of a sequence, nor with other flags")
	case binary.LittleEndian.Uint64(src[8:]) != c.id:
		return fail(op, ErrWrongState, "")
	case binary.LittleEndian.Uint64(src[16:]) != uint64(len(src)-stateHeader) || len(src) == stateHeader:
		return fail(op, ErrTruncated, "a state of %d bytes has %d", binary.LittleEndian.Uint64(src[16:]), len(src)-stateHeader)
	}
	body := src[stateHeader:]
	if C.core_state_set(c.ptr, (*C.uint8_t)(unsafe.Pointer(&body[0])), C.size_t(len(body)), C.int32_t(sequence), C.uint32_t(flags), c.err) == 0 {
		return cFailure(op, 0, c.err, ErrNoKVSlot)
	}
	return nil
}

// A state file is a magic number, the tokens, a state, and a CRC-32C of all that.
const fileMagic = 0x31465351 // "QSF1"

// SaveSequence writes a sequence with its tokens to a file, which appears whole or not at all.
func (c *Context) SaveSequence(path string, sequence int, tokens []Token) (err error) {
	state, err := c.SequenceState(nil, sequence, 0)
	if err != nil {
		return err
	}
	return saveState(path, tokens, state)
}

// LoadSequence reads a file of SaveSequence into a sequence and returns its tokens. A damaged file is ErrCorrupt or
// ErrTruncated, one of another model or context ErrWrongState; both are found before the memory is touched.
func (c *Context) LoadSequence(path string, sequence int) ([]Token, error) {
	tokens, state, err := loadState(path)
	if err != nil {
		return nil, err
	}
	return tokens, c.SetSequenceState(state, sequence, 0)
}

// Save writes the whole memory to a file, which appears whole or not at all.
func (c *Context) Save(path string) error {
	state, err := c.State(nil)
	if err != nil {
		return err
	}
	return saveState(path, nil, state)
}

// Restore reads a file of Save. Errors are those of LoadSequence.
func (c *Context) Restore(path string) error {
	_, state, err := loadState(path)
	if err != nil {
		return err
	}
	return c.SetState(state)
}

func saveState(path string, tokens []Token, state []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	head := []uint32{fileMagic, uint32(len(tokens))}
	for _, v := range []any{head, tokens, state} {
		if err = binary.Write(w, binary.LittleEndian, v); err != nil {
			return err
		}
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = binary.Write(f, binary.LittleEndian, sum.Sum32()); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func loadState(path string) ([]Token, []byte, error) {
	const op = "load state"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	bad := func(kind error, why string) ([]Token, []byte, error) {
		return nil, nil, fmt.Errorf("%s: %w", path, fail(op, kind, "%s", why))
	}
	if len(b) < 12 || binary.LittleEndian.Uint32(b) != fileMagic {
		return bad(ErrCorrupt, "not a state file")
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return bad(ErrCorrupt, "its checksum is wrong; it was cut off or changed")
	}
	n := uint64(binary.LittleEndian.Uint32(b[4:]))
	body = body[8:]
	if n*4 > uint64(len(body)) {
		return bad(ErrCorrupt, "more tokens than bytes")
	}
	tokens := make([]Token, n)
	for i := range tokens {
		tokens[i] = Token(binary.LittleEndian.Uint32(body[4*i:]))
	}
	return tokens, body[4*n:], nil
}
