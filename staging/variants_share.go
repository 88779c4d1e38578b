package staging

import (
	"slices"

	"github.com/sbx-action/sbx-action/action"
)

// maxShared is how many lists a note may have that was merged with others.
const maxShared = 64

// MergeNotes returns a note for other machines: the lists of the note first, and
// those of second that first lacks; more says that there are such. Either may be
// empty. What only this machine can use, stat data, is left out of all lists of
// second, and of first only where second adds something; so are lists of second with
// the name of a large file (see statcache_large.go). A list that does not
// have the digest that it says is an error: it was damaged, or is a lie.
func MergeNotes(first, second []byte) (merged []byte, more bool, err error) {
	var lists []variant
	for i, note := range [][]byte{first, second} {
		if len(note) == 0 {
			continue
		}
		variants, err := decodeVariants(note, maxShared)
		if err != nil {
			return nil, false, err
		}
		for _, v := range variants {
			if action.Sum(v.seal.Function(), canonical(nil, v.seen)) != v.seal {
				return nil, false, errBadNote
			}
			if i == 1 && slices.ContainsFunc(v.seen, func(s seen) bool { return s.kind == seenLarge }) {
				continue
			}
			if slices.ContainsFunc(lists, func(l variant) bool { return l.seal == v.seal }) {
				continue
			}
			if i == 1 {
				more = true
				for j := range v.seen {
					v.seen[j].id, v.seen[j].stable = StatID{}, false
				}
			}
			lists = append(lists, v)
		}
	}
	if len(lists) > maxShared { // the newest are at the end
		lists = lists[len(lists)-maxShared:]
	}
	return encodeVariants(nil, lists), more, nil
}
