package storage

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// maxUploads bounds the uploads that are kept without a stream: each has a file
// open.
const maxUploads = 256

// uploads are those that are not complete, by the names that their clients gave
// them. Those of large blobs are in files, whose names are hashes of these, and
// outlive the process.
type uploads struct {
	idle time.Duration
	dir  string // of the files; "": there are none

	mu     sync.Mutex
	all    map[string]*upload     // guarded by mu
	left   map[string]*time.Timer // guarded by mu: files of earlier servers, until nobody has come back for them
	closed bool                   // guarded by mu
}

// path is the file of an upload, or "".
func (u *uploads) path(name string) string {
	if u.dir == "" {
		return ""
	}
	return filepath.Join(u.dir, action.Sum(action.BLAKE3, []byte(name)).Hash())
}

// recover finds what an earlier server left. Its clients have as much time to
// come back as if they had lost their connection now.
func (u *uploads) recover() {
	list, err := os.ReadDir(u.dir)
	if u.dir == "" || err != nil {
		return // the first upload says what is wrong
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.left = map[string]*time.Timer{}
	for i, e := range list {
		path := filepath.Join(u.dir, e.Name())
		if i >= maxUploads {
			_ = os.Remove(path)
			continue
		}
		u.left[path] = time.AfterFunc(u.idle, func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.left[path] != nil {
				delete(u.left, path)
				_ = os.Remove(path)
			}
		})
	}
}

// An upload belongs to the stream that took it, or waits.
type upload struct {
	w       *cache.Writer
	size    atomic.Int64 // of what is in w
	waiting *time.Timer  // nil while a stream has it
	since   time.Time    // when it began to wait
}

// has says whether an upload of that name has begun.
func (u *uploads) has(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all[name] != nil
}

// take makes the upload the caller's until it calls keep or done.
func (u *uploads) take(name string) (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = map[string]*upload{}
	}
	up := u.all[name]
	if up == nil {
		if t := u.left[u.path(name)]; t != nil {
			t.Stop()
			delete(u.left, u.path(name))
		}
		up = &upload{}
		u.all[name] = up
		return up, nil
	}
	if up.waiting == nil {
		return nil, reapi.Busy(codes.Aborted, time.Second, "another stream is writing this upload: use a UUID of its own for each").Err()
	}
	up.waiting.Stop()
	up.waiting = nil
	return up, nil
}

// keep lets an upload wait for its client to come back.
func (u *uploads) keep(name string, up *upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || up.w == nil {
		u.leave(name, up)
		return
	}
	oldest, waiting := "", 0
	for n, other := range u.all {
		if other.waiting == nil {
			continue
		}
		if waiting++; oldest == "" || other.since.Before(u.all[oldest].since) {
			oldest = n
		}
	}
	if waiting >= maxUploads {
		u.all[oldest].waiting.Stop()
		u.drop(oldest, u.all[oldest])
	}
	up.since = time.Now()
	up.waiting = time.AfterFunc(u.idle, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.all[name] == up && up.waiting != nil {
			u.drop(name, up)
		}
	})
}

func (u *uploads) drop(name string, up *upload) {
	delete(u.all, name)
	if up.w != nil {
		up.w.Abort()
	}
}

// done forgets an upload.
func (u *uploads) done(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.all, name)
}

// size is how much of an upload is here.
func (u *uploads) size(name string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if up := u.all[name]; up != nil {
		return up.size.Load()
	}
	if path := u.path(name); u.left[path] != nil {
		if info, err := os.Stat(path); err == nil {
			return info.Size()
		}
	}
	return 0
}

func (u *uploads) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, t := range u.left {
		t.Stop()
	}
	for name, up := range u.all {
		if up.waiting != nil {
			up.waiting.Stop()
			u.leave(name, up)
		}
	}
}

// leave is drop, but for what the next server can take up. Needs mu.
func (u *uploads) leave(name string, up *upload) {
	delete(u.all, name)
	if up.w != nil {
		up.w.Leave()
	}
}
