package cc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// Parts are what a [Session] works with.
type Parts struct {
	Cache    action.Cache
	Blobs    action.Blobs
	Notes    action.Notes
	Locks    action.Locker
	Hash     *staging.FileHasher
	Function action.Function
	Empty    string                                  // where an empty directory can be made, for strict calls
	Backend  backends.Backend                        // may open what it needs on its first use
	Find     func(name, path string) (string, error) // of a program, without us: see [Self.Find]
	Log      *slog.Logger

	// Blind, where not nil, says why nothing can be observed here, as was found out
	// before, or "". It is asked on a miss.
	Blind func() string

	// Bare, where not nil, is called by a thread that is about to execute a compiler
	// outside of a sandbox: for what that inherits of the thread.
	Bare func()

	Large string // that of [staging.HostWitness]

	// More, where not nil, adds to Notes what others know of an action that no
	// note of ours fits, and says whether that was something.
	More func(ctx context.Context, a *action.Action) bool
}

// A Session is one call on its way through the cache. It is used once, by one
// goroutine.
type Session struct {
	parts   *Parts
	call    *Call
	view    *view
	action  *action.Action
	command *action.Command
	stdin   *os.File
	root    string    // of the project
	shared  string    // see Want
	told    *question // nil: inputs are observed
	witness *staging.HostWitness

	// Of a miss.
	binds    []backends.Bind
	listed   map[string]*listing // names in directories when the run began
	written  map[string]bool     // paths that the run wrote, as they are on the host
	files    map[string]bool     // those of them at which it left a regular file
	removed  []string            // files of the host that the run removed
	barred   string              // the permissions that it lacks, as where we are root we do not, and of what; or ""
	refused  error               // why the result must not be remembered
	aged     *ages               // see there
	unproven bool                // it left something else than an archive without times
	placed   string              // what shows that the result depends on where the project is
	start    time.Time
	heard    func() []byte   // what the command has said so far
	text     *[64 << 10]byte // see piece

	concealed concealment
	front     string            // what executes the compiler, or ""
	judged    bool              // foreign is known
	foreign   string            // see stranger
	anew      bool              // what was found out of earlier calls is not asked
	clocked   bool              // the call names a macro that says the time
	named     bool              // it, or a source, names __DATE__ or __TIME__
	began     time.Time         // when the run did
	stamp     staging.Moment    // the same, by the clock that files are stamped with
	input     []byte            // what comes on standard input, where that is in the key
	opened    []backends.Lookup // what the run looked up

	inside     bool // it read something in the renamed directory
	boundKnown bool // placed is known of a project at fixedRoot: see binding
	texts      bool // text is among the outputs that names its directory

	equals reading
}

// ErrPlain is wrapped by errors that mean that the call must be executed as it is:
// it ran, or could not run, in the sandbox, and nothing of that has reached anybody.
var ErrPlain = errors.New("it has to be executed outside")

// ErrBlind is wrapped by errors that mean that the call cannot be observed on this
// machine, and ErrIncapable by those of them that say so of all calls.
var (
	ErrBlind     = fmt.Errorf("nothing can be observed here: %w", ErrPlain)
	ErrIncapable = fmt.Errorf("the machine lacks what is needed: %w", ErrBlind)
)

var errUndone = fmt.Errorf("it removes or replaces what we do not reproduce: %w", ErrPlain)

// Options of a call that are not in its key.
type Options struct {
	Recache  bool // run it although there is a result
	ReadOnly bool // add nothing to the cache
}

// A Want is what a caller asks for in the place of the defaults.
type Want struct {
	Env    []action.EnvironmentVariable // from [Call.Environment]
	Args   []string                     // more arguments, at the end
	Front  []string                     // a program that executes the compiler, with its arguments
	Limits []string                     // strict: absolute directories that the call may see; nil: all
	Stdin  []byte                       // what comes on standard input, where Call.Stdin or Any
	Source *os.File                     // the same, to be read by the command; nil: /dev/null
	Shared string                       // a file that the call opens and that says nothing, absolute; or ""
	Root   string                       // the project's directory, with that of the call in it
	Place  Place
	Told   *question // see [Told]
	Names  *Renaming // of a call Aside: see [Call.Renamed]
}

// A Place says where a call sees its project.
type Place int

// The places.
const (
	Here     Place = iota // where it is, which is in the key
	Anywhere              // where it is, which is not in the key: see [Call.Movable]
	Fixed                 // at fixedRoot
	Aside                 // at asideRoot, which stands for a directory of whatever name: see [Call.Aside]
)

// NewSession describes a call. It says false where the call cannot run in a
// sandbox.
func NewSession(p *Parts, c *Call, w Want) (*Session, bool) {
	v, ok := newView(c, w)
	if !ok {
		return nil, false
	}
	s := &Session{parts: p, call: c, view: v, stdin: w.Source, root: w.Root, shared: w.Shared, told: w.Told, input: w.Stdin}
	if len(w.Front) > 0 {
		s.front = w.Front[0]
	}
	if len(w.Limits) > 0 {
		w.Place, v.empty = Here, p.Empty
	}
	args, env := slices.Concat(w.Front, c.Args, w.Args), w.Env
	if w.Names != nil {
		return s.renamed(w)
	}
	if _, ok := under(c.Dir, w.Root); !ok || w.Root == "" || w.Root == "/" {
		w.Place = Here // a configure script may well be elsewhere
	}
	switch w.Place {
	case Anywhere:
		v.base, v.stand = w.Root, baseRoot
		env = slices.DeleteFunc(slices.Clone(env), func(e action.EnvironmentVariable) bool { return e.Name == "PWD" })
	case Fixed, Aside:
		if v.base, v.stand = w.Root, fixedRoot; w.Place == Aside {
			v.stand = asideRoot
		}
		args, env = slices.Clone(args), slices.Clone(env)
		for i := range args {
			args[i] = moved(args[i], w.Root, v.stand)
		}
		for i := range env {
			if env[i].Name == "PWD" { // which may name it by way of a link
				env[i].Value = v.name(c.Dir)
			} else {
				env[i].Value = moved(env[i].Value, w.Root, v.stand)
			}
		}
	}
	s.describe(args, env, w)
	return s, true
}

// describe sets what is in the key of the call, and what looks at the host for it.
func (s *Session) describe(args []string, env []action.EnvironmentVariable, w Want) {
	p, c := s.parts, s.call
	s.command = &action.Command{Arguments: args, Environment: env, WorkingDirectory: s.view.name(c.Dir)[1:]}
	s.action = &action.Action{
		Command: s.command.Digest(p.Function), InputRoot: action.Sum(p.Function, nil), Platform: c.platform(p.Function, w),
	}
	s.clocked = s.compiles() && s.clockInCall(w.Stdin)
	s.witness = &staging.HostWitness{
		Notes: p.Notes, Host: s.host, Hash: p.Hash, Log: p.Log, Known: s.wasAbsent, Vet: s.vet, As: s.runsAs, Bars: s.bars(), Large: p.Large, Hold: true,
	}
	if s.compiles() {
		s.witness.Mark = clockMark
	}
}

// platform is what else is in the key of the call: besides its command, and what is
// found out that it reads.
func (c *Call) platform(f action.Function, w Want) []action.Property {
	platform := []action.Property{
		{Name: "OSFamily", Value: "linux"},
		{Name: "cc", Value: viewVersion},
		{Name: staging.RootfsProperty, Value: "host-in-place"},
	}
	if c.Native {
		platform = append(platform, action.Property{Name: "cpu", Value: processor()})
	}
	if slices.ContainsFunc(w.Env, func(v action.EnvironmentVariable) bool { return v.Name == epochName }) {
		platform = append(platform, action.Property{Name: "epoch", Value: epochVersion})
	}
	if w.Source != nil {
		platform = append(platform, action.Property{Name: "stdin", Value: action.Sum(f, w.Stdin).String()})
	}
	platform = append(platform, c.circumstances()...)
	if w.Names != nil {
		platform = append(platform, action.Property{Name: "renamed", Value: renamedVersion})
	}
	for _, d := range c.probes(f, w.Names) {
		platform = append(platform, action.Property{Name: "probe", Value: d.String()})
	}
	if w.Told != nil {
		platform = append(platform, action.Property{Name: toldProperty, Value: "1"})
	}
	for _, d := range w.Limits {
		platform = append(platform, action.Property{Name: "inputs", Value: d})
	}
	if w.Place == Fixed {
		platform = append(platform, action.Property{Name: "fixed", Value: fixedVersion})
	}
	slices.SortFunc(platform, func(a, b action.Property) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return strings.Compare(a.Value, b.Value)
	})
	return platform
}

// A Done is what a session ended with.
type Done struct {
	*action.Outcome
	Stdout, Stderr []byte

	told   bool           // the inputs are those that the compiler told
	story  *Session       // where it was kept; nil: by the session that ran it
	origin *action.Result // as it was kept there
}

// Story is what a miss was, for the history, with its outputs, absolute on the host.
func (s *Session) Story(d *Done) (*action.Request, []string) {
	if d.story != nil {
		s = d.story
		out := *d.Outcome
		out.Result = d.origin
		d.Outcome = &out
	}
	var outputs []string
	for i := range d.Result.Files {
		outputs = append(outputs, s.place(d.Result.Files[i].Path))
	}
	for i := range d.Result.Symlinks {
		outputs = append(outputs, s.place(d.Result.Symlinks[i].Path))
	}
	return &action.Request{Action: s.action, Command: s.command}, outputs
}

// Run finds the result of the call or makes it. Nothing is delivered: see
// [Session.Deliver]. A result with an exit code that is not 0 is only what the
// compiler says in a sandbox.
func (s *Session) Run(ctx context.Context, o Options) (done *Done, last error) {
	s.anew = o.Recache
	defer s.leavePiece()
	limited, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stdout, stderr := saying{abort: abort}, saying{abort: abort}
	s.heard = func() []byte { return slices.Concat(stdout.buf, stderr.buf) }
	out, err := s.runner().Run(limited, s.request(o, &stdout, &stderr))
	if cause := context.Cause(limited); errors.Is(cause, errMuch) {
		err = cause
	}
	if !o.ReadOnly {
		defer func() { s.notePlain(ctx, last) }()
	}
	if err != nil {
		if out.Started && out.Status == nil && s.told == nil && ctx.Err() == nil && !errors.Is(err, ErrPlain) {
			err = fmt.Errorf("%w; %w", err, ErrBlind) // there is no sandbox
		}
		return &Done{Outcome: out}, err
	}
	if out.Status != nil && (out.Status.Signal != 0 || out.Status.Start != nil) {
		err = errEnded
	}
	if out.Status != nil && err == nil {
		if s.told != nil && !s.judged && out.Status.Code == 0 { // it was not asked, to be sealed
			lookups, _ := s.lookupsTold(ctx)
			s.stranger(lookups)
		}
		if err := s.estranged(ctx, out.Status, o.ReadOnly); err != nil {
			return &Done{Outcome: out}, err
		}
		if err := s.bind(ctx, out.Status, o.ReadOnly); err != nil {
			return &Done{Outcome: out}, err
		}
		if err = s.withheld(ctx, out.Status, o.ReadOnly); err == nil {
			err = s.beyond(out.Status)
		}
	}
	if len(s.removed) > 0 && out.Result.ExitCode == 0 {
		err = errUndone
	}
	if !out.Cached && out.Unkept == nil {
		s.noteClean(ctx, out.Result)
	}
	d := &Done{Outcome: out, Stdout: stdout.buf, Stderr: stderr.buf, told: s.told != nil}
	s.nameReal(d)
	return d, err
}

// runner is the [action.Runner] of the call, of which the session itself is two parts.
func (s *Session) runner() *action.Runner {
	r := &action.Runner{
		Cache: s.parts.Cache, Blobs: s.parts.Blobs, Stager: s, Witness: s, Backend: s.parts.Backend,
		Locks: s.parts.Locks, Log: s.parts.Log,
	}
	if s.told != nil {
		r.Backend = bare{parts: s.parts}
	}
	return r
}

// request is what the runner is asked for.
func (s *Session) request(o Options, stdout, stderr io.Writer) *action.Request {
	dir := s.call.Dir
	if s.view.elsewhere() {
		dir = s.view.name(dir)
	}
	return &action.Request{
		Action: s.action, Command: s.command, Dir: dir, Stdin: s.stdin,
		Save:   func(context.Context) error { s.settle(); return nil },
		Stdout: stdout, Stderr: stderr,
		SkipLookup: o.Recache, SkipStore: o.ReadOnly, CacheFailures: true, Observe: s.told == nil, Network: s.network(),
		Umask: s.umask(), Caller: s.asCaller(),
	}
}

// nameReal names the directory that the call sees elsewhere in what the compiler said.
func (s *Session) nameReal(d *Done) {
	switch {
	case s.view.names != nil:
		d.Stdout, d.Stderr = []byte(s.view.names.real(string(d.Stdout))), []byte(s.view.names.real(string(d.Stderr)))
	case s.aside():
		d.Stdout, d.Stderr = s.backFromAside(d.Stdout), s.backFromAside(d.Stderr)
	case s.view.fixed():
		d.Stderr = back(d.Stderr, s.view.base)
		if !s.call.assembles() {
			d.Stdout = back(d.Stdout, s.view.base)
		}
	}
}

// network is none at all for a compiler, which makes no sockets, and one of its own
// for other programs.
func (s *Session) network() backends.Network {
	if s.call.Kind == Any {
		return backends.NetworkNone
	}
	return backends.NetworkSealed
}

// Find returns the result of the call if there is one. It runs nothing.
func (s *Session) Find(ctx context.Context) (*Done, bool) {
	sealed, err := s.Recall(ctx, s.action)
	if err != nil {
		return nil, false
	}
	key := sealed.Digest(s.parts.Function)
	res, err := s.parts.Cache.Result(ctx, key)
	if err != nil || res.ExitCode != 0 || res.Stdout.Size() > 0 || res.Stderr.Size() > 0 {
		return nil, false // large ones are left to Run
	}
	d := &Done{Outcome: &action.Outcome{Key: key, Result: res, Cached: true}, Stdout: res.StdoutRaw, Stderr: res.StderrRaw}
	s.nameReal(d)
	return d, true
}

// Again is a session for the same call.
func (s *Session) Again() *Session {
	again := *s
	again.binds, again.listed, again.written, again.files, again.removed, again.refused, again.aged = nil, nil, nil, nil, nil, nil, nil
	w := s.witness.Again()
	w.Known, w.Vet, w.Host = again.wasAbsent, again.vet, again.host
	again.concealed, again.judged, again.foreign = concealment{}, false, ""
	again.equals = reading{}
	again.placed, again.inside, again.boundKnown, again.texts = "", false, false, false
	again.witness = w
	v := *s.view
	again.view = &v
	if again.stdin != nil {
		_, _ = again.stdin.Seek(0, 0)
	}
	return &again
}

// Here is a result with its outputs at their places on the host, below "/".
func (s *Session) Here(ctx context.Context, res *action.Result) (*action.Result, error) {
	if s.view.base == "" {
		return res, nil
	}
	return s.here(ctx, res)
}

// Deliver writes the outputs of a result to their places.
func (s *Session) Deliver(ctx context.Context, res *action.Result) error {
	res, err := s.Here(ctx, res)
	if err != nil {
		return err
	}
	if err := staging.Deliver(ctx, s.parts.Blobs, res, staging.Workspace{Root: "/"}); err != nil {
		return err
	}
	return s.finish()
}

// runsAs is who the compiler is where we are root: see Stage.
func (s *Session) runsAs() string {
	id, _ := ownerOf(s.call.Dir)
	return strconv.Itoa(id)
}
