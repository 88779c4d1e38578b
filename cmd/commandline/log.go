package commandline

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// Log returns the log of a command that people call: a line for each message,
// "PROGRAM: warning: message: error, key value", without the time of a server's
// log. It shows what is at level or above; all of it if verbose.
func Log(w io.Writer, program string, level slog.Level, verbose bool) *slog.Logger {
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(&lines{w: w, program: program, level: level})
}

// lines writes each record with one call, so that the lines of several
// processes do not mix.
type lines struct {
	w       io.Writer
	program string
	level   slog.Level
	attrs   []slog.Attr
	group   string
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	kind := "debug"
	switch {
	case r.Level >= slog.LevelError:
		kind = "error"
	case r.Level >= slog.LevelWarn:
		kind = "warning"
	case r.Level >= slog.LevelInfo:
		kind = "note"
	}
	var cause string
	var rest strings.Builder
	add := func(group string, a slog.Attr) {
		if a.Key == "err" {
			cause = ": " + a.Value.String()
		} else {
			rest.WriteString(", " + group + a.Key + " " + a.Value.String())
		}
	}
	for _, a := range l.attrs {
		add("", a)
	}
	r.Attrs(func(a slog.Attr) bool { add(l.group, a); return true })
	text := l.program + ": " + kind + ": " + r.Message + cause + rest.String()
	_, err := io.WriteString(l.w, strings.ReplaceAll(text, "\n", " ")+"\n")
	return err
}

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	to := *l
	to.attrs = append([]slog.Attr(nil), l.attrs...)
	for _, a := range attrs {
		if a.Key != "err" {
			a.Key = l.group + a.Key
		}
		to.attrs = append(to.attrs, a)
	}
	return &to
}

func (l *lines) WithGroup(name string) slog.Handler {
	to := *l
	to.group += name + "."
	return &to
}
