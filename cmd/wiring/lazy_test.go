package wiring

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// A counted is a backend that counts what is asked of it.
type counted struct {
	backends.Backend
	runs, closes int
}

func (*counted) Name() string { return "counted" }

func (c *counted) Run(context.Context, *backends.Spec) (*backends.Status, error) {
	c.runs++
	return &backends.Status{}, nil
}

func (c *counted) Close() error {
	c.closes++
	return nil
}

// TestLazy opens a backend when it is first needed, and once, whoever needs it.
func TestLazy(t *testing.T) {
	c, opens := &counted{}, 0
	l := &Lazy{Choice: "chosen", Open: func(begin func(backends.Backend)) (backends.Backend, error) {
		opens++
		if begin != nil {
			begin(c)
		}
		return c, nil
	}}
	if got := l.Name(); got != "chosen" || opens != 0 {
		t.Errorf("before it is needed: name %q, opened %d times", got, opens)
	}
	var begun [8]int
	var wait sync.WaitGroup
	for i := range begun {
		wait.Go(func() { l.Begin(func(backends.Backend) { begun[i]++ }) })
	}
	wait.Wait()
	if begun != [8]int{1, 1, 1, 1, 1, 1, 1, 1} || opens != 1 {
		t.Errorf("begun %v, opened %d times", begun, opens)
	}
	if _, err := l.Run(t.Context(), &backends.Spec{}); err != nil || c.runs != 1 || l.Name() != "counted" {
		t.Errorf("Run: %v, %d runs of %q", err, c.runs, l.Name())
	}
	if err := l.Close(); err != nil || c.closes != 1 || opens != 1 {
		t.Errorf("Close: %v, %d times, opened %d times", err, c.closes, opens)
	}
}

// TestLazyNeverOpened closes what no action needed, and says why there is none.
func TestLazyNeverOpened(t *testing.T) {
	errNone, opens := errors.New("injected"), 0
	l := &Lazy{Open: func(func(backends.Backend)) (backends.Backend, error) {
		opens++
		return nil, errNone
	}}
	if err := l.Close(); err != nil || opens != 0 {
		t.Errorf("Close: %v, opened %d times", err, opens)
	}
	if _, err := l.Run(t.Context(), &backends.Spec{}); !errors.Is(err, errNone) {
		t.Errorf("Run: %v", err)
	}
	if c := l.Capabilities(); c.Works || c.Reason != errNone.Error() {
		t.Errorf("Capabilities: %+v", c)
	}
	l.Begin(func(backends.Backend) { t.Error("there is nothing to begin") })
	if err := l.Close(); err != nil || opens != 1 {
		t.Errorf("Close: %v, opened %d times", err, opens)
	}
}
