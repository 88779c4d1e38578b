package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/front"
)

// unlimited is a backend whose limits nobody asks for: to find out what can be limited
// takes longer than all the rest.
type unlimited struct{ *missPath }

// Capabilities implements [backends.Backend].
func (u unlimited) Capabilities() backends.Capabilities {
	b, err := u.Opened()
	if err != nil {
		return backends.Capabilities{Reason: err.Error()}
	}
	return wiring.Basics(b)
}

// blindFor is for how long we believe that nothing can be observed here.
const blindFor = 10 * time.Minute

// A blindness says that a process like this one cannot observe compilers, so that not
// every call finds out again. It is the file blind of [wiring.StatDir]: a line that
// tells like processes from others, and the reason.
type blindness struct{ file, backend string }

// blindness is that of the store in dir, with the backend that is asked for.
func (f *ccFlags) blindness(dir string) blindness {
	return blindness{filepath.Join(wiring.StatDir(dir), "blind"), f.backend}
}

// like tells processes like this one from others: what another backend could not does not matter.
func (b blindness) like() string { return strings.TrimSpace(cc.Circumstances() + " " + b.backend) }

// read returns the reason, or "".
func (b blindness) read() string {
	data, err := os.ReadFile(b.file)
	if err != nil {
		return ""
	}
	info, err := os.Stat(b.file)
	if err != nil {
		return ""
	}
	self, reason, ok := strings.Cut(string(data), "\n")
	if age := time.Since(info.ModTime()); !ok || age < 0 || age > blindFor || self != b.like() {
		return ""
	}
	return strings.TrimSpace(reason)
}

func (b blindness) note(reason string) {
	_ = os.MkdirAll(filepath.Dir(b.file), 0o700)
	_ = os.WriteFile(b.file, []byte(b.like()+"\n"+strings.ReplaceAll(reason, "\n", " ")+"\n"), 0o600)
}

// told runs the call with what the compiler says in the place of what is observed.
// It returns nil for a call for which that is not enough.
func (j *ccJob) told(ctx context.Context, cause error) (*cc.Session, *cc.Done, error) {
	b := j.blindness(j.parts.store.Dir())
	if b.read() == "" && !j.readOnly && lasting(cause) {
		why, _, _ := strings.Cut(cause.Error(), ";")
		b.note(strings.TrimPrefix(why, "stage the inputs: "))
	}
	parts := j.ccParts()
	parts.Bare = func() {
		writesAreTold()
		front.Exact()
	}
	s, ok := cc.Told(parts, j.call, j.want)
	if !ok {
		return nil, nil, cause
	}
	if j.verbose {
		say("cc: the compiler is asked what it depends on: %v", cause)
	}
	done, err := s.Run(ctx, cc.Options{Recache: j.recache, ReadOnly: j.readOnly})
	return s, done, err
}

// lasting says whether the next process will fare like this one.
func lasting(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.ENOSYS, syscall.EINVAL, syscall.EACCES, cc.ErrIncapable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// blindReason is why nothing can be observed here, for --stats, or "".
func (f *ccFlags) blindReason() string {
	dir, err := wiring.CacheDir(f.cache)
	if err != nil {
		return ""
	}
	return f.blindness(dir).read()
}
