package schedule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Jobserver is the pool of tokens of the make that called us. It implements
// [Tokens].
//
// A token is one byte in a pipe or fifo; whoever takes a byte may run one job
// more than the one that it was called to be, and puts the same byte back. See
// "Sharing Job Slots with GNU make" in make's manual. The pool belongs to all of
// make's children: nothing here changes it, not even whether reading it waits.
type Jobserver struct {
	mu   sync.Mutex // one reader at a time: the deadline is the file's
	from *os.File
	to   *os.File
}

// OpenJobserver finds the pool that $MAKEFLAGS announces. It returns nil if there
// is none, and an error if one is announced and cannot be reached: then, as make
// does, one job is run at a time.
func OpenJobserver(makeflags string) (*Jobserver, error) {
	auth := ""
	for word := range strings.FieldsSeq(makeflags) {
		if word == "--" {
			break // what follows are variables
		}
		for _, option := range []string{"--jobserver-auth=", "--jobserver-fds="} {
			if value, ok := strings.CutPrefix(word, option); ok {
				auth = value // the last one counts
			}
		}
	}
	if auth == "" {
		return nil, nil
	}
	j, err := open(auth)
	if err != nil {
		return nil, fmt.Errorf(`make's jobserver (%s) cannot be reached: %w; put "+" before the line of the recipe`, auth, err)
	}
	return j, nil
}

// OneAtATime says whether $MAKEFLAGS has -j1: a make that was told so makes no
// pool. One that was told nothing leaves no trace there.
func OneAtATime(makeflags string) bool {
	one := false
	for word := range strings.FieldsSeq(makeflags) {
		if word == "--" {
			break // what follows are variables
		}
		if n, ok := strings.CutPrefix(word, "-j"); ok {
			one = n == "1" // the last one counts
		}
	}
	return one
}

func open(auth string) (*Jobserver, error) {
	from, to := "", ""
	if path, ok := strings.CutPrefix(auth, "fifo:"); ok {
		from, to = path, path
	} else {
		r, w, _ := strings.Cut(auth, ",")
		n, err1 := strconv.Atoi(r)
		m, err2 := strconv.Atoi(w)
		if err1 != nil || err2 != nil {
			return nil, errors.New("this form is not known")
		}
		if n < 0 || m < 0 {
			return nil, errors.New("make has closed it for this command")
		}
		// Opened anew, each end is ours: that we do not want to wait in the
		// kernel is nobody else's business.
		from, to = fmt.Sprintf("/dev/fd/%d", n), fmt.Sprintf("/dev/fd/%d", m)
	}
	j := &Jobserver{}
	var err error
	if j.from, err = openPipe(from, os.O_RDONLY); err != nil {
		return nil, err
	}
	if j.to, err = openPipe(to, os.O_WRONLY); err != nil {
		j.from.Close()
		return nil, err
	}
	return j, nil
}

// openPipe opens a pipe or fifo, and nothing else: a descriptor with the number
// of one that make has closed may be any file.
func openPipe(name string, flag int) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s is not a pipe", name)
	}
	return os.OpenFile(name, flag|nonblock, 0)
}

// Acquire implements [Tokens].
func (j *Jobserver) Acquire(ctx context.Context) (release func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := j.from.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("make's jobserver: %w", err)
	}
	called := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		j.from.SetReadDeadline(time.Unix(1, 0))
		close(called)
	})
	var b [1]byte
	n, err := j.from.Read(b[:])
	if !stop() {
		<-called // or it would call off the next one
		if n == 0 {
			return nil, context.Cause(ctx)
		}
	}
	if n == 0 {
		if errors.Is(err, io.EOF) {
			err = errors.New("make is gone")
		}
		return nil, fmt.Errorf("make's jobserver: %w", err)
	}
	return sync.OnceFunc(func() { j.to.Write(b[:]) }), nil
}

// Close closes the pool. All tokens must have been given back.
func (j *Jobserver) Close() error { return errors.Join(j.from.Close(), j.to.Close()) }
