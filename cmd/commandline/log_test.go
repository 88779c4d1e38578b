package commandline

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLog(t *testing.T) {
	var b strings.Builder
	log := Log(&b, "sbx-action", slog.LevelWarn, false)
	log.Info("not shown")
	log.Warn("not noted", "err", errors.New("two\nlines"), "n", 3)
	log.With("a", "b").WithGroup("g").Error("broken", "k", "v")
	want := "sbx-action: warning: not noted: two lines, n 3\nsbx-action: error: broken, a b, g.k v\n"
	if b.String() != want {
		t.Errorf("it wrote %q, want %q", b.String(), want)
	}
	b.Reset()
	Log(&b, "p", slog.LevelWarn, true).Debug("shown")
	if b.String() != "p: debug: shown\n" {
		t.Errorf("verbose: it wrote %q", b.String())
	}
}
