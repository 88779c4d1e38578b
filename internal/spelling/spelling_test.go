package spelling

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	long := strings.Repeat("x", longest)
	for _, c := range []struct {
		a, b string
		want int // at most 2
	}{
		{"", "", 0},
		{"abc", "abc", 0},
		{"abc", "ABC", 0},
		{"abc", "abd", 1},
		{"abc", "ab", 1},
		{"ab", "ba", 1},
		{"src", "scr", 1},
		{"abcd", "badc", 2},
		{"ca", "abc", 3}, // what changed places is not changed again
		{"abc", "xyz", 3},
		{"a", "abcdef", 3},
		{"kitten", "sitting", 3},
		{long, long, 0},
		{long + "x", long + "x", 3},
	} {
		if got, back := Distance(c.a, c.b, 2), Distance(c.b, c.a, 2); got != c.want || back != c.want {
			t.Errorf("Distance(%.10q, %.10q) = %d, and the other way round %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"inputs", "outputs", "env", "output-dirs"}
	for name, want := range map[string]string{
		"input": "inputs", "Outputs": "outputs", "outptus": "outputs", "en": "env", "e": "", "xyz": "", "": "", "command": "",
	} {
		if got := Nearest(name, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
	if got := Nearest("a", []string{"b", "ab"}); got != "ab" {
		t.Errorf("of one letter: %q, want one that has it", got)
	}
	if got := Nearest("ab", []string{"ac", "ad"}); got != "ac" {
		t.Errorf("of two that are as near: %q, want the first", got)
	}
	if got := Nearest("a", []string{"b", "ab"}); got != "ab" {
		t.Errorf("of one letter: %q, want one that has it", got)
	}
	if got := Nearest("ab", []string{"ab", "ab "}); got != "ab" {
		t.Errorf("of the name itself and another: %q", got)
	}
}
