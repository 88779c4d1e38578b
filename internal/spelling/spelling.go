// Package spelling says which of the names that exist is meant by one that does
// not, for errors that end in "is X meant?".
package spelling

import "strings"

// longest is the length of a name from which on nobody is helped: the names of
// files are no longer, and two texts of a million letters take an hour.
const longest = 255

// Nearest returns the one of names that is most like name, the first of equals,
// or "" if none is like it.
func Nearest(name string, names []string) string {
	best, most := "", max(len(name)/3, 1)
	for _, n := range names {
		if d := Distance(name, n, most); d <= most && d < max(len(name), len(n)) { // something is as it was
			best, most = n, d-1
		}
	}
	return best
}

// Distance is how many bytes must be added, removed or changed, or change places
// with the next, to make a b, without regard to case; more than most counts as
// most+1, and so does a name that nobody types.
func Distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most || len(a) > longest || len(b) > longest {
		return most + 1
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	// What it takes to make b[:j] of a[:i+1], and of what is shorter by one and two.
	row, last, older := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		row, last, older = older, row, last
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return min(row[len(b)], most+1)
}
