package cc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// A Trail says how a file was made last, and why it was not taken from the
// cache. It is kept as a note under a digest of the file's path:
//
//	sbx-action cc trail 1
//	when: RFC 3339
//	why: text
//	arg: quoted            each argument
//	env: quoted NAME=VALUE
//	dir: quoted
//
// Lines that are not understood are passed over.
type Trail struct {
	When time.Time
	Why  string
	Args []string
	Env  []string
	Dir  string
}

const trailHead = "sbx-action cc trail 1\n"

func trailKey(f action.Function, path string) action.Digest {
	return action.Sum(f, []byte("cc trail\x00"+path))
}

func (t *Trail) encode() []byte {
	b := []byte(trailHead)
	b = fmt.Appendf(b, "when: %s\nwhy: %q\ndir: %q\n", t.When.UTC().Format(time.RFC3339), t.Why, t.Dir)
	for _, a := range t.Args {
		b = fmt.Appendf(b, "arg: %q\n", a)
	}
	for _, e := range t.Env {
		b = fmt.Appendf(b, "env: %q\n", e)
	}
	return b
}

func decodeTrail(data []byte) (*Trail, bool) {
	rest, ok := strings.CutPrefix(string(data), trailHead)
	if !ok {
		return nil, false
	}
	t := &Trail{}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if name == "when" {
			t.When, _ = time.Parse(time.RFC3339, value)
			continue
		}
		text, err := strconv.Unquote(value)
		if err != nil {
			continue
		}
		switch name {
		case "why":
			t.Why = text
		case "dir":
			t.Dir = text
		case "arg":
			t.Args = append(t.Args, text)
		case "env":
			t.Env = append(t.Env, text)
		}
	}
	return t, true
}

// ReadTrail returns how the file at an absolute path was made last.
func ReadTrail(ctx context.Context, notes action.Notes, f action.Function, path string) (*Trail, error) {
	data, err := notes.Note(ctx, trailKey(f, path))
	if err != nil {
		return nil, err
	}
	t, ok := decodeTrail(data)
	if !ok {
		return nil, fmt.Errorf("the note about %s is not one of ours: %w", path, action.ErrMiss)
	}
	return t, nil
}

// LeaveTrail notes for each output of a miss why it was one: the fact that did
// not hold, or what is different in the call since the last time.
func (s *Session) LeaveTrail(ctx context.Context, d *Done) {
	if d.Cached {
		return
	}
	now := &Trail{When: time.Now(), Args: s.command.Arguments, Dir: s.call.Dir}
	for _, v := range s.command.Environment {
		now.Env = append(now.Env, v.Name+"="+v.Value)
	}
	for i, f := range d.Result.Files {
		if i == 8 {
			return
		}
		path := s.place(f.Path)
		now.Why = "it had not been made before"
		if d.Miss != nil {
			now.Why = d.Miss.Error()
			if s.view.base != "" {
				now.Why = strings.ReplaceAll(now.Why, s.view.stand+"/", s.view.base+"/")
			}
		}
		if last, err := ReadTrail(ctx, s.parts.Notes, s.parts.Function, path); err == nil {
			if change := now.since(last); change != "" {
				now.Why = change
			}
		} else if reasonOf(d.Miss) == "not seen before" {
			now.Why = "it had not been made before"
		}
		if d.Unkept != nil {
			now.Why += "; and the result could not be kept: " + d.Unkept.Error()
		}
		if err := s.parts.Notes.PutNote(ctx, trailKey(s.parts.Function, path), now.encode()); err != nil {
			return
		}
	}
}

// since says what is different from an earlier call, or "".
func (t *Trail) since(last *Trail) string {
	var changes []string
	for _, c := range []struct {
		what     string
		now, old []string
	}{{"argument", t.Args, last.Args}, {"variable", t.Env, last.Env}} {
		gone := without(c.old, c.now)
		come := without(c.now, c.old)
		switch {
		case len(gone) == 0 && len(come) == 0 && !slices.Equal(c.now, c.old):
			changes = append(changes, c.what+"s are in another order")
		case len(gone) == 1 && len(come) == 1:
			changes = append(changes, fmt.Sprintf("%s %q was %q", c.what, come[0], gone[0]))
		default:
			for _, g := range gone {
				changes = append(changes, fmt.Sprintf("%s %q is gone", c.what, g))
			}
			for _, n := range come {
				changes = append(changes, fmt.Sprintf("%s %q is new", c.what, n))
			}
		}
	}
	if t.Dir != last.Dir {
		changes = append(changes, fmt.Sprintf("the working directory is %q and was %q", t.Dir, last.Dir))
	}
	return strings.Join(changes, "; ")
}

// without returns what of list is not in other, counting.
func without(list, other []string) []string {
	other = slices.Clone(other)
	var out []string
	for _, s := range list {
		if i := slices.Index(other, s); i >= 0 {
			other = slices.Delete(other, i, i+1)
			continue
		}
		out = append(out, s)
	}
	return out
}
