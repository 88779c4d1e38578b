package history

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

const fn = action.BLAKE3

func openStore(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// a request for an action that makes an output with a command.
func request(output string, args ...string) *action.Request {
	c := &action.Command{Arguments: args, OutputPaths: []string{output}}
	return &action.Request{Command: c, Action: &action.Action{Command: c.Digest(fn), InputRoot: action.Sum(fn, nil)}}
}

// result is that of a command that took 5 s.
func result(code int32) *action.Result {
	return &action.Result{ExitCode: code, Metadata: &action.Metadata{
		ExecutionStart: &action.Timestamp{Seconds: 10}, ExecutionCompleted: &action.Timestamp{Seconds: 15},
	}}
}

func add(t *testing.T, s *cache.Store, at int64, workspace string, r *Run) *Run {
	t.Helper()
	r.Time, r.Workspace, r.Tool = time.Unix(at, 0), workspace, "test"
	if err := Add(t.Context(), s, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func openBook(t *testing.T, s *cache.Store) *Book {
	t.Helper()
	b, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if b.Unreadable > 0 {
		t.Fatalf("%d records are unreadable", b.Unreadable)
	}
	return b
}

func TestOutcomes(t *testing.T) {
	req := request("out", "make", "out")
	key := req.Action.Digest(fn)
	gone := fmt.Errorf("it is gone: %w", action.ErrMiss)
	for _, c := range []struct {
		name string
		out  action.Outcome
		err  error
		want Run
	}{
		{"hit", action.Outcome{Cached: true, Result: result(0)}, nil, Run{Verdict: Hit, Lookup: Found, Cost: 5 * time.Second}},
		{"pruned", action.Outcome{Cached: true, Pruned: true, Result: result(0)}, nil, Run{Verdict: Hit, Lookup: Pruned, Cost: 5 * time.Second}},
		{"kept", action.Outcome{Miss: gone, Result: result(0)}, nil, Run{Verdict: Kept, Lookup: Absent, Miss: gone.Error(), Cost: 5 * time.Second}},
		{"failed", action.Outcome{Miss: gone, Result: result(3), Unkept: errors.New("no")}, nil, Run{Verdict: NotKept, Lookup: Absent, Miss: gone.Error(), ExitCode: 3, Unkept: "no", Cost: 5 * time.Second, Result: result(3)}},
		{"elsewhere", action.Outcome{Miss: gone, Result: result(0), Away: &action.Away{}}, nil, Run{Verdict: NotKept, Lookup: Absent, Miss: gone.Error(), Unkept: "it ran on another machine, which sees another root file system", Cost: 5 * time.Second, Result: result(0)}},
		{"failure not wanted", action.Outcome{Miss: action.FailedError(3), Result: result(0)}, nil, Run{Verdict: Kept, Lookup: Failed, Miss: action.FailedError(3).Error(), Cost: 5 * time.Second}},
		{"refreshed", action.Outcome{Result: result(0)}, nil, Run{Verdict: Kept, Lookup: NotAsked, Cost: 5 * time.Second}},
		{"unreadable", action.Outcome{Miss: errors.New("EIO"), Result: result(0)}, nil, Run{Verdict: Kept, Lookup: Unreadable, Miss: "EIO", Cost: 5 * time.Second}},
		{"broken", action.Outcome{Miss: gone}, errors.New("no sandbox"), Run{Verdict: Broken, Lookup: Absent, Miss: gone.Error(), Unkept: "no sandbox"}},
		{"blob gone", action.Outcome{Cached: true, Result: result(0)}, gone, Run{Verdict: Broken, Lookup: Found, Unkept: gone.Error(), Cost: 5 * time.Second}},
	} {
		c.out.Key = key
		s := openStore(t)
		add(t, s, 1, "/w", Of(req, &c.out, c.err))
		b := openBook(t, s)
		got := b.Runs[0]
		c.want.Time, c.want.Workspace, c.want.Tool = time.Unix(1, 0), "/w", "test"
		c.want.Key, _ = action.Shortened(fn, key.Bytes(), 0)
		c.want.Unsealed = c.want.Key
		if c.want.Verdict != Hit {
			c.want.Action, c.want.Command = req.Action, req.Command
		}
		if !reflect.DeepEqual(got, &c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, &c.want)
		}
	}
}

// kept is a run that was kept.
func kept(req *action.Request) *Run {
	return Of(req, &action.Outcome{Key: req.Action.Digest(fn), Miss: action.ErrMiss, Result: result(0)}, nil)
}

func times(list []*Run) string {
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintf(&b, "%d ", r.Time.Unix())
	}
	return strings.TrimSpace(b.String())
}

func TestFind(t *testing.T) {
	s := openStore(t)
	first := add(t, s, 1, "/w", kept(request("out/a.o", "cc", "a.c")))
	add(t, s, 2, "/w", kept(request("out/a.o", "cc", "-g", "a.c")))
	add(t, s, 3, "/other", kept(request("elsewhere", "cc", "a.c")))
	add(t, s, 4, "/w", kept(request("out/b.o", "cc", "b.c")))
	add(t, s, 5, "/w", kept(request("*.txt", "text")))
	hit := Of(request("out/a.o", "cc", "a.c"), &action.Outcome{Key: first.Key, Cached: true, Result: result(0)}, nil)
	add(t, s, 6, "/w", hit)
	b := openBook(t, s)
	for file, want := range map[string]string{
		"/w/out/a.o": "1 2 6", "/w/out/b.o": "4", "/w/out": "", "/other/out/a.o": "", "/other/elsewhere": "3",
		"/other/elsewhere/in/it": "3", "/w/x.txt": "5", "/w/sub/x.txt": "",
	} {
		if got := times(b.Making(t.Context(), file)); got != want {
			t.Errorf("%s is made by the runs %q, want %q", file, got, want)
		}
	}
	if got := times(b.Keyed(first.Key.Hash()[:10])); got != "1 6" {
		t.Errorf("by key: %q", got)
	}
	if got := times(b.Like(t.Context(), b.Runs[5])); got != "1 2 3" {
		t.Errorf("like the last: %q", got)
	}
	if got := times(b.Like(t.Context(), b.Runs[3])); got != "" {
		t.Errorf("like a run that is like none: %q", got)
	}
}

// TestLongCommand: a command that no record could hold is a blob.
func TestLongCommand(t *testing.T) {
	s := openStore(t)
	args := make([]string, 50_000)
	for i := range args {
		args[i] = fmt.Sprint("object", i)
	}
	add(t, s, 1, "/w", kept(request("out", args...)))
	b := openBook(t, s)
	_, c, err := b.Origin(t.Context(), b.Runs[0])
	if err != nil || len(c.Arguments) != len(args) {
		t.Fatalf("the command comes back as %v, %v", c, err)
	}
}

// TestHostileText: names of any bytes come back, and long texts are cut.
func TestHostileText(t *testing.T) {
	s := openStore(t)
	r := kept(request("out\n\x1b[31m", "echo", "\x1b]0;title\a"))
	r.Miss, r.Label = strings.Repeat("ü", 5000), "label"
	add(t, s, 1, "/w\nx", r)
	b := openBook(t, s)
	if got := b.Runs[0]; got.Workspace != "/w\nx" || len(got.Miss) > textMax || !strings.HasSuffix(got.Miss, "ü…") {
		t.Errorf("%+v", got)
	}
	if len(b.Making(t.Context(), "/w\nx/out\n\x1b[31m")) != 1 {
		t.Error("the output is not found")
	}
}

func FuzzRun(f *testing.F) {
	r := kept(request("out", "make"))
	r.Result = result(0)
	f.Add(r.encode(r.Command.Marshal()))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec := &cache.Run{Function: fn, Data: data}
		r, err := parse(rec)
		if err != nil {
			return
		}
		var command []byte
		if r.Command != nil {
			command = r.Command.Marshal()
		}
		again, err := parse(&cache.Run{Function: fn, Data: r.encode(command)})
		if err == nil && len(data) < textMax && !reflect.DeepEqual(r, again) {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}
