package commandline

import "testing"

func TestFit(t *testing.T) {
	const long = "Every word of this paragraph is short, but together they are wider than any terminal of 80 columns."
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"what fits stays as it is", "One line,\nand another.\n\n  an example  with a gap", "One line,\nand another.\n\n  an example  with a gap"},
		{
			"a paragraph is filled anew", "First.\n" + long + "\nLast.\n\nAnother one.",
			"First. Every word of this paragraph is short, but together they are wider than\nany terminal of 80 columns. Last.\n\nAnother one.",
		},
		{
			"a list goes on behind its gap", "name    " + long + "\nother   short",
			"name    Every word of this paragraph is short, but together they are wider than\n        any terminal of 80 columns.\nother   short",
		},
		{
			"what goes on below itself is filled with it", "name    " + long + "\n        Last.\nother   short\n        or so",
			"name    Every word of this paragraph is short, but together they are wider than\n        any terminal of 80 columns. Last.\nother   short\n        or so",
		},
		{
			"examples are not", "  " + long + "\n  and another",
			"  Every word of this paragraph is short, but together they are wider than any\n  terminal of 80 columns.\n  and another",
		},
		{
			"signs are counted, not bytes", "ééééé " + long[:73] + "\nand on",
			"ééééé " + long[:73] + "\nand on",
		},
		{
			"a word is never broken", "see https://example.org/a/path/that/is/wider/than/the/whole/terminal/and/stays/in/one/piece now",
			"see\nhttps://example.org/a/path/that/is/wider/than/the/whole/terminal/and/stays/in/one/piece\nnow",
		},
	} {
		if got := fit(c.text); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}
