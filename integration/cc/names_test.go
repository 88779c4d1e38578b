package cc

import (
	"bytes"
	"testing"
)

func TestNames(t *testing.T) {
	macro := []byte("__TIME__")
	for _, text := range []string{
		"", "_", "TIME__", "_TIME__", "__TIME__", "___TIME__", "x__TIME__y", "TIME__ __TIME__", "_TIME____TIME__", "__TIME_", "__TIMETIME__",
		"TIME__TIME__", "a\n__TIME__", "__TIMESTAMP__", "TIMETIME__\x00__TIME__",
	} {
		if have, want := names([]byte(text), macro), bytes.Contains([]byte(text), macro); have != want {
			t.Errorf("%q: %v, want %v", text, have, want)
		}
	}
}
