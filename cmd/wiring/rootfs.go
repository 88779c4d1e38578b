package wiring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/staging"
)

// Rootfs are the root file systems that have names: a file for each in the
// directory rootfs of the store. Its first line is the digest of the tree; then
// comes a line for each thing more that is known, a word and the rest:
//
//	owners DIGEST   of what the image says of its files beyond the tree (staging.Owners)
//	config DIGEST   of the image's defaults for commands, as JSON (images.Config)
//	source TEXT     where it came from
//
// A reader ignores words that it does not know. What a file names is kept by
// Trim for as long as the file is there: see [Rootfs.Keep].
type Rootfs struct {
	Store string // its directory
}

// A RootfsEntry is one of them.
type RootfsEntry struct {
	Name           string
	Tree           action.Digest
	Owners, Config action.Digest // zero: none
	Source         string
}

func (r Rootfs) file(name string) string { return filepath.Join(r.Store, "rootfs", name) }

// Check says why name cannot be a name, or nil.
func (r Rootfs) Check(name string) error {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r))
	}
	if name == "" || name == "host" || len(name) > 100 || strings.ContainsFunc(name, odd) || strings.ContainsAny(name[:1], "._+-") {
		return fmt.Errorf("%q cannot be the name of a root file system: use letters, digits and ._+-; host is taken", name)
	}
	return nil
}

// Put gives e its name, which may have been another's.
func (r Rootfs) Put(e RootfsEntry) error {
	if err := r.Check(e.Name); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(e.Tree.String() + "\n")
	for _, w := range []struct {
		word string
		d    action.Digest
	}{{"owners", e.Owners}, {"config", e.Config}} {
		if !w.d.IsZero() {
			text.WriteString(w.word + " " + w.d.String() + "\n")
		}
	}
	if e.Source != "" {
		text.WriteString("source " + strings.Join(strings.Fields(e.Source), " ") + "\n")
	}
	file := r.file(e.Name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return new(durable.Disk).WriteSynced(file, file+"~new", []byte(text.String()), 0o644)
}

// Lookup returns what has a name. The error wraps fs.ErrNotExist if nothing
// has.
func (r Rootfs) Lookup(name string) (RootfsEntry, error) {
	e := RootfsEntry{Name: name}
	if err := r.Check(name); err != nil {
		return e, err
	}
	data, err := os.ReadFile(r.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("root file system %q: %w; 'sbx-action rootfs list' lists those that are there", name, fs.ErrNotExist)
	}
	if err != nil {
		return e, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	e.Tree, err = action.ParseDigest(lines[0])
	for _, line := range lines[1:] {
		var err1 error
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "owners":
			e.Owners, err1 = action.ParseDigest(rest)
		case "config":
			e.Config, err1 = action.ParseDigest(rest)
		case "source":
			e.Source = rest
		}
		err = cmp.Or(err, err1)
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w: import it again", r.file(name), err)
	}
	return e, nil
}

// List returns all of them, sorted by name.
func (r Rootfs) List() ([]RootfsEntry, error) {
	files, err := os.ReadDir(filepath.Dir(r.file("x")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []RootfsEntry
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "~new") { // of a Put that did not end
			continue
		}
		e, err := r.Lookup(f.Name())
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// Remove forgets a name.
func (r Rootfs) Remove(name string) error {
	if err := r.Check(name); err != nil {
		return err
	}
	err := os.Remove(r.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = r.Lookup(name)
	}
	return err
}

// Keep marks everything that the names stand for as used now, so that a trim
// that follows leaves it: who gave a name wants it when it is used again, however
// long that takes. What of it is gone already is an error that says which name
// to import again.
func (r Rootfs) Keep(ctx context.Context, blobs action.Blobs) error {
	list, err := r.List()
	if err != nil {
		return err
	}
	var lost []error
	for _, e := range list {
		for _, d := range []action.Digest{e.Owners, e.Config} {
			if !d.IsZero() {
				blobs.Has(ctx, d)
			}
		}
		if err := staging.KeepTree(ctx, blobs, e.Tree); err != nil {
			lost = append(lost, fmt.Errorf("the root file system %s is not whole: %w: import it again or remove its name", e.Name, err))
		}
	}
	return errors.Join(lost...)
}
