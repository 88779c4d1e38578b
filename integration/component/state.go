package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A State is what is remembered of the builds of one project: for each component
// the log of its last run, and what it was last made of. It can be deleted at any
// time.
//
//	DIR/NAME.log    what the commands printed
//	DIR/NAME.json   a Record
//	DIR/NAME.caches the caches of a component, see caches.go
//
// NAME is that of the component, with a slash as %2F.
type State struct{ Dir string }

// A Record is what is remembered of a component.
type Record struct {
	Component string    `json:"component"`
	Inputs    Inputs    `json:"inputs"`
	Key       string    `json:"key"`
	Tree      string    `json:"tree"`
	Seconds   float64   `json:"seconds"`
	When      time.Time `json:"when"`
}

func (s *State) file(name, suffix string) string {
	return filepath.Join(s.Dir, strings.ReplaceAll(url.PathEscape(name), "/", "%2F")+suffix)
}

// LogPath is where the log of a component is.
func (s *State) LogPath(name string) string { return s.file(name, ".log") }

// Caches is the directory of the caches of a component.
func (s *State) Caches(c *Component) string { return s.file(c.Name, ".caches") }

// Names are the components that have a log.
func (s *State) Names() ([]string, error) {
	files, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, f := range files {
		if base, ok := strings.CutSuffix(f.Name(), ".log"); ok {
			if name, err := url.PathUnescape(base); err == nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, err
}

// Tidy removes what builds that were killed have left behind.
func (s *State) Tidy() {
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		return
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), ".log-") && !strings.HasPrefix(f.Name(), ".json-") {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour { // nobody writes to it any more
			os.Remove(filepath.Join(s.Dir, f.Name()))
		}
	}
}

// OpenLog begins a log, which takes the place of the last one when it is closed.
func (s *State) OpenLog(name string) (*Log, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.Dir, ".log-")
	if err != nil {
		return nil, err
	}
	return &Log{f: f, path: s.LogPath(name)}, nil
}

// A Log is being written. It keeps the last lines.
type Log struct {
	f    *os.File
	path string

	// OnStep, if it is not nil, is told which step begins. It is set before the
	// first Write.
	OnStep func(step string)

	mu   sync.Mutex
	tail []byte // guarded by mu
	step string // guarded by mu
	err  error  // guarded by mu
}

const tailSize = 4 << 10

// Write never fails: a log that cannot be written ends no build.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		_, l.err = l.f.Write(p)
	}
	l.tail = append(l.tail, p...)
	if i := strings.LastIndex("\n"+string(l.tail), "\n"+stepMark); i >= 0 {
		line, _, whole := strings.Cut(string(l.tail[i+len(stepMark):]), "\n")
		if whole && line != l.step {
			if l.step = line; l.OnStep != nil {
				l.OnStep(line)
			}
		}
	}
	if n := len(l.tail); n > 2*tailSize {
		l.tail = append([]byte(nil), l.tail[n-tailSize:]...)
	}
	return len(p), nil
}

// Tail is at most n lines: the last ones.
func (l *Log) Tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimRight(string(l.tail), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (l *Log) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tail) == 0
}

// Close gives the log its name.
func (l *Log) Close() error {
	err := errors.Join(l.err, l.f.Chmod(0o644), l.f.Close())
	if err == nil {
		err = os.Rename(l.f.Name(), l.path)
	}
	if err != nil {
		os.Remove(l.f.Name())
		return fmt.Errorf("keep the log: %w", err)
	}
	return nil
}

// Drop forgets a log that says nothing.
func (l *Log) Drop() {
	l.f.Close()
	os.Remove(l.f.Name())
}

// Record returns what is remembered of a component, or nil.
func (s *State) Record(name string) *Record {
	f, err := os.Open(s.file(name, ".json"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var r Record
	if json.NewDecoder(io.LimitReader(f, 16<<20)).Decode(&r) != nil || r.Component != name {
		return nil
	}
	return &r
}

// PutRecord remembers a component.
func (s *State) PutRecord(r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, ".json-")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.file(r.Component, ".json"))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
