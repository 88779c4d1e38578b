package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/integration/reapi/share"
)

// A breaker remembers that a remote is not to be had, so that one request pays
// for finding out and not each of the thousand of a build. After a while one
// request may try again.
type breaker struct {
	mu     sync.Mutex
	until  time.Time     // guarded by mu: nobody tries before
	pause  time.Duration // guarded by mu: the next time, for so long
	why    string        // guarded by mu
	said   time.Time     // guarded by mu: when a user was last told
	trying bool          // guarded by mu: somebody is
}

// The first pause and the longest, and how often users are told.
const (
	firstPause = 10 * time.Second
	lastPause  = 5 * time.Minute
	sayAgain   = 10 * time.Second
)

// enter returns an error if the remote must not be asked now.
func (b *breaker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return nil
	}
	if time.Now().Before(b.until) || b.trying {
		return b.down()
	}
	b.trying = true
	return nil
}

// down is the error for the user. The caller holds mu.
func (b *breaker) down() error {
	say := time.Since(b.said) > sayAgain
	if say {
		b.said = time.Now()
	}
	return &share.DownError{Why: b.why, Say: say}
}

// failed notes that the remote was not to be had, and returns the error for the
// user.
func (b *breaker) failed(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	b.until = time.Now().Add(b.pause)
	b.why = err.Error()
	return b.down()
}

// worked notes that the remote has answered.
func (b *breaker) worked() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause, b.trying = 0, false
}

// abandoned notes that whoever tried gave up without a result.
func (b *breaker) abandoned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// closed says whether the remote is believed to answer.
func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause == 0
}

// wait is how long nobody should try.
func (b *breaker) wait() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return 0
	}
	return max(time.Until(b.until), 0)
}

func (b *breaker) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return "answers"
	}
	return fmt.Sprintf("does not answer (%s); it is asked again in %v", b.why, max(time.Until(b.until), 0).Round(time.Second))
}
