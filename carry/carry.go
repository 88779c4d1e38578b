// Package carry writes an action, with all that it takes to run it elsewhere,
// into one tar, and reads it again.
//
// # Format, version 1
//
// An uncompressed tar, in this order:
//
//	sbx-action-export    "sbx-action-export 1\n", then lines "KEY VALUE" for people
//	action, command      the canonical bytes of the REAPI messages
//	result               those of what it gave, if that is known
//	blobs/F:HASH/SIZE    each blob that is named: directories and files of the
//	                     input root, of the root file system, of standard input, and of the
//	                     outputs, under its digest
//
// A reader checks every blob against its digest, and that nothing that the action
// needs is missing, before it believes any of it. The result is what somebody says that the
// action gave: it is for comparing, and never becomes a result of the cache.
package carry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

const (
	headerName = "sbx-action-export"
	headerLine = "sbx-action-export 1\n"
	messageMax = 256 << 20
)

// A Case is an action that is carried.
type Case struct {
	Action  *action.Action
	Command *action.Command
	Result  *action.Result    // nil: not known
	Rootfs  action.Digest     // of the tree; zero: none
	Stdin   action.Digest     // zero: none
	About   map[string]string // for people: one word, and one line
}

// key is the digest of the action.
func (c *Case) function() action.Function { return c.Action.InputRoot.Function() }

// A writer writes each blob once.
type writer struct {
	ctx   context.Context
	blobs action.Blobs
	tar   *tar.Writer
	done  map[action.Digest]bool
}

func (w *writer) file(name string, size int64, r io.Reader) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w.tar, r)
	return err
}

// Write writes c, with its blobs.
func Write(ctx context.Context, out io.Writer, c *Case, blobs action.Blobs) error {
	w := &writer{ctx, blobs, tar.NewWriter(out), map[action.Digest]bool{}}
	var head strings.Builder
	head.WriteString(headerLine)
	for _, key := range slices.Sorted(maps.Keys(c.About)) {
		head.WriteString(key + " " + strings.ReplaceAll(c.About[key], "\n", " ") + "\n")
	}
	parts := []struct {
		name string
		data []byte
	}{{headerName, []byte(head.String())}, {"action", c.Action.Marshal()}, {"command", c.Command.Marshal()}}
	if c.Result != nil {
		parts = append(parts, struct {
			name string
			data []byte
		}{"result", c.Result.Marshal()})
	}
	for _, p := range parts {
		if err := w.file(p.name, int64(len(p.data)), bytes.NewReader(p.data)); err != nil {
			return err
		}
	}
	if err := visit(ctx, c, blobs, w.blob); err != nil {
		return err
	}
	return w.tar.Close()
}

func (w *writer) blob(d action.Digest) error {
	if w.done[d] || d.IsZero() || d.IsEmpty() {
		return nil
	}
	w.done[d] = true
	f, err := w.blobs.Open(w.ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.file("blobs/"+d.String(), d.Size(), f)
}

// visit calls each with every blob that c names, parents first.
func visit(ctx context.Context, c *Case, blobs action.Blobs, each func(action.Digest) error) error {
	v := &visitor{ctx, blobs, each, map[action.Digest]bool{}}
	if err := each(c.Stdin); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if err := v.directory(c.Action.InputRoot); err != nil {
		return fmt.Errorf("the inputs: %w", err)
	}
	if !c.Rootfs.IsZero() {
		if err := v.directory(c.Rootfs); err != nil {
			return fmt.Errorf("the root file system: %w", err)
		}
	}
	if c.Result == nil {
		return nil
	}
	if err := v.result(c.Result); err != nil {
		return fmt.Errorf("the result: %w", err)
	}
	return nil
}

type visitor struct {
	ctx   context.Context
	blobs action.Blobs
	each  func(action.Digest) error
	seen  map[action.Digest]bool
}

func (v *visitor) read(d action.Digest) ([]byte, error) {
	if d.Size() > messageMax {
		return nil, fmt.Errorf("%v is too large for a message", d)
	}
	f, err := v.blobs.Open(v.ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (v *visitor) directory(d action.Digest) error {
	if v.seen[d] {
		return nil
	}
	v.seen[d] = true
	if err := v.each(d); err != nil {
		return err
	}
	data, err := v.read(d)
	if err != nil {
		return err
	}
	m, err := action.ParseDirectory(data, d.Function())
	if err != nil {
		return err
	}
	return v.entries(m, true)
}

func (v *visitor) entries(m *action.Directory, deep bool) error {
	for _, f := range m.Files {
		if err := v.each(f.Digest); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	for _, c := range m.Directories {
		if !deep {
			break
		}
		if err := v.directory(c.Digest); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

func (v *visitor) result(res *action.Result) error {
	list := []action.Digest{res.Stdout, res.Stderr}
	for _, f := range res.Files {
		list = append(list, f.Digest)
	}
	for _, d := range list {
		if err := v.each(d); err != nil {
			return err
		}
	}
	for _, d := range res.Directories {
		if d.Tree.IsZero() {
			if err := v.directory(d.Root); err != nil {
				return err
			}
			continue
		}
		if err := v.each(d.Tree); err != nil {
			return err
		}
		data, err := v.read(d.Tree)
		if err != nil {
			return err
		}
		tree, err := action.ParseTree(data, d.Tree.Function())
		if err != nil {
			return err
		}
		for _, m := range append([]action.Directory{tree.Root}, tree.Children...) {
			if err := v.entries(&m, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrFormat says that something is not what Write writes.
var ErrFormat = errors.New("not an export of sbx-action")

// Is says whether a file begins as Write's do.
func Is(r io.Reader) bool {
	h, err := tar.NewReader(r).Next()
	return err == nil && h.Name == headerName
}

// Read reads a case, and puts its blobs into the store. Rootfs and Stdin are
// named by the action: parse tells which they are.
func Read(ctx context.Context, in io.Reader, blobs action.Blobs, names func(*action.Action) (rootfs, stdin action.Digest, err error)) (*Case, error) {
	t := tar.NewReader(in)
	head, err := next(t, headerName)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(head), headerLine) {
		line, _, _ := strings.Cut(string(head), "\n")
		return nil, fmt.Errorf("%w of this version: it says %.60q", ErrFormat, line)
	}
	a, err := next(t, "action")
	if err != nil {
		return nil, err
	}
	cmd, err := next(t, "command")
	if err != nil {
		return nil, err
	}
	c := &Case{}
	for _, f := range []action.Function{action.BLAKE3, action.SHA256} {
		if c.Action, err = action.ParseAction(a, f); err == nil && c.Action.Command == action.Sum(f, cmd) {
			break
		}
		c.Action = nil
	}
	if c.Action == nil {
		return nil, fmt.Errorf("%w: action and command do not belong together", ErrFormat)
	}
	if c.Command, err = action.ParseCommand(cmd, c.function()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if c.Rootfs, c.Stdin, err = names(c.Action); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := readRest(ctx, t, c, blobs); err != nil {
		return nil, err
	}
	missing := func(d action.Digest) error {
		if d.IsZero() || blobs.Has(ctx, d) {
			return nil
		}
		return fmt.Errorf("%w: blob %v is missing", ErrFormat, d)
	}
	return c, visit(ctx, c, blobs, missing)
}

// next reads the next member, which must have this name.
func next(t *tar.Reader, name string) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg || h.Size > messageMax {
		return nil, fmt.Errorf("%w: it has %.60q where %q belongs", ErrFormat, h.Name, name)
	}
	data, err := io.ReadAll(t)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, name, err)
	}
	return data, nil
}

func readRest(ctx context.Context, t *tar.Reader, c *Case, blobs action.Blobs) error {
	for first := true; ; first = false {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if first && h.Name == "result" && h.Size <= messageMax {
			data, err := io.ReadAll(t)
			if err == nil {
				c.Result, err = action.ParseResult(data, c.function())
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ErrFormat, err)
			}
			continue
		}
		text, ok := strings.CutPrefix(h.Name, "blobs/")
		d, err := action.ParseDigest(text)
		if !ok || err != nil || d.Size() != h.Size || h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%w: it has %.100q, which is no blob", ErrFormat, h.Name)
		}
		if err := blobs.Put(ctx, d, t); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}
