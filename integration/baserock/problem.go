package baserock

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with a tree of definitions.
type Problem struct {
	Place
	Text string
}

// A Place is where something is written: a file below the top of the tree, and
// the line and column, from 1 on. Line 0 is the file as a whole.
type Place struct {
	File         string
	Line, Column int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

func (p Problem) String() string { return p.Place.String() + ": " + p.Text }

// Problems are everything that is wrong with a tree, by file and line.
type Problems []Problem

// mostShown bounds what Error says.
const mostShown = 1000

// Error is one line for each problem; beyond a thousand, how many there are.
func (ps Problems) Error() string {
	lines := make([]string, 0, min(len(ps), mostShown)+2)
	for _, p := range ps[:min(len(ps), mostShown)] {
		lines = append(lines, p.String())
	}
	if more := len(ps) - mostShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	if len(ps) > 1 {
		lines = append(lines, fmt.Sprintf("%d problems", len(ps)))
	}
	return strings.Join(lines, "\n")
}

// sorted returns ps in the order of files and lines, each once.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Text, b.Text))
	})
	return slices.Compact(ps)
}
