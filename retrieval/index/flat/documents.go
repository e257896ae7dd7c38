package flat

import "hash/maphash"

// place says where a document's rows are.
type place struct {
	slot, from, rows int32
}

// documents is a map of documents to their places that never changes: what changes it makes another one, which shares all but
// a few kilobytes with it. It is a tree of two levels by the bits of the name's hash; with a million documents a leaf has 60.
type documents struct {
	seed maphash.Seed
	root *[fan]*branch
}

const fan = 128

type branch [fan][]entry

type entry struct {
	hash     uint64
	document string
	place    place
}

func newDocuments() documents { return documents{seed: maphash.MakeSeed(), root: &[fan]*branch{}} }

func (d documents) find(document string) (place, bool) {
	hash := maphash.String(d.seed, document)
	b := d.root[hash%fan]
	if b == nil {
		return place{}, false
	}
	for _, e := range b[hash/fan%fan] {
		if e.hash == hash && e.document == document {
			return e.place, true
		}
	}
	return place{}, false
}

// with says where a document is now; nil: nowhere.
func (d documents) with(document string, at *place) documents {
	hash := maphash.String(d.seed, document)
	root := *d.root
	var b branch
	if old := root[hash%fan]; old != nil {
		b = *old
	}
	old := b[hash/fan%fan]
	leaf := make([]entry, 0, len(old)+1)
	for _, e := range old {
		if e.hash != hash || e.document != document {
			leaf = append(leaf, e)
		}
	}
	if at != nil {
		leaf = append(leaf, entry{hash, document, *at})
	}
	b[hash/fan%fan] = leaf
	root[hash%fan] = &b
	return documents{d.seed, &root}
}
