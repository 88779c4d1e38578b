package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// memory is a Cache, Blobs and Locker in maps: small, honest, and able to fail.
type memory struct {
	mu      sync.Mutex
	results map[Digest]*Result
	blobs   map[Digest][]byte
	locks   map[Digest]chan struct{}
	dir     string
	broken  error // what Result says
	full    error // what every put says
}

func newMemory(t *testing.T) *memory {
	return &memory{results: map[Digest]*Result{}, blobs: map[Digest][]byte{}, locks: map[Digest]chan struct{}{}, dir: t.TempDir()}
}

func (m *memory) Result(_ context.Context, key Digest) (*Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	res, ok := m.results[key]
	if !ok {
		return nil, fmt.Errorf("never ran: %w", ErrMiss)
	}
	return res, nil
}

func (m *memory) PutResult(_ context.Context, key Digest, res *Result) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full == nil {
		m.results[key] = res
	}
	return m.full
}

func (m *memory) Open(_ context.Context, d Digest) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[d]
	if !ok {
		return nil, ErrMiss
	}
	name := filepath.Join(m.dir, d.Hash())
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return nil, err
	}
	return os.Open(name)
}

func (m *memory) Put(ctx context.Context, d Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if got, err := m.PutBytes(ctx, d.Function(), data); err != nil || got != d {
		return fmt.Errorf("put %v: got %v, %w", d, got, err)
	}
	return nil
}

func (m *memory) PutBytes(_ context.Context, f Function, data []byte) (Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := Sum(f, data)
	if m.full == nil {
		m.blobs[d] = bytes.Clone(data)
	}
	return d, m.full
}

func (m *memory) PutFile(ctx context.Context, f Function, src *os.File) (Digest, error) {
	data, err := io.ReadAll(io.NewSectionReader(src, 0, 1<<40))
	if err != nil {
		return Digest{}, err
	}
	return m.PutBytes(ctx, f, data)
}

func (m *memory) Has(_ context.Context, d Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blobs[d]
	return ok
}

func (m *memory) Lock(ctx context.Context, key Digest) (func(), error) {
	m.mu.Lock()
	c, ok := m.locks[key]
	if !ok {
		c = make(chan struct{}, 1)
		m.locks[key] = c
	}
	m.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// plain runs commands as functions and stages nothing.
type plain struct {
	mu      sync.Mutex
	runs    int
	run     func(*backends.Spec) (*backends.Status, error)
	res     Result
	missing []Missing
	unseal  error
}

func (p *plain) Name() string                        { return "plain" }
func (p *plain) Capabilities() backends.Capabilities { return backends.Capabilities{Works: true} }
func (p *plain) Close() error                        { return nil }

func (p *plain) Run(_ context.Context, spec *backends.Spec) (*backends.Status, error) {
	p.mu.Lock()
	p.runs++
	p.mu.Unlock()
	dir, err := os.Open(os.TempDir())
	if err != nil {
		return nil, err
	}
	status, err := p.run(spec)
	if err != nil {
		dir.Close()
		return nil, err
	}
	status.Root = dir
	return status, nil
}

func (p *plain) Stage(context.Context, *Action, *Command) (backends.Root, error) {
	return backends.Root{}, nil
}

func (p *plain) Collect(context.Context, *backends.Status, *Command) (*Result, []Missing, error) {
	res := p.res
	return &res, p.missing, nil
}

func (p *plain) Recall(_ context.Context, a *Action) (*Action, error) { return a, nil }

func (p *plain) Seal(_ context.Context, a *Action, _ *backends.Status, _ time.Time) (*Action, error) {
	return a, p.unseal
}

func (p *plain) Clock() time.Time { return time.Now() }

func says(code int, out, errs string) func(*backends.Spec) (*backends.Status, error) {
	return func(spec *backends.Spec) (*backends.Status, error) {
		_, err1 := io.WriteString(spec.Stdout, out)
		_, err2 := io.WriteString(spec.Stderr, errs)
		return &backends.Status{Code: code}, errors.Join(err1, err2)
	}
}

func setup(t *testing.T, run func(*backends.Spec) (*backends.Status, error)) (*Runner, *memory, *plain) {
	m, p := newMemory(t), &plain{run: run}
	return &Runner{
		Cache: m, Blobs: m, Locks: m, Stager: p, Witness: p, Backend: p, Log: slog.New(slog.DiscardHandler),
	}, m, p
}

func request(stdout, stderr io.Writer) *Request {
	c := &Command{Arguments: []string{"x"}, Environment: []EnvironmentVariable{{"A", "1"}}}
	return &Request{
		Action:  &Action{Command: c.Digest(BLAKE3), InputRoot: Sum(BLAKE3, nil)},
		Command: c, Save: func(context.Context) error { return nil }, Stdout: stdout, Stderr: stderr,
	}
}

func TestSecondRunIsAHit(t *testing.T) {
	for _, size := range []int{3, inlineMax + 1, spoolMax + 1, 3 * spoolMax} {
		text := strings.Repeat("o", size)
		r, _, p := setup(t, says(0, text, "e"))
		for i := range 2 {
			var stdout, stderr bytes.Buffer
			out, err := r.Run(t.Context(), request(&stdout, &stderr))
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != text || stderr.String() != "e" {
				t.Errorf("size %d, run %d: %d bytes and %q", size, i, stdout.Len(), &stderr)
			}
			if out.Cached != (i == 1) || out.Unkept != nil {
				t.Errorf("size %d, run %d: cached %v, unkept %v", size, i, out.Cached, out.Unkept)
			}
		}
		if p.runs != 1 {
			t.Errorf("size %d: ran %d times", size, p.runs)
		}
	}
}

// TestWhatIsNotRemembered runs each request twice: both must run.
func TestWhatIsNotRemembered(t *testing.T) {
	type change func(*Runner, *memory, *plain, *Request)
	status := func(s backends.Status) change {
		return func(_ *Runner, _ *memory, p *plain, _ *Request) {
			p.run = func(*backends.Spec) (*backends.Status, error) { c := s; return &c, nil }
		}
	}
	for name, change := range map[string]change{
		"failure":    status(backends.Status{Code: 1}),
		"signal":     status(backends.Status{Code: 139, Signal: 11}),
		"time-out":   status(backends.Status{Code: 137, TimedOut: true}),
		"memory":     status(backends.Status{Code: 137, OutOfMemory: true}),
		"no program": status(backends.Status{Code: 127, Start: errors.New("not found")}),
		"missing":    func(_ *Runner, _ *memory, p *plain, _ *Request) { p.missing = []Missing{{Path: "o"}} },
		"unsealed":   func(_ *Runner, _ *memory, p *plain, _ *Request) { p.unseal = ErrUnsealed },
		"asked":      func(_ *Runner, _ *memory, _ *plain, req *Request) { req.SkipStore = true },
		"action":     func(_ *Runner, _ *memory, _ *plain, req *Request) { req.Action.DoNotCache = true },
		"full disk":  func(_ *Runner, m *memory, _ *plain, _ *Request) { m.full = errors.New("no space") },
	} {
		t.Run(name, func(t *testing.T) {
			r, m, p := setup(t, says(0, "", ""))
			for range 2 {
				req := request(io.Discard, io.Discard)
				change(r, m, p, req)
				out, err := r.Run(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if out.Cached || out.Unkept == nil {
					t.Errorf("cached %v, unkept %v; want neither", out.Cached, out.Unkept)
				}
			}
			if p.runs != 2 {
				t.Errorf("ran %d times, want 2", p.runs)
			}
		})
	}
}

func TestFailuresAreCachedOnRequestOnly(t *testing.T) {
	r, _, p := setup(t, says(3, "", "why"))
	for i, accept := range []bool{true, true, false} {
		req := request(io.Discard, io.Discard)
		req.CacheFailures = accept
		out, err := r.Run(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if out.Result.ExitCode != 3 || out.Cached != (i == 1) {
			t.Errorf("run %d: exit %d, cached %v", i, out.Result.ExitCode, out.Cached)
		}
	}
	if p.runs != 2 {
		t.Errorf("ran %d times, want 2", p.runs)
	}
}

func TestAResultSaysWhatRan(t *testing.T) {
	r, _, _ := setup(t, says(0, "", ""))
	req := request(io.Discard, io.Discard)
	for range 2 {
		out, err := r.Run(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		a, c, err := out.Result.Origin(BLAKE3)
		if err != nil {
			t.Fatal(err)
		}
		if a.Digest(BLAKE3) != out.Key || c.Digest(BLAKE3) != a.Command {
			t.Errorf("the result is of %v and %v, want %v", a, c, out.Key)
		}
	}
}

func TestABrokenCacheCostsTimeOnly(t *testing.T) {
	r, m, p := setup(t, says(0, "x", ""))
	m.broken = errors.New("input/output error")
	for range 2 {
		if _, err := r.Run(t.Context(), request(io.Discard, io.Discard)); err != nil {
			t.Fatal(err)
		}
	}
	if p.runs != 2 {
		t.Errorf("ran %d times, want 2", p.runs)
	}
}

func TestAFailedRunnerIsAnErrorAndNotCached(t *testing.T) {
	broken := errors.New("no sandbox")
	r, m, _ := setup(t, func(*backends.Spec) (*backends.Status, error) { return nil, broken })
	if _, err := r.Run(t.Context(), request(io.Discard, io.Discard)); !errors.Is(err, broken) {
		t.Errorf("err %v, want %v", err, broken)
	}
	if len(m.results) != 0 {
		t.Errorf("%d results were stored", len(m.results))
	}
}

func TestEqualActionsInFlightRunOnce(t *testing.T) {
	release := make(chan struct{})
	r, _, p := setup(t, func(*backends.Spec) (*backends.Status, error) {
		<-release
		return &backends.Status{}, nil
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := r.Run(t.Context(), request(io.Discard, io.Discard)); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
	if p.runs != 1 {
		t.Errorf("ran %d times, want 1", p.runs)
	}

	// But not where the action says that it must not be cached, and so not merged.
	p.runs = 0
	for range 3 {
		wg.Go(func() {
			req := request(io.Discard, io.Discard)
			req.Action.DoNotCache = true
			if _, err := r.Run(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p.runs != 3 {
		t.Errorf("do_not_cache: ran %d times, want 3", p.runs)
	}
}

// A caller whose standard output is gone still gets a result into the cache.
func TestClosedOutputDoesNotStopTheCommand(t *testing.T) {
	r, m, _ := setup(t, says(0, strings.Repeat("x", 1<<18), ""))
	pr, pw := io.Pipe()
	pr.Close()
	if _, err := r.Run(t.Context(), request(pw, io.Discard)); err != nil {
		t.Fatal(err)
	}
	if len(m.results) != 1 {
		t.Errorf("%d results, want 1", len(m.results))
	}
}
