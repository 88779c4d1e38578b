package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// An Import is a root file system that was put into the store.
type Import struct {
	Tree  action.Digest
	Files int   // files and links
	Bytes int64 // of the files, before equal ones are stored once
	Notes []string
}

// ImportOptions bound an import. The zero value means SHA-256 digests, 64 GiB
// and a million entries.
type ImportOptions struct {
	Function action.Function
	MaxBytes int64 // of all files together
	MaxFiles int   // files, links and directories
}

func (o ImportOptions) withDefaults() ImportOptions {
	if o.Function == 0 {
		o.Function = action.SHA256
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 30
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = 1_000_000
	}
	return o
}

// maxNotes bounds Import.Notes; the last one says how many more there are.
const maxNotes = 20

// An importer collects a tree in memory; the contents go to the store at once.
type importer struct {
	ImportOptions
	ctx     context.Context
	blobs   action.Blobs
	root    *importNode
	out     Import
	entries int
	dropped int // notes
}

// An importNode is a file, a link or a directory (if kids is not nil).
type importNode struct {
	kids   map[string]*importNode
	file   action.FileNode
	target string
}

func newImportDir() *importNode { return &importNode{kids: map[string]*importNode{}} }

func newImporter(ctx context.Context, blobs action.Blobs, o ImportOptions) *importer {
	return &importer{ImportOptions: o.withDefaults(), ctx: ctx, blobs: blobs, root: newImportDir()}
}

func (im *importer) note(format string, args ...any) {
	if len(im.out.Notes) < maxNotes {
		im.out.Notes = append(im.out.Notes, fmt.Sprintf(format, args...))
	} else {
		im.dropped++
	}
}

// count counts one more entry.
func (im *importer) count() error {
	if im.entries++; im.entries > im.MaxFiles {
		return fmt.Errorf("more than %d entries", im.MaxFiles)
	}
	if im.ctx.Err() != nil {
		return context.Cause(im.ctx)
	}
	return nil
}

// store stores the content of a file of about the given size.
func (im *importer) store(r io.Reader, size int64, show string) (action.Digest, error) {
	limited := &io.LimitedReader{R: r, N: im.MaxBytes - im.out.Bytes + 1}
	d, err := im.put(limited, size)
	if err != nil {
		return d, fmt.Errorf("%q: %w", show, err)
	}
	if im.out.Bytes += d.Size(); im.out.Bytes > im.MaxBytes || limited.N == 0 {
		return d, fmt.Errorf("%q: more than %d bytes in all files together", show, im.MaxBytes)
	}
	return d, nil
}

// put stores what r holds: a small file from memory, a large one from a
// temporary file.
func (im *importer) put(r io.Reader, size int64) (action.Digest, error) {
	const inMemory = 1 << 20
	if size <= inMemory {
		data, err := io.ReadAll(r)
		if err != nil {
			return action.Digest{}, err
		}
		return im.blobs.PutBytes(im.ctx, im.Function, data)
	}
	f, err := os.CreateTemp("", "sbx-import")
	if err != nil {
		return action.Digest{}, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return action.Digest{}, err
	}
	if _, err := io.Copy(f, r); err != nil {
		return action.Digest{}, err
	}
	return im.blobs.PutFile(im.ctx, im.Function, f)
}

// finish stores the directories and returns what was imported.
func (im *importer) finish() (*Import, error) {
	d, err := im.directory(im.root, "")
	if err != nil {
		return nil, err
	}
	if im.dropped > 0 {
		im.out.Notes = append(im.out.Notes, fmt.Sprintf("and %d more", im.dropped))
	}
	im.out.Tree = d
	return &im.out, nil
}

func (im *importer) directory(n *importNode, show string) (action.Digest, error) {
	var m action.Directory
	names := make([]string, 0, len(n.kids))
	for name := range n.kids {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch kid := n.kids[name]; {
		case kid.kids != nil:
			d, err := im.directory(kid, path.Join(show, name))
			if err != nil {
				return d, err
			}
			m.Directories = append(m.Directories, action.DirectoryNode{Name: name, Digest: d})
		case kid.target != "":
			m.Symlinks = append(m.Symlinks, action.SymlinkNode{Name: name, Target: kid.target})
			im.out.Files++
		default:
			kid.file.Name = name
			m.Files = append(m.Files, kid.file)
			im.out.Files++
		}
	}
	if err := m.Check(); err != nil {
		return action.Digest{}, fmt.Errorf("directory %q: %w", "/"+show, err)
	}
	return im.blobs.PutBytes(im.ctx, im.Function, m.Marshal())
}

// ImportDir stores the tree of files below dir. Links are kept as they are and
// never followed; hard links become separate files; device nodes, sockets and
// pipes are left out with a note; of modes, only the right to execute is kept,
// and owners are not. Other file systems mounted below dir are included.
func ImportDir(ctx context.Context, blobs action.Blobs, dir string, o ImportOptions) (*Import, error) {
	im := newImporter(ctx, blobs, o)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	defer root.Close()
	if err := im.importDir(root, im.root, ""); err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	out, err := im.finish()
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	return out, nil
}

// importDir imports what is in the directory dir, which is at show.
func (im *importer) importDir(dir *os.Root, to *importNode, show string) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	list, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := im.count(); err != nil {
			return err
		}
		n, err := im.importEntry(dir, e.Name(), path.Join(show, e.Name()))
		if err != nil {
			return err
		}
		if n != nil {
			to.kids[e.Name()] = n
		}
	}
	return nil
}

func (im *importer) importEntry(dir *os.Root, name, show string) (*importNode, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		sub, err := dir.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		defer sub.Close()
		n := newImportDir()
		return n, im.importDir(sub, n, show)
	case mode&fs.ModeSymlink != 0:
		target, err := dir.Readlink(name)
		return &importNode{target: target}, err
	case !mode.IsRegular():
		im.note("%s: %v left out", show, mode.Type())
		return nil, nil
	}
	im.noteBits(show, info.Mode())
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > im.MaxBytes-im.out.Bytes {
		return nil, fmt.Errorf("%q: more than %d bytes in all files together", show, im.MaxBytes)
	}
	d, err := im.blobs.PutFile(im.ctx, im.Function, f)
	if err != nil {
		return nil, err
	}
	im.out.Bytes += d.Size()
	return &importNode{file: action.FileNode{Digest: d, Executable: info.Mode()&0o111 != 0}}, nil
}

func (im *importer) noteBits(show string, mode fs.FileMode) {
	if mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		im.note("%s: set-user-id or set-group-id bit dropped", show)
	}
}

// at returns the node of a clean relative path; directories that are missing
// on the way are made. A link or a file on the way is an error: nothing in an
// archive may be written through a link, wherever it leads.
func (im *importer) at(p string) (dir *importNode, name string, err error) {
	dir = im.root
	names := strings.Split(p, "/")
	for i, part := range names[:len(names)-1] {
		kid := dir.kids[part]
		if kid == nil {
			if err := im.count(); err != nil {
				return nil, "", err
			}
			kid = newImportDir()
			dir.kids[part] = kid
		}
		if kid.kids == nil {
			return nil, "", fmt.Errorf("%q: %q is not a directory", p, strings.Join(names[:i+1], "/"))
		}
		dir = kid
	}
	return dir, names[len(names)-1], nil
}

var errNotRelative = errors.New("not a path inside the archive")

// cleanEntry returns the path of an archive's entry: "." for the root.
func cleanEntry(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q: %w", name, errNotRelative)
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("%q: %w", name, errNotRelative)
	}
	clean := path.Clean(name)
	if strings.Count(clean, "/") >= maxDepth {
		return "", fmt.Errorf("%.40q…: directories nested deeper than %d", name, maxDepth)
	}
	return clean, nil
}
