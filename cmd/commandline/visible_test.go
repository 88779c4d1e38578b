package commandline

import "testing"

func TestVisible(t *testing.T) {
	for s, want := range map[string]string{
		"": "",
		"two\nlines,\ta tab, ünï, \u00a0, \ufffd": "two\nlines,\ta tab, ünï, \u00a0, \ufffd",
		"a\x1b[31m\r\x00\x7f":                     `a\x1b[31m\r\x00\x7f`,
		"\xff\u202e\u009b31m":                     `\xff\u202e\u009b31m`,
	} {
		if got := Visible(s); got != want {
			t.Errorf("Visible(%q) = %q, want %q", s, got, want)
		}
	}
}
