package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
)

// A queue is what is to be sent to one remote: a directory with an empty file
// for each result, so that what was not sent when an agent ended is sent by the
// next. The name of a file is the digest, with "-" for its ":" and "/".
type queue struct {
	dir string

	mu      sync.Mutex
	entries map[action.Digest]bool // guarded by mu: true while it is being sent
	order   []action.Digest        // guarded by mu
	more    chan struct{}          // told when there may be something to do
}

// queueMax bounds the queue: what does not fit is not sent.
const queueMax = 100_000

func openQueue(dir string) (*queue, error) {
	q := &queue{dir: dir, entries: map[action.Digest]bool{}, more: make(chan struct{}, 1)}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("results to send: %w", err)
	}
	for _, f := range files {
		name := strings.Replace(f.Name(), "-", ":", 1)
		if d, err := action.ParseDigest(strings.Replace(name, "-", "/", 1)); err == nil {
			q.entries[d] = false
			q.order = append(q.order, d)
		}
	}
	q.poke()
	return q, nil
}

func (q *queue) path(d action.Digest) string {
	return filepath.Join(q.dir, strings.NewReplacer(":", "-", "/", "-").Replace(d.String()))
}

func (q *queue) poke() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// add adds d, on the disk before it returns.
func (q *queue) add(d action.Digest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, there := q.entries[d]; there {
		return nil
	}
	if len(q.entries) >= queueMax {
		return fmt.Errorf("%d results wait to be sent: no more are taken", queueMax)
	}
	err := touch(q.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(q.dir, 0o700); err == nil {
			err = touch(q.path(d))
		}
	}
	if err != nil {
		return fmt.Errorf("results to send: %w", err)
	}
	q.entries[d] = false
	q.order = append(q.order, d)
	q.poke()
	return nil
}

func touch(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// take returns the next that nobody sends.
func (q *queue) take() (d action.Digest, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return d, false
	}
	d = q.order[0]
	q.order = q.order[1:]
	q.entries[d] = true
	return d, true
}

// done forgets d: it was sent, or will never be.
func (q *queue) done(d action.Digest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.entries, d)
	err := os.Remove(q.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// back puts d, which could not be sent now, at the end.
func (q *queue) back(d action.Digest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries[d] = false
	q.order = append(q.order, d)
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}
