package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"golang.org/x/sys/unix"
)

// stagingRows measure scans, staging and collecting. Each step is a process of
// its own, which says how long the step took without its own start.
func (b *bench) stagingRows(sizes string) ([]row, error) {
	store := filepath.Join(b.dir, "store")
	var rows []row
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("-sizes: %w", err)
		}
		w := &inputs{n: n, dir: filepath.Join(b.dir, "inputs-"+text), store: store}
		rows = append(rows, w.rows()...)
	}
	return append(rows, b.hashRow(), b.collectRow(1), b.collectRow(1000)), nil
}

// inputs are n files of 4 KiB, 16 in a directory.
type inputs struct {
	n          int
	dir, store string
	tree       string
	names      []string
	rounds     int
	settled    bool
}

func (w *inputs) rows() []row {
	label := func(what string) string { return fmt.Sprintf("%d inputs: %s", w.n, what) }
	targets := map[string]string{}
	if w.n == 100_000 {
		targets = map[string]string{"warm": "≤ 1 ms", "changed": "≤ 10 ms"}
	}
	// Any row may be measured alone: whichever is first makes the files.
	made := func(then func() error) func() error {
		return func() error {
			if len(w.names) == 0 {
				if err := w.first(); err != nil {
					return err
				}
				if _, err := w.steps(new(int64), "scan", "save"); err != nil {
					return err
				}
			}
			return then()
		}
	}
	nothing := func() error { return nil }
	return []row{
		{name: label("first scan, and store them"), rounds: 1, ours: w.side("scan and save", w.first, "scan", "save")},
		{name: label("scan, no change"), target: "≤ 2.5", rounds: 5, ours: w.side("scan", made(w.settle), "scan"), peer: side{name: "fstatat loop", run: w.statLoop}},
		{name: label("stage, cold"), rounds: 1, ours: w.side("stage", made(nothing), "stage")},
		{name: label("stage, warm"), target: targets["warm"], rounds: 10, ours: w.side("stage", made(nothing), "stage")},
		{name: label("stage and run a command, warm"), rounds: 5, ours: w.side("stage, true", made(nothing), "run")},
		{name: label("0.1 % changed: scan and store"), rounds: 3, ours: w.side("scan and save", made(w.change), "scan", "save")},
		{name: label("0.1 % changed: stage"), target: targets["changed"], rounds: 3, ours: w.side("stage", made(w.changeAndSave), "stage")},
	}
}

// side runs steps, after before, in a process of their own.
func (w *inputs) side(name string, before func() error, steps ...string) side {
	peak := new(int64)
	return side{name, func() (time.Duration, error) {
		if before != nil {
			if err := before(); err != nil {
				return 0, err
			}
		}
		return w.steps(peak, steps...)
	}, peak}
}

// steps runs steps in one process, and keeps the tree that they made.
func (w *inputs) steps(peak *int64, steps ...string) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, "-step", strings.Join(append([]string{w.dir, w.store, w.tree}, steps...), "\x01"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("steps %v: %w", steps, err)
	}
	var nanos, resident int64
	if _, err := fmt.Sscan(string(out), &nanos, &resident, &w.tree); err != nil {
		return 0, fmt.Errorf("steps %v: %q: %w", steps, out, err)
	}
	*peak = max(*peak, resident)
	return time.Duration(nanos), nil
}

func (w *inputs) first() error {
	for i := range w.n {
		dir := filepath.Join(w.dir, "d"+strconv.Itoa(i/16%64), "e"+strconv.Itoa(i/1024))
		if i%16 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		name := filepath.Join(dir, "file"+strconv.Itoa(i))
		if err := os.WriteFile(name, content(i, 0), 0o644); err != nil {
			return err
		}
		w.names = append(w.names, name)
	}
	return nil
}

// settle waits, once, until the files are old enough for their times to be
// trusted, and lets a scan learn them.
func (w *inputs) settle() error {
	if w.settled {
		return nil
	}
	w.settled = true
	time.Sleep(2500 * time.Millisecond)
	_, err := w.steps(new(int64), "scan")
	return err
}

// content is 4 KiB that no other file has.
func content(i, round int) []byte {
	line := fmt.Sprintf("file %d, round %d\n", i, round)
	return []byte(strings.Repeat(line, 4096/len(line)+1)[:4096])
}

// statLoop is what no scan by stat on one core can beat: one fstatat for each
// file, by its absolute path.
func (w *inputs) statLoop() (time.Duration, error) {
	start := time.Now()
	var st unix.Stat_t
	for _, name := range w.names {
		if err := unix.Fstatat(unix.AT_FDCWD, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// change writes 0.1 % of the files anew.
func (w *inputs) change() error {
	w.rounds++
	for i := 0; i < w.n; i += 1000 {
		if err := os.WriteFile(w.names[i], content(i, w.rounds), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (w *inputs) changeAndSave() error {
	if err := w.change(); err != nil {
		return err
	}
	_, err := w.steps(new(int64), "scan", "save")
	return err
}

// hashRow reads and hashes 1 GiB of inputs.
func (b *bench) hashRow() row {
	const files, size = 16, 64 << 20
	w := &inputs{dir: filepath.Join(b.dir, "large")}
	made := false
	prepare := func() error {
		if made {
			return nil
		}
		made = true
		if err := os.Mkdir(w.dir, 0o755); err != nil {
			return err
		}
		block := make([]byte, size)
		for i := range files {
			block[0] = byte(i)
			if err := os.WriteFile(filepath.Join(w.dir, strconv.Itoa(i)), block, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return row{
		name: "1 GiB of inputs, hashed", target: "≤ 1.25", rounds: 5, ours: w.side("scan", prepare, "scan"),
		peer: side{name: "BLAKE3 of memory, all cores", run: func() (time.Duration, error) {
			block := make([]byte, size)
			return many(files, func() (time.Duration, error) {
				action.Sum(action.BLAKE3, block)
				return 0, nil
			})
		}},
	}
}

// collectRow runs a command that makes n files and measures collecting them.
func (b *bench) collectRow(n int) row {
	w := &inputs{dir: b.dir, store: filepath.Join(b.dir, "store")}
	return row{name: fmt.Sprintf("collect %d outputs", n), rounds: 5, ours: w.side("collect", nil, "collect", strconv.Itoa(n))}
}
