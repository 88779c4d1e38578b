package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/reproduce"
)

// rounds is the flag --verify[=N]: how often to run again.
type rounds int

func (r *rounds) String() string { return strconv.Itoa(int(*r)) }

// IsBoolFlag lets the flag stand without a value.
func (*rounds) IsBoolFlag() bool { return true }

func (r *rounds) Set(text string) error {
	if text == "true" {
		*r = 1
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("want how often to run it again: --verify or --verify=N, N from 1 to 1000")
	}
	*r = rounds(n)
	return nil
}

// A checker runs an action again for --verify, before its result is stored, or
// after it was found in the cache. Without --verify it does nothing.
type checker struct {
	flags  *runFlags
	job    *job
	req    *action.Request
	start  time.Time
	report *reproduce.Report
	kept   error // why the mark could not be stored
}

func (f *runFlags) checker(j *job, req *action.Request, start time.Time) *checker {
	c := &checker{flags: f, job: j, req: req, start: start}
	if f.verify > 0 {
		req.Vet = c.vet
	}
	return c
}

// vet implements [action.Request]'s Vet.
func (c *checker) vet(ctx context.Context, out *action.Outcome) (*action.Verification, error) {
	if err := c.check(ctx, out.Result); err != nil {
		return nil, err
	}
	return c.verification(), nil
}

// result checks what was not vetted: a result from the cache, or one that is
// not stored.
func (c *checker) result(ctx context.Context, out *action.Outcome) error {
	if c.flags.verify == 0 || out.Result == nil || c.report != nil {
		return nil
	}
	if out.Result.ExitCode != 0 || len(out.Missing) > 0 {
		return nil // verdict says it
	}
	if out.Unkept != nil && c.flags.verifyFailed(out.Unkept) {
		return out.Unkept
	}
	interruptible(ctx)
	if c.req.Admit != nil {
		release, err := c.req.Admit(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := c.check(ctx, out.Result); err != nil {
		return err
	}
	if !out.Cached || c.flags.readOnly {
		return nil
	}
	out.Result = out.Result.WithVerification(c.verification())
	c.kept = c.job.parts.store.PutResult(ctx, out.Key, out.Result)
	return nil
}

// errVerify says that an action could not be run again.
var errVerify = errors.New("--verify")

func (f *runFlags) verifyFailed(err error) bool { return errors.Is(err, errVerify) }

func (c *checker) check(ctx context.Context, res *action.Result) error {
	j := c.job
	if b, err := j.parts.miss.Opened(); err != nil || !wiring.Basics(b).Vary {
		if err == nil {
			err = fmt.Errorf("the backend %s cannot change what a command sees of the world: use --backend native", b.Name())
		}
		return fmt.Errorf("%w: %w", errVerify, err)
	}
	took := history.Cost(res)
	r := &reproduce.Checker{
		Base:    reproduce.Base{Start: c.start, CPUs: runtime.NumCPU(), Locale: j.locale(), Took: took},
		Command: j.command, Blobs: j.parts.blobs, Rounds: int(c.flags.verify),
		Own: func(name string) bool {
			return slices.ContainsFunc(c.flags.env, func(s string) bool { return s == name || strings.HasPrefix(s, name+"=") })
		},
		Run: func(ctx context.Context, v *backends.Vary, cmd *action.Command) (*reproduce.Trial, error) {
			return c.again(ctx, v, cmd, 30*time.Second+20*took)
		},
		Say: c.flags.say,
	}
	report, err := r.Check(ctx, res)
	if err != nil {
		return fmt.Errorf("%w: %w", errVerify, err)
	}
	c.report = report
	return nil
}

// again runs the action under other conditions. A command that does not end in
// limit is killed: a wait that became one for ever is a difference, too.
func (c *checker) again(ctx context.Context, v *backends.Vary, cmd *action.Command, limit time.Duration) (*reproduce.Trial, error) {
	req := *c.req
	req.Command, req.Vary, req.Vet = cmd, v, nil
	req.Admit = nil // result and the runner have done that
	req.SkipLookup, req.SkipStore, req.Observe, req.Elsewhere, req.Prune = true, true, false, false, nil
	req.Stdout, req.Stderr = io.Discard, io.Discard
	req.Limits.Wall = max(limit, req.Limits.Wall)
	if req.Stdin != nil {
		if _, err := req.Stdin.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	out, err := c.job.runner.Run(ctx, &req)
	if err != nil {
		return nil, err
	}
	return &reproduce.Trial{Result: out.Result, TimedOut: out.Status.TimedOut, Unvaried: out.Status.Unvaried}, nil
}

// locale is one that the root file system has, if it is the host's: not C, and
// not one that is C but for the character set.
func (j *job) locale() string {
	dir, ok := j.parts.rootfs.HostPath("/usr/lib/locale")
	if !ok {
		return ""
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if l := localeName([]byte(e.Name())); l != "" {
			return l
		}
	}
	f, err := os.Open(filepath.Join(dir, "locale-archive"))
	if err != nil {
		return ""
	}
	defer f.Close()
	names, _ := io.ReadAll(io.LimitReader(f, 4<<20)) // they stand near its beginning
	for part := range bytes.SplitSeq(names, []byte{0}) {
		if l := localeName(part); l != "" {
			return l
		}
	}
	return ""
}

// localeName makes "de_CH.UTF-8" of "de_CH.utf8", and "" of what is no such name.
func localeName(name []byte) string {
	if s, ok := strings.CutSuffix(string(name), ".utf8"); ok && len(s) == 5 && s[2] == '_' {
		return s + ".UTF-8"
	}
	return ""
}

// verification is what the result remembers of the report.
func (c *checker) verification() *action.Verification {
	v := &action.Verification{Runs: c.report.Runs, Varied: c.report.Varied.Names()}
	for i := range c.report.Differences {
		v.Differences = append(v.Differences, c.report.Differences[i].String())
	}
	return v
}

// verdict says what came out; the error is for the exit code.
func (c *checker) verdict() error {
	r := c.report
	if r == nil {
		return nil
	}
	if r.Unvaried {
		c.flags.say("--verify: some of it could not be varied for each process; what depends on that may have passed")
	}
	if len(r.Differences) == 0 {
		c.flags.say("reproducible: %s gave the same, with another %s", times(r.Rounds), strings.Join(r.Varied.Names(), ", "))
		return nil
	}
	for i := range r.Differences {
		c.flags.say("not reproducible: %s", compare.Sentence(r.Differences[i].String()))
	}
	switch {
	case c.flags.noCache || c.flags.readOnly:
	case c.kept != nil:
		c.flags.say("the result in the cache could not be marked as not reproducible: %v", c.kept)
	default:
		c.flags.say("the result is marked as not reproducible: it is used here, and not shared with a remote cache")
	}
	return exitCode(exitOurs)
}

func times(n int) string {
	if n == 1 {
		return "one more run"
	}
	return fmt.Sprintf("%d more runs", n)
}

// jsonVerified is a report for programs.
type jsonVerified struct {
	Reproducible bool             `json:"reproducible"`
	Runs         int              `json:"runs"`
	Varied       []string         `json:"varied"`
	Differences  []jsonDifference `json:"differences,omitempty"`
}

type jsonDifference struct {
	Output string     `json:"output"`
	Where  string     `json:"where"`
	Causes [][]string `json:"causes"` // each is enough, and takes all its parts
	Chance bool       `json:"chance,omitempty"`
}

func verified(r *reproduce.Report) *jsonVerified {
	if r == nil {
		return nil
	}
	v := &jsonVerified{Reproducible: len(r.Differences) == 0, Runs: r.Runs, Varied: r.Varied.Names()}
	for _, d := range r.Differences {
		j := jsonDifference{Output: d.Output, Where: d.Where, Chance: d.Chance, Causes: [][]string{}}
		for _, c := range d.Causes {
			j.Causes = append(j.Causes, c.Names())
		}
		v.Differences = append(v.Differences, j)
	}
	return v
}
