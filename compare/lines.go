package compare

import (
	"bytes"
	"fmt"
)

// contentMax is the largest file whose contents are compared.
const contentMax = 16 << 20

// describe says how the content of a file changed.
func describe(old, news []byte) string {
	if isText(old) && isText(news) {
		return describeText(old, news)
	}
	at := commonPrefix(old, news)
	text := fmt.Sprintf("%d bytes became %d, the first difference at byte %d", len(old), len(news), at)
	if len(old) == len(news) {
		n := 0
		for i := range old {
			if old[i] != news[i] {
				n++
			}
		}
		text = fmt.Sprintf("%s of %d differ, the first at byte %d", count(n, "byte"), len(old), at)
	}
	return text
}

func isText(b []byte) bool { return bytes.IndexByte(b[:min(len(b), 8<<10)], 0) < 0 }

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// describeText counts lines.
func describeText(old, news []byte) string {
	a, b := lines(old), lines(news)
	first := 0
	for first < len(a) && first < len(b) && bytes.Equal(a[first], b[first]) {
		first++
	}
	a, b = a[first:], b[first:]
	for len(a) > 0 && len(b) > 0 && bytes.Equal(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	added, removed := lineChanges(a, b)
	text := ""
	switch {
	case added > 0 && removed > 0:
		text = fmt.Sprintf("%s added, %d removed, from line %d on", count(added, "line"), removed, first+1)
	case added > 0:
		text = fmt.Sprintf("%s added, from line %d on", count(added, "line"), first+1)
	case removed > 0:
		text = fmt.Sprintf("%s removed, from line %d on", count(removed, "line"), first+1)
	}
	if bytes.Equal(squeeze(old), squeeze(news)) {
		text += "; only white space differs"
	}
	return text
}

// lines are the lines of b with their ends, so that a missing last newline is a
// difference.
func lines(b []byte) [][]byte {
	list := bytes.SplitAfter(b, []byte("\n"))
	if len(list[len(list)-1]) == 0 {
		list = list[:len(list)-1]
	}
	return list
}

// squeeze is b without white space.
func squeeze(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, b)
}

// editsMax bounds the work that lineChanges puts into being exact.
const editsMax = 2000

// lineChanges is how many lines of b are not in a, and of a not in b, in order:
// by Myers' algorithm up to editsMax of them, and beyond that without order.
func lineChanges(a, b [][]byte) (added, removed int) {
	ids := map[string]int32{}
	number := func(list [][]byte) []int32 {
		n := make([]int32, len(list))
		for i, l := range list {
			id, ok := ids[string(l)]
			if !ok {
				id = int32(len(ids))
				ids[string(l)] = id
			}
			n[i] = id
		}
		return n
	}
	x, y := number(a), number(b)
	if d := edits(x, y); d >= 0 {
		// d = added + removed, and added - removed is known.
		return (d + len(y) - len(x)) / 2, (d - len(y) + len(x)) / 2
	}
	have := make([]int, len(ids))
	for _, id := range x {
		have[id]++
	}
	common := 0
	for _, id := range y {
		if have[id] > 0 {
			have[id]--
			common++
		}
	}
	return len(y) - common, len(x) - common
}

// edits is the length of the shortest list of lines to add and remove that
// makes b of a; -1 if it is more than editsMax.
func edits(a, b []int32) int {
	n, m := len(a), len(b)
	limit := min(n+m, editsMax)
	v := make([]int, 2*limit+3) // furthest x on diagonal k, at v[k+limit+1]
	at := limit + 1
	for d := 0; d <= limit; d++ {
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || k != d && v[at+k-1] < v[at+k+1] {
				x = v[at+k+1]
			} else {
				x = v[at+k-1] + 1
			}
			y := x - k
			for x < n && y < m && x >= 0 && y >= 0 && a[x] == b[y] {
				x, y = x+1, y+1
			}
			v[at+k] = x
			if x >= n && y >= m {
				return d
			}
		}
	}
	return -1
}
