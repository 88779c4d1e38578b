package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/actionfile"
)

// timings are how long the actions of a file took when they last ran, and how much
// memory they needed: what the schedule needs for the longest path. They are one
// note of the store, a line for each action:
//
//	NAME tab seconds tab bytes
//
// Lines that are damaged are left out. What is wrong with the note costs time only.
type timings struct {
	key action.Digest

	mu   sync.Mutex
	list map[string]timing
	new  bool
}

type timing struct {
	took   time.Duration
	memory int64
}

func readTimes(ctx context.Context, store *cache.Store, g *actionfile.Graph) *timings {
	t := &timings{
		key:  action.Sum(action.SHA256, []byte("sbx-action times 1\x00"+g.Workspace+"\x00"+g.File)),
		list: map[string]timing{},
	}
	data, err := store.Note(ctx, t.key)
	if err != nil {
		return t
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			continue
		}
		seconds, err1 := strconv.ParseFloat(fields[1], 64)
		memory, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err := errors.Join(err1, err2); err == nil && seconds > 0 && seconds < 1e6 && memory >= 0 {
			t.list[fields[0]] = timing{time.Duration(seconds * float64(time.Second)), memory}
		}
	}
	return t
}

// of returns what is known of an action, or zeros.
func (t *timings) of(name string) (time.Duration, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.list[name]
	return r.took, r.memory
}

// note is called when an action has run.
func (t *timings) note(name string, took time.Duration, memory int64) {
	if strings.ContainsAny(name, "\t\n") {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list[name], t.new = timing{took, memory}, true
}

func (t *timings) write(ctx context.Context, store *cache.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.new {
		return
	}
	var b strings.Builder
	for name, r := range t.list {
		fmt.Fprintf(&b, "%s\t%.6f\t%d\n", name, r.took.Seconds(), r.memory)
	}
	_ = store.PutNote(ctx, t.key, []byte(b.String())) // a store that cannot be written has said so
}
