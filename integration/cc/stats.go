package cc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// An Outcome is how a call ended, for statistics.
type Outcome string

// The outcomes.
const (
	Hit    Outcome = "hit"   // from the cache
	Miss   Outcome = "miss"  // the compiler ran in the sandbox, and the result was kept
	Unkept Outcome = "loss"  // the compiler ran in the sandbox, and the result could not be kept
	Failed Outcome = "fail"  // it failed, and was executed outside to say so itself
	Plain  Outcome = "plain" // executed as it is
	Broken Outcome = "trip"  // executed as it is, because something of ours went wrong

	Verified Outcome = "same"  // a hit that the compiler confirmed, besides being a hit
	Differed Outcome = "wrong" // a hit for which the compiler made something else
)

// An Event is one call, for statistics.
type Event struct {
	Outcome Outcome
	Reason  Reason
	Saved   time.Duration // what the compiler took when it ran
	Bytes   int64         // of the outputs
}

// The file of statistics is text. Each line is an outcome, a count, nanoseconds,
// bytes and a reason to the end of the line, with one space between them; calls
// append one with a count of 1. A line that does not look like that is passed
// over. What grows beyond statsMax is folded into one line per outcome and reason.
const (
	statsName = "cc1"
	statsMax  = 4 << 20
)

// AtOnce is the reason of a hit that the front answered: see internal/front.
const AtOnce Reason = "at once"

// StatsFile is the name of the file of statistics in its directory, and how large
// it may be before it has to be folded.
func StatsFile() (name string, most int64) { return statsName, statsMax }

// Line is what is appended to the file of statistics for the event.
func (e Event) Line() []byte { return appendEvent(nil, e, 1) }

// Record adds an event to the statistics in dir, which is made where it is missing if
// may says so. A failure loses the event.
func Record(dir string, e Event, may func() bool) {
	name := filepath.Join(dir, statsName)
	f, err := appendTo(name)
	if errors.Is(err, fs.ErrNotExist) && may() && os.MkdirAll(dir, 0o700) == nil {
		f, err = appendTo(name)
	}
	if err != nil {
		return
	}
	b := appendEvent(make([]byte, 0, 128), e, 1)
	_, err = f.Write(b)
	size, serr := f.Seek(0, 2)
	f.Close()
	if err == nil && serr == nil && size > statsMax {
		fold(name)
	}
}

func appendEvent(b []byte, e Event, count int64) []byte {
	b = append(b, e.Outcome...)
	for _, n := range []int64{count, int64(e.Saved), e.Bytes} {
		b = append(b, ' ')
		b = strconv.AppendInt(b, n, 10)
	}
	b = append(b, ' ')
	b = append(b, strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, string(e.Reason))...)
	return append(b, '\n')
}

// fold replaces the file by one that says the same in few lines. Who renames it
// does it; a line that is written at this very instant may be lost.
func fold(name string) {
	taken := fmt.Sprintf("%s.%d", name, os.Getpid())
	if os.Rename(name, taken) != nil {
		return
	}
	defer os.Remove(taken)
	data, err := durable.ReadRecords(taken)
	if err != nil {
		return
	}
	var b []byte
	for _, t := range parseStats(data).Lines {
		b = appendEvent(b, Event{t.Outcome, t.Reason, t.Saved, t.Bytes}, t.Count)
	}
	f, err := appendTo(name)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(b)
}

// appendTo opens the file of statistics. What is not one, such as a FIFO, is not
// waited for.
func appendTo(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
}

// A Total is the sum of the events of an outcome with a reason.
type Total struct {
	Outcome Outcome       `json:"outcome"`
	Reason  Reason        `json:"reason,omitempty"`
	Count   int64         `json:"count"`
	Saved   time.Duration `json:"nanoseconds"` // that the compiler took, or for a hit would have taken
	Bytes   int64         `json:"bytes"`
}

// Stats are the totals, the largest of each outcome first.
type Stats struct{ Lines []Total }

// ReadStats reads the statistics in dir. Where there are none, all is zero.
func ReadStats(dir string) (Stats, error) {
	data, err := durable.ReadRecords(filepath.Join(dir, statsName))
	if errors.Is(err, fs.ErrNotExist) {
		return Stats{}, nil
	}
	return parseStats(data), err
}

// ZeroStats forgets the statistics in dir.
func ZeroStats(dir string) error {
	err := os.Remove(filepath.Join(dir, statsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func parseStats(data []byte) Stats {
	type key struct {
		o Outcome
		r Reason
	}
	sums := map[key]*Total{}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if len(f) != 5 || !strings.HasSuffix(line, "\n") {
			continue
		}
		count, err1 := strconv.ParseInt(f[1], 10, 64)
		saved, err2 := strconv.ParseInt(f[2], 10, 64)
		bytes, err3 := strconv.ParseInt(f[3], 10, 64)
		o := Outcome(f[0])
		if errors.Join(err1, err2, err3) != nil || count <= 0 || !slices.Contains(outcomes, o) {
			continue
		}
		k := key{o, Reason(f[4])}
		if sums[k] == nil {
			sums[k] = &Total{Outcome: k.o, Reason: k.r}
		}
		sums[k].Count += count
		sums[k].Saved += time.Duration(saved)
		sums[k].Bytes += bytes
	}
	var s Stats
	for _, t := range sums {
		s.Lines = append(s.Lines, *t)
	}
	slices.SortFunc(s.Lines, func(a, b Total) int {
		if n := slices.Index(outcomes, a.Outcome) - slices.Index(outcomes, b.Outcome); n != 0 {
			return n
		}
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	return s
}

var outcomes = []Outcome{Hit, Miss, Unkept, Failed, Plain, Broken, Verified, Differed}

// Of is the sum of all events of an outcome.
func (s Stats) Of(o Outcome) Total {
	sum := Total{Outcome: o}
	for _, t := range s.Lines {
		if t.Outcome == o {
			sum.Count += t.Count
			sum.Saved += t.Saved
			sum.Bytes += t.Bytes
		}
	}
	return sum
}

// reasonOf puts an error into one of a few classes.
func reasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	text := err.Error()
	for _, c := range []struct {
		has  string
		says Reason
	}{
		{"no space for the cache", "no space for the cache"},
		{"the cache in ", "the cache cannot be written"},
		{"the cache is read-only", "the cache cannot be written"},
		{" has appeared", "a file appeared where one was looked for"},
		{" is gone", "an input is gone"},
		{" is not shown any more", "an input is gone"},
		{" has changed", "an input changed"},
		{"changed while the command ran", "an input changed meanwhile"},
		{errClock.Error(), "uses the date or time"},
		{string(ReasonTimes), ReasonTimes},
		{"have dates", ReasonTimes},
		{errRandom.Error(), ReasonReport},
		{"a socket, a FIFO or a device", "reads a socket, a FIFO or a device"},
		{"could not be observed", "could not be observed"},
		{"the last run failed", "failed before"},
		{"caching is off", "nothing is to be added"},
		{"is damaged", "an output in the cache was damaged"},
		{": not present", "not seen before"},
	} {
		if strings.Contains(text, c.has) {
			return c.says
		}
	}
	return "something else"
}

// Event is what to record of a call that ended with d.
func (d *Done) Event() Event {
	e := Event{Outcome: Miss, Reason: reasonOf(d.Miss)}
	switch {
	case d.Cached:
		e = Event{Outcome: Hit}
	case d.Unkept != nil:
		e = Event{Outcome: Unkept, Reason: reasonOf(d.Unkept)}
	case d.Miss == nil: // nothing was looked for
		e.Reason = ReasonRecache
	}
	if d.told && (e.Outcome == Hit || e.Outcome == Miss) {
		e.Reason = ReasonTold
	}
	of := HitOf(d.Result)
	e.Bytes, e.Saved = of.Bytes, of.Saved
	return e
}

// HitOf is the event of a hit with this result.
func HitOf(res *action.Result) Event {
	e := Event{Outcome: Hit, Saved: took(res)}
	for i := range res.Files {
		e.Bytes += res.Files[i].Digest.Size()
	}
	return e
}

// took is how long the command of a result ran.
func took(res *action.Result) time.Duration {
	m := res.Metadata
	if m == nil || m.ExecutionStart == nil || m.ExecutionCompleted == nil {
		return 0
	}
	return time.Duration(m.ExecutionCompleted.Seconds-m.ExecutionStart.Seconds)*time.Second +
		time.Duration(m.ExecutionCompleted.Nanos-m.ExecutionStart.Nanos)
}

// Why is the reason of a call that failed.
func (d *Done) Why() Reason {
	if d.Cached {
		return "failed before"
	}
	return "failed in the sandbox"
}

// Fault is what to record of a call that was executed because of err.
func Fault(err error) Event {
	for _, nobodys := range []struct {
		err error
		why Reason
	}{
		{errConcealed, ReasonConcealed},
		{ErrMixed, ReasonMixed},
		{errUnsaid, ReasonUnsaid},
		{errLinked, ReasonLinked},
		{errRights, ReasonRights},
		{errStream, ReasonStream},
		{errShown, ReasonShown},
		{errOutside, ReasonOutside},
		{errBarred, ReasonBarred},
		{errMachine, ReasonMachine},
		{errTimed, ReasonTimed},
		{errBuilds, ReasonTimes},
		{errItself, ReasonItself},
		{errMuch, ReasonMuch},
		{errLeft, ReasonLeft},
		{errKind, ReasonKind},
		{errEnded, ReasonEnded},
		{errUndone, ReasonUndone},
	} {
		if errors.Is(err, nobodys.err) {
			return Event{Outcome: Plain, Reason: nobodys.why}
		}
	}
	return Event{Outcome: Broken, Reason: brokenReason(err)}
}

func brokenReason(err error) Reason {
	switch {
	case errors.Is(err, ErrBlind):
		return "nothing can be observed here"
	case errors.Is(err, ErrPlain):
		return "cannot be reproduced"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	if number := syscall.Errno(0); errors.As(err, &number) {
		return Reason(number.Error())
	}
	return "error"
}

// Sampled says yes once in n times.
func Sampled(n int64) bool { return n <= 1 || rand.Int64N(n) == 0 }

// Differs says what of the results of two runs is different, or "".
func (s *Session) Differs(d, other *Done) string {
	switch a, b := d.Result, other.Result; {
	case a.ExitCode != b.ExitCode:
		return "the exit code"
	case !bytes.Equal(d.Stdout, other.Stdout):
		return "standard output"
	case !bytes.Equal(d.Stderr, other.Stderr):
		return "standard error"
	case len(a.Files) != len(b.Files):
		return "the number of outputs"
	case !slices.Equal(a.Symlinks, b.Symlinks):
		return "a symbolic link"
	default:
		for i := range a.Files {
			if a.Files[i].Path != b.Files[i].Path || a.Files[i].Digest != b.Files[i].Digest {
				return s.place(b.Files[i].Path)
			}
		}
	}
	return ""
}
