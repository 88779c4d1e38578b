package staging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/internal/fields"
)

// # Notes of what was seen
//
// A note is the variants of one action, the last used first, in varints (uN,
// iN) and strings (a length and bytes):
//
//	u version, u digest function, u number of variants
//	a string: the boot until which change times in whole seconds count, as in
//	/proc/sys/kernel/random/boot_id; empty where there are none
//	for each variant
//	  32 bytes and u size: the digest of the canonical list
//	  u number of facts; for each
//	    u8 kind, u8 flags
//	    u how many bytes the path shares with the last one's, and the rest
//	    flagPerm:   u permissions; else they are the usual ones of the kind
//	    flagDigest: 32 bytes and u size
//	    flagText:   a string
//	    flagStat:   u device, u inode, i size, i mtime, i ctime, u mode
//	    flagSame:   as the stat data of the last absent path: it is that of
//	                the same directory
//
// The store has checked the bytes; a note that cannot be read is a miss.
const variantsVersion = 3

const (
	flagPerm = 1 << iota
	flagDigest
	flagText
	flagStat
	flagSame
)

// encodeVariants appends a note to b, which is empty and may have room.
func encodeVariants(b []byte, variants []variant) []byte {
	if len(variants) == 0 {
		return nil
	}
	room := 64
	for i := range variants {
		room += 64 + 80*len(variants[i].seen)
	}
	b = binary.AppendUvarint(slices.Grow(b, room), variantsVersion)
	b = binary.AppendUvarint(b, uint64(variants[0].seal.Function()))
	b = binary.AppendUvarint(b, uint64(len(variants)))
	boot := ""
	if slices.ContainsFunc(variants, variant.inSeconds) {
		boot = durable.BootID()
	}
	b = fields.AppendText(b, boot)
	for _, v := range variants {
		b = appendHash(b, v.seal)
		b = binary.AppendUvarint(b, uint64(len(v.seen)))
		last, gone := "", &seen{}
		for i := range v.seen {
			s := &v.seen[i]
			b = s.append(b, last, gone)
			last = s.path
			if s.kind == seenAbsent {
				gone = s
			}
		}
	}
	return b
}

// inSeconds says whether something in v counts because of a time in whole seconds.
func (v variant) inSeconds() bool {
	return slices.ContainsFunc(v.seen, func(s seen) bool { return s.stable && inSeconds(s.id.CTime) })
}

func appendHash(b []byte, d action.Digest) []byte {
	sum := d.Bytes()
	return binary.AppendUvarint(append(b, sum[:]...), uint64(d.Size()))
}

func (s *seen) append(b []byte, last string, gone *seen) []byte {
	flags := byte(0)
	if s.perm != usualPerm(s.kind) {
		flags |= flagPerm
	}
	if !s.digest.IsZero() {
		flags |= flagDigest
	}
	if s.text != "" {
		flags |= flagText
	}
	switch {
	case s.stable && s.kind == seenAbsent && gone.stable && s.id == gone.id && dirOf(s.path) == dirOf(gone.path):
		flags |= flagSame
	case s.stable:
		flags |= flagStat
	}
	n := 0
	for n < len(last) && n < len(s.path) && last[n] == s.path[n] {
		n++
	}
	b = append(b, byte(s.kind), flags)
	b = binary.AppendUvarint(b, uint64(n))
	b = fields.AppendText(b, s.path[n:])
	if flags&flagPerm != 0 {
		b = binary.AppendUvarint(b, uint64(s.perm))
	}
	if flags&flagDigest != 0 {
		b = appendHash(b, s.digest)
	}
	if flags&flagText != 0 {
		b = fields.AppendText(b, s.text)
	}
	if flags&flagStat != 0 {
		b = binary.AppendUvarint(b, s.id.Dev)
		b = binary.AppendUvarint(b, s.id.Ino)
		b = binary.AppendVarint(b, s.id.Size)
		b = binary.AppendVarint(b, s.id.MTime)
		b = binary.AppendVarint(b, s.id.CTime)
		b = binary.AppendUvarint(b, uint64(s.id.Mode))
	}
	return b
}

// usualPerm is what is not written down: nearly all files and directories of a
// host have these permissions.
func usualPerm(k seenKind) uint32 {
	switch k {
	case seenFile:
		return 0o644
	case seenDir, seenList:
		return 0o755
	}
	return 0
}

var errBadNote = errors.New("not a list of what was seen")

// A noteReader reads a note; after the first failure it returns zeros.
type noteReader struct {
	fields.Reader
	f    action.Function // of the digests
	over bool            // the boot is over in which it was written
}

func (r *noteReader) digest() action.Digest {
	sum := r.Take(32)
	size := r.Uvarint()
	if r.Bad {
		return action.Digest{}
	}
	d, err := action.NewDigest(r.f, [32]byte(sum), int64(size))
	r.Bad = r.Bad || err != nil
	return d
}

// decodeVariants returns the first variants of a note, at most so many.
func decodeVariants(data []byte, most int) ([]variant, error) {
	r := &noteReader{Reader: fields.Reader{Rest: data}}
	if v := r.Uvarint(); v != variantsVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errBadNote, v, variantsVersion)
	}
	r.f = action.Function(r.Uvarint())
	n := r.Uvarint()
	boot := r.Text()
	if r.Bad || n == 0 || n > maxShared {
		return nil, errBadNote
	}
	r.over = boot != "" && boot != durable.BootID()
	variants := make([]variant, min(int(n), most))
	for i := range variants {
		variants[i].seal = r.digest()
		count := r.Uvarint()
		if r.Bad || count > uint64(len(r.Rest)) { // a fact takes more than a byte
			return nil, errBadNote
		}
		variants[i].seen = make([]seen, count)
		var last, gone seen
		for j := range variants[i].seen {
			s := r.seen(last.path, gone)
			variants[i].seen[j] = s
			last = s
			if s.kind == seenAbsent {
				gone = s
			}
		}
	}
	if r.Bad || len(r.Rest) > 0 && len(variants) == int(n) {
		return nil, errBadNote
	}
	return variants, nil
}

func (r *noteReader) seen(last string, gone seen) seen {
	head := r.Take(2)
	shared := r.Uvarint()
	rest := r.Take(r.Uvarint())
	if r.Bad || shared > uint64(len(last)) {
		r.Bad = true
		return seen{}
	}
	s := seen{kind: seenKind(head[0]), path: last[:shared] + string(rest)}
	s.perm = usualPerm(s.kind)
	if head[1]&flagPerm != 0 {
		s.perm = uint32(r.Uvarint())
	}
	if head[1]&flagDigest != 0 {
		s.digest = r.digest()
	}
	if head[1]&flagText != 0 {
		s.text = string(r.Take(r.Uvarint()))
	}
	if head[1]&flagStat != 0 {
		s.stable = true
		s.id = StatID{
			Dev: r.Uvarint(), Ino: r.Uvarint(), Size: r.Varint(), MTime: r.Varint(), CTime: r.Varint(), Mode: uint32(r.Uvarint()),
		}
		s.stable = !r.over || !inSeconds(s.id.CTime)
	}
	if head[1]&flagSame != 0 {
		s.id, s.stable = gone.id, gone.stable
	}
	return s
}
