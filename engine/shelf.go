package engine

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// shelf keeps KV outside of the cache: in memory up to a limit, the least recently used leaves first, and, given a folder, on
// disk up to another. Passages are asked for by their name; prefixes by the tokens that a prompt starts with. What is on disk is
// read by whoever prepares a request, never by the loop. Safe for concurrent use; its owner closes it.
type shelf struct {
	model       string // its fingerprint
	dir         string // "" is none
	diskLimit   int64
	memoryLimit int64

	mu     sync.Mutex
	items  map[name]*list.Element // of *item
	recent *list.List             // most recently used first
	memory int64
	disk   int64
	writes chan *item // nil without a folder
	done   sync.WaitGroup
}

// name is a hash of everything that KV depends on: the model, who asks, adapter, the tokens before, the tokens. What other models
// left in the folder is never found, and leaves it like everything that isn't used.
type name [sha256.Size]byte

// item is one thing on the shelf: in memory, on disk or both.
type item struct {
	name   name
	line   name    // hash of the line; zero for a passage
	tokens []Token // of a prefix; nil for a passage
	state  State   // Bytes is nil when it is only on disk
	onDisk int64   // bytes there
	used   time.Time
}

func (s *shelf) nameOf(line string, before, tokens []Token) name {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d ", s.model, line, len(before))
	_ = binary.Write(h, binary.LittleEndian, before)
	_ = binary.Write(h, binary.LittleEndian, tokens)
	return name(h.Sum(nil))
}

func (s *shelf) lineName(line string) name {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q", s.model, line))
}

// newShelf opens a model's shelf. What a folder holds of earlier runs is there again.
func newShelf(model string, c CacheConfig) (*shelf, error) {
	s := &shelf{model: model, dir: c.Dir, diskLimit: c.Disk, memoryLimit: c.Memory, items: map[name]*list.Element{}, recent: list.New()}
	if s.dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for computed passages: %w", err)
	}
	if err := s.scan(); err != nil {
		return nil, err
	}
	s.trim()
	if s.diskLimit == 0 {
		return s, nil
	}
	s.writes = make(chan *item, 64)
	s.done.Go(func() {
		for it := range s.writes {
			s.write(it)
		}
	})
	return s, nil
}

// close writes what is still to be written.
func (s *shelf) close() {
	if s.writes != nil {
		close(s.writes)
		s.done.Wait()
	}
}

// size is the bytes in memory.
func (s *shelf) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory
}

// get returns what is in memory under a name.
func (s *shelf) get(n name) (State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.items[n]
	if e == nil || e.Value.(*item).state.Bytes == nil {
		return State{}, false
	}
	s.use(e)
	return e.Value.(*item).state, true
}

func (s *shelf) use(e *list.Element) {
	s.recent.MoveToFront(e)
	e.Value.(*item).used = time.Now()
}

// put takes a passage, or the prefix of a line with its tokens. keep says that it is worth the disk.
func (s *shelf) put(n name, line name, tokens []Token, state State, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(state.Bytes))
	if size > s.memoryLimit {
		return
	}
	e := s.items[n]
	if e == nil {
		e = s.recent.PushFront(&item{name: n, line: line, tokens: tokens})
		s.items[n] = e
	}
	it := e.Value.(*item)
	if it.state.Bytes == nil {
		it.state = state
		s.memory += size
	}
	s.use(e)
	s.shrink()
	if keep && it.onDisk == 0 && s.writes != nil {
		select {
		case s.writes <- &item{name: n, line: line, tokens: tokens, state: state}:
		default: // the disk is slower than we compute: what is not written is computed again some day
		}
	}
}

// shrink takes the least recently used out of memory, and forgets what is nowhere any more.
func (s *shelf) shrink() {
	for e := s.recent.Back(); e != nil && s.memory > s.memoryLimit; {
		it, before := e.Value.(*item), e.Prev()
		if it.state.Bytes != nil {
			s.memory -= int64(len(it.state.Bytes))
			it.state.Bytes = nil
			if it.onDisk == 0 {
				s.drop(e)
			}
		}
		e = before
	}
}

func (s *shelf) drop(e *list.Element) {
	it := e.Value.(*item)
	if it.state.Bytes != nil {
		s.memory -= int64(len(it.state.Bytes))
	}
	s.recent.Remove(e)
	delete(s.items, it.name)
}

// match finds the prefix of a line that shares most leading tokens with a prompt, and how many.
func (s *shelf) match(line name, prompt []Token) (n name, shared int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.recent.Front(); e != nil; e = e.Next() {
		it := e.Value.(*item)
		if it.tokens == nil || it.line != line {
			continue
		}
		if c := CommonPrefix(it.tokens, prompt); c > shared {
			n, shared = it.name, c
		}
	}
	return n, shared
}

// forget takes away what turned out to be unreadable.
func (s *shelf) forget(n name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.items[n]; e != nil {
		s.disk -= e.Value.(*item).onDisk
		s.drop(e)
	}
	if s.dir != "" {
		_ = os.Remove(s.path(n))
	}
}

// warmPrefix reads the prefix that a prompt shares most with from disk into memory, if it is worth it.
func (s *shelf) warmPrefix(line string, prompt []Token) {
	if s.writes == nil {
		return // nothing is only on disk
	}
	if n, shared := s.match(s.lineName(line), prompt); shared > worthWaiting {
		s.warm(n)
	}
}

// warm reads things from disk into memory; callers do so before the loop needs them.
func (s *shelf) warm(names ...name) {
	for _, n := range names {
		s.mu.Lock()
		e := s.items[n]
		cold := e != nil && e.Value.(*item).state.Bytes == nil
		s.mu.Unlock()
		if !cold {
			continue
		}
		it, err := readItem(s.path(n), true)
		if err != nil {
			s.forget(n)
			continue
		}
		now := time.Now()
		_ = os.Chtimes(s.path(n), now, now) // the next run knows what was used last
		s.put(n, it.line, it.tokens, it.state, false)
	}
}

const (
	shelfMagic  = "quipu KV 1\n"
	shelfSuffix = ".kv"
	shelfHalf   = ".part" // of a file that is being written
)

func (s *shelf) path(n name) string {
	return filepath.Join(s.dir, hex.EncodeToString(n[:])+shelfSuffix)
}

// scan lists what earlier runs left, and sweeps what a kill left half written.
func (s *shelf) scan() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var found []*item
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		if strings.HasSuffix(entry.Name(), shelfHalf) {
			_ = os.Remove(path)
			continue
		}
		if !strings.HasSuffix(entry.Name(), shelfSuffix) {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue
		}
		it, err := readItem(path, false)
		if err != nil {
			_ = os.Remove(path)
			continue
		}
		it.onDisk, it.used = info.Size(), info.ModTime()
		found = append(found, it)
	}
	slices.SortFunc(found, func(a, b *item) int { return b.used.Compare(a.used) })
	for _, it := range found {
		s.items[it.name] = s.recent.PushBack(it)
		s.disk += it.onDisk
	}
	return nil
}

// write puts an item on disk, whole or not at all, and makes room there.
func (s *shelf) write(it *item) {
	s.mu.Lock()
	e := s.items[it.name]
	written := e != nil && e.Value.(*item).onDisk > 0
	s.mu.Unlock()
	if written {
		return // it was put twice
	}
	b := it.encode()
	if writeWhole(s.path(it.name), b) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.items[it.name]; e != nil {
		e.Value.(*item).onDisk = int64(len(b))
	} else { // memory let go of it meanwhile
		it.state.Bytes, it.onDisk, it.used = nil, int64(len(b)), time.Now()
		s.items[it.name] = s.recent.PushFront(it)
	}
	s.disk += int64(len(b))
	s.trim()
}

// writeWhole writes a file for its owner, whole or not at all. What a kill leaves half written, scan sweeps.
func writeWhole(path string, b []byte) error {
	part := path + shelfHalf
	err := os.WriteFile(part, b, 0o600)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

// trim takes the least recently used from disk until the rest fits; who holds mu calls it.
func (s *shelf) trim() {
	for e := s.recent.Back(); e != nil && s.disk > s.diskLimit; {
		old, before := e.Value.(*item), e.Prev()
		if old.onDisk > 0 {
			_ = os.Remove(s.path(old.name))
			s.disk -= old.onDisk
			if old.onDisk = 0; old.state.Bytes == nil {
				s.drop(e)
			}
		}
		e = before
	}
}

// A file is the magic, a head, the tokens, the state, and a CRC-32C of head and tokens and one of everything before it.
type itemHead struct {
	Name, Line name
	From, N    int32
	Tokens     int32 // -1 for a passage
	Bytes      int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (it *item) encode() []byte {
	head := itemHead{Name: it.name, Line: it.line, From: int32(it.state.From), N: int32(it.state.N), Tokens: -1, Bytes: int64(len(it.state.Bytes))}
	if it.tokens != nil {
		head.Tokens = int32(len(it.tokens))
	}
	var b bytes.Buffer
	b.WriteString(shelfMagic)
	_ = binary.Write(&b, binary.LittleEndian, head)
	_ = binary.Write(&b, binary.LittleEndian, it.tokens)
	_ = binary.Write(&b, binary.LittleEndian, crc32.Checksum(b.Bytes(), castagnoli))
	b.Write(it.state.Bytes)
	_ = binary.Write(&b, binary.LittleEndian, crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

var errShelf = errors.New("not a file of computed passages, or damaged")

// readItem reads a file; with whole also its state.
func readItem(path string, whole bool) (*item, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errShelf, err)
	}
	var head itemHead
	fixed := len(shelfMagic) + binary.Size(head)
	b := make([]byte, fixed)
	if _, err := f.ReadAt(b, 0); err != nil || string(b[:len(shelfMagic)]) != shelfMagic {
		return nil, errors.Join(errShelf, err)
	}
	if _, err := binary.Decode(b[len(shelfMagic):], binary.LittleEndian, &head); err != nil {
		return nil, err
	}
	tokens := int64(max(head.Tokens, 0))
	if head.Bytes < 0 || head.From < 0 || head.N < 0 || int64(fixed)+4*tokens+4+head.Bytes+4 != info.Size() {
		return nil, errShelf
	}
	n := int64(fixed) + 4*tokens + 4
	if whole {
		n = info.Size()
	}
	b = make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	front := b[:int64(fixed)+4*tokens]
	sums := func(part []byte, at int) bool {
		return crc32.Checksum(part, castagnoli) == binary.LittleEndian.Uint32(b[at:])
	}
	if !sums(front, len(front)) || whole && !sums(b[:len(b)-4], len(b)-4) {
		return nil, errShelf
	}
	it := &item{name: head.Name, line: head.Line, state: State{From: int(head.From), N: int(head.N)}}
	if head.Tokens >= 0 {
		it.tokens = make([]Token, tokens)
		if _, err := binary.Decode(front[fixed:], binary.LittleEndian, it.tokens); err != nil {
			return nil, err
		}
	}
	if whole {
		it.state.Bytes = b[len(front)+4 : len(b)-4]
	}
	return it, nil
}
