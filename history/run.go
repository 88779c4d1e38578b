package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/internal/fields"
)

// A Verdict is how a run ended, as far as the cache goes.
type Verdict uint8

// The verdicts. Their values are on the disk.
const (
	Hit     Verdict = 1 // nothing ran
	Kept    Verdict = 2 // it ran, and its result was stored
	NotKept Verdict = 3 // it ran, and Run.Unkept says why its result was not stored
	Broken  Verdict = 4 // we could not say what the command does: Run.Unkept says why
)

// String is the verdict in a word, as history prints it.
func (v Verdict) String() string {
	switch v {
	case Hit:
		return "hit"
	case Kept:
		return "run"
	case NotKept:
		return "unkept"
	case Broken:
		return "broken"
	}
	return "unknown"
}

// A Lookup is what the cache said before a run.
type Lookup uint8

// What it said. The values are on the disk.
const (
	NotAsked   Lookup = 1 // the caller did not want what is in the cache
	Absent     Lookup = 2 // no result: a new action, a changed host, or trimmed
	Damaged    Lookup = 3 // a result that was damaged or lacked a blob
	Unreadable Lookup = 4 // the cache could not be read
	Found      Lookup = 5
	Failed     Lookup = 6 // a result of a command that failed, which the caller did not want
	Pruned     Lookup = 7 // a result of other inputs, of which nothing that was read differs
)

// ToolBuild is the Tool of the runs of components, which have a Label, and make
// nothing in their workspace.
const ToolBuild = "build"

// ToolCC is the Tool of the runs of compilers through the wrapper. Facts of theirs
// may name the workspace staging.BaseRoot.
const ToolCC = "cc"

// A Run is one run of an action.
type Run struct {
	Time time.Time     // when it began
	Took time.Duration // from the first to the last thing that we did for it
	Cost time.Duration // how long the command took; on a hit, when it ran

	// Key is the digest of the action under which its result is stored, and
	// Unsealed that of the same action without what it saw of the host's root
	// file system. They are equal where that does not matter, or was never
	// found out. Their size is not remembered: it is 0.
	Key, Unsealed action.Digest

	Verdict  Verdict
	Lookup   Lookup
	ExitCode int

	Miss   string // why it was not in the cache, if it was asked
	Unkept string // why the result was not stored, or what failed after it was

	Workspace string // the directory that outputs are relative to
	Label     string // what the user calls it, such as a target's name; may be empty
	Tool      string // which part of the program ran it: run, cc, …

	// Action, unsealed or not, and Command are what ran; nil of a hit. Result
	// is what is known of a result that was not stored; nil otherwise.
	Action  *action.Action
	Command *action.Command
	Result  *action.Result
}

// # The data of a run
//
// What package cache keeps as the data of a run is
//
//	u8 version, u8 verdict, u8 lookup
//	u took, u cost, in microseconds
//	u exit code
//	strings: tool, label, workspace, miss, unkept
//	strings: the canonical bytes of Action, Command and Result; empty where
//	         there is none
//
// where u is a varint and a string is a length and its bytes. A command that
// is too long for the record is a blob of the store, under the digest that the
// action has for it; then the string is empty. A result that is too long is
// left out. Later versions append fields: a reader passes by what follows.
const (
	runVersion = 1
	textMax    = 1 << 10 // of miss, unkept and label
	pathMax    = 4 << 10
	// partMax is how many bytes a command or a result may have in a record, so
	// that one is never longer than the store takes.
	partMax = 16 << 10
)

// clip shortens a text that only people read.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "…"
}

func (r *Run) encode(command []byte) []byte {
	b := make([]byte, 0, 256+len(r.Workspace)+len(command))
	b = append(b, runVersion, byte(r.Verdict), byte(r.Lookup))
	for _, d := range []time.Duration{r.Took, r.Cost} {
		b = binary.AppendUvarint(b, uint64(max(0, d.Microseconds())))
	}
	b = binary.AppendUvarint(b, uint64(uint32(r.ExitCode)))
	for _, s := range []string{clip(r.Tool, textMax), clip(r.Label, textMax), clip(r.Workspace, pathMax), clip(r.Miss, textMax), clip(r.Unkept, textMax)} {
		b = appendText(b, s)
	}
	var act, res []byte
	if r.Action != nil {
		act = r.Action.Marshal()
	}
	if r.Result != nil {
		res = r.Result.Marshal()
	}
	for _, p := range [][]byte{act, command, res} {
		if len(p) > partMax {
			p = nil
		}
		b = appendText(b, string(p))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Add appends r to the history of the store. A store that cannot be written
// has no history: the error wraps [cache.ErrUnwritable].
func Add(ctx context.Context, s *cache.Store, r *Run) error {
	var command []byte
	if r.Command != nil {
		if command = r.Command.Marshal(); len(command) > partMax {
			if _, err := s.PutBytes(ctx, r.Key.Function(), command); err != nil {
				return err
			}
		}
	}
	return s.AddRun(r.inStore(command))
}

// Record is what is appended to the history for a hit. It has no command.
func (r *Run) Record() ([]byte, error) { return r.inStore(nil).Record() }

func (r *Run) inStore(command []byte) *cache.Run {
	return &cache.Run{
		Time: r.Time, Function: r.Key.Function(), Key: r.Key.Bytes(), Unsealed: r.Unsealed.Bytes(), Data: r.encode(command),
	}
}

var errRun = errors.New("not a run")

// parse is the run that a record tells of. What it says of an action is as
// good as what was written: the store has checked the bytes.
func parse(rec *cache.Run) (*Run, error) {
	f := rec.Function
	key, err1 := action.Shortened(f, rec.Key, 0)
	unsealed, err2 := action.Shortened(f, rec.Unsealed, 0)
	p := &reader{fields.Reader{Rest: rec.Data}}
	head := p.Take(3)
	if err := errors.Join(err1, err2); err != nil || p.Bad || head[0] != runVersion {
		return nil, errRun
	}
	r := &Run{Time: rec.Time, Key: key, Unsealed: unsealed, Verdict: Verdict(head[1]), Lookup: Lookup(head[2])}
	r.Took, r.Cost = p.duration(), p.duration()
	r.ExitCode = int(int32(p.Uvarint()))
	for _, s := range []*string{&r.Tool, &r.Label, &r.Workspace, &r.Miss, &r.Unkept} {
		*s = p.Text()
	}
	act, command, res := p.Text(), p.Text(), p.Text()
	if p.Bad {
		return nil, errRun
	}
	var err error
	if act != "" {
		if r.Action, err = action.ParseAction([]byte(act), f); err != nil {
			return nil, fmt.Errorf("%w: %w", errRun, err)
		}
	}
	if command != "" {
		if r.Command, err = action.ParseCommand([]byte(command), f); err != nil {
			return nil, fmt.Errorf("%w: %w", errRun, err)
		}
	}
	if res != "" {
		if r.Result, err = action.ParseResult([]byte(res), f); err != nil {
			return nil, fmt.Errorf("%w: %w", errRun, err)
		}
	}
	return r, nil
}

// A reader reads the data of a run; after the first failure it returns zeros.
type reader struct{ fields.Reader }

// duration reads microseconds, of which there are no more than a Duration holds.
func (r *reader) duration() time.Duration {
	v := r.Uvarint()
	if v > uint64(math.MaxInt64/time.Microsecond) {
		r.Bad = true
		return 0
	}
	return time.Duration(v) * time.Microsecond
}
