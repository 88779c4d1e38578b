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
	Tree   action.Digest
	Owners action.Digest // of the marshalled [Owners]; zero if everything is as usual
	Files  int           // files and links
	Bytes  int64         // of the files, before equal ones are stored once
	Notes  []string
}

// ImportOptions bound an import. The zero value means SHA-256 digests, 64 GiB
// and a million entries.
type ImportOptions struct {
	Function action.Function
	MaxBytes int64 // of all files together
	MaxFiles int   // files, links and directories

	// Readable leaves out, with a note, what the caller may not read of a
	// directory, instead of giving up.
	Readable bool
}

// Bounds returns o with the defaults in the place of zeros.
func (o ImportOptions) Bounds() ImportOptions {
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

// An Importer puts a root file system together: the layers of an image one upon
// the other, or one directory or archive. The tree is in memory; the contents
// go to the store at once, and what a later layer hides is left for the next
// trim. The limits hold for all layers together.
type Importer struct {
	ImportOptions
	ctx     context.Context
	blobs   action.Blobs
	root    *importNode
	out     Import
	entries int
	dropped int // notes
	layer   int // counted from 1, by Layer; 0: not of an image
}

// An importNode is a file, a link, a directory (if kids is not nil), or what a
// tree cannot hold.
type importNode struct {
	kids   map[string]*importNode
	file   action.FileNode
	target string
	owner  Owner
	layer  int // in which it came
}

func (im *Importer) newDir() *importNode {
	return &importNode{kids: map[string]*importNode{}, owner: Owner{Type: TypeDir, Mode: 0o755}, layer: im.layer}
}

// NewImporter returns an Importer of an empty root.
func NewImporter(ctx context.Context, blobs action.Blobs, o ImportOptions) *Importer {
	im := &Importer{ImportOptions: o.Bounds(), ctx: ctx, blobs: blobs}
	im.root = im.newDir()
	return im
}

func (im *Importer) note(format string, args ...any) {
	if len(im.out.Notes) < maxNotes {
		im.out.Notes = append(im.out.Notes, fmt.Sprintf(format, args...))
	} else {
		im.dropped++
	}
}

// ErrTooMuch is wrapped by the error of an import that holds more than its options
// allow.
var ErrTooMuch = errors.New("more than an import may hold")

type tooMuch struct{ error }

func (tooMuch) Is(target error) bool { return target == ErrTooMuch }

func (im *Importer) tooLarge(show string) error {
	return tooMuch{fmt.Errorf("%q: more than %d bytes in all files together", show, im.MaxBytes)}
}

// count counts one more entry.
func (im *Importer) count() error {
	if im.entries++; im.entries > im.MaxFiles {
		return tooMuch{fmt.Errorf("more than %d entries", im.MaxFiles)}
	}
	if im.ctx.Err() != nil {
		return context.Cause(im.ctx)
	}
	return nil
}

// store stores the content of a file of about the given size.
func (im *Importer) store(r io.Reader, size int64, show string) (action.Digest, error) {
	limited := &io.LimitedReader{R: r, N: im.MaxBytes - im.out.Bytes + 1}
	d, err := im.put(limited, size)
	if err != nil {
		return d, fmt.Errorf("%q: %w", show, err)
	}
	if im.out.Bytes += d.Size(); im.out.Bytes > im.MaxBytes || limited.N == 0 {
		return d, im.tooLarge(show)
	}
	return d, nil
}

// put stores what r holds: a small file from memory, a large one from a
// temporary file.
func (im *Importer) put(r io.Reader, size int64) (action.Digest, error) {
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

// Finish stores the directories and returns what was imported.
func (im *Importer) Finish() (*Import, error) {
	owners := Owners{}
	d, err := im.directory(im.root, ".", owners)
	if err != nil {
		return nil, err
	}
	if list := owners.Marshal(); len(list) > 0 {
		if im.out.Owners, err = im.blobs.PutBytes(im.ctx, im.Function, list); err != nil {
			return nil, err
		}
	}
	if im.dropped > 0 {
		im.out.Notes = append(im.out.Notes, fmt.Sprintf("and %d more", im.dropped))
	}
	im.out.Tree = d
	return &im.out, nil
}

// directory stores the directory n, which is at show, and notes owners.
func (im *Importer) directory(n *importNode, show string, owners Owners) (action.Digest, error) {
	owners[show] = n.owner
	var m action.Directory
	names := make([]string, 0, len(n.kids))
	for name := range n.kids {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		kid, at := n.kids[name], path.Join(show, name)
		owners[at] = kid.owner
		switch {
		case kid.kids != nil:
			d, err := im.directory(kid, at, owners)
			if err != nil {
				return d, err
			}
			m.Directories = append(m.Directories, action.DirectoryNode{Name: name, Digest: d})
		case !kid.owner.InTree():
			im.note("%s: a %s, of which only the owners' list knows", at, kid.owner.Type)
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
		return action.Digest{}, fmt.Errorf("directory %q: %w", path.Join("/", show), err)
	}
	return im.blobs.PutBytes(im.ctx, im.Function, m.Marshal())
}

// ImportDir stores the tree of files below dir. Links are kept as they are and
// never followed; hard links become separate files; sockets are left out with a
// note; device nodes and pipes, owners, modes and extended attributes go into
// [Import.Owners]. For a caller who is not root, the caller's own files count
// as root's. Other file systems mounted below dir are included.
func ImportDir(ctx context.Context, blobs action.Blobs, dir string, o ImportOptions) (*Import, error) {
	im := NewImporter(ctx, blobs, o)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	defer root.Close()
	if err := im.importDir(root, im.root, ""); err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	out, err := im.Finish()
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	return out, nil
}

// Add adds what root holds under name, which is one name and not a path.
func (im *Importer) Add(root *os.Root, name string) error {
	if err := im.count(); err != nil {
		return err
	}
	n, err := im.importEntry(root, name, name)
	if n != nil {
		im.root.kids[name] = n
	}
	return err
}

// importDir imports what is in the directory dir, which is at show.
func (im *Importer) importDir(dir *os.Root, to *importNode, show string) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	to.owner = ownerOf(info, f)
	list, err := f.ReadDir(-1)
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

// unread is what an entry that could not be opened becomes: an error that says
// where it is, or nothing.
func (im *Importer) unread(show string, err error) (*importNode, error) {
	var last *fs.PathError
	if errors.As(err, &last) {
		err = last.Err // its path is the last name only
	}
	if im.Readable && errors.Is(err, fs.ErrPermission) {
		im.note("%s: left out, because it may not be read", show)
		return nil, nil
	}
	return nil, fmt.Errorf("open %s: %w", show, err)
}

func (im *Importer) importEntry(dir *os.Root, name, show string) (*importNode, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		sub, err := dir.OpenRoot(name)
		if err != nil {
			return im.unread(show, err)
		}
		defer sub.Close()
		f, err := sub.Open(".")
		if err != nil {
			return im.unread(show, err)
		}
		f.Close()
		n := im.newDir()
		return n, im.importDir(sub, n, show)
	case mode&fs.ModeSymlink != 0:
		target, err := dir.Readlink(name)
		return &importNode{target: target, owner: ownerOf(info, nil)}, err
	case mode&fs.ModeSocket != 0:
		im.note("%s: a socket left out", show)
		return nil, nil
	case !mode.IsRegular():
		return &importNode{owner: ownerOf(info, nil)}, nil
	}
	f, err := dir.Open(name)
	if err != nil {
		return im.unread(show, err)
	}
	defer f.Close()
	if info.Size() > im.MaxBytes-im.out.Bytes {
		return nil, im.tooLarge(show)
	}
	d, err := im.blobs.PutFile(im.ctx, im.Function, f)
	if err != nil {
		return nil, err
	}
	im.out.Bytes += d.Size()
	file := action.FileNode{Digest: d, Executable: info.Mode()&0o111 != 0}
	return &importNode{file: file, owner: ownerOf(info, f)}, nil
}

// at returns the directory of a clean relative path, and the last name in it;
// directories that are missing on the way are made. A link or a file on the way
// is an error: nothing in an archive may be written through a link, wherever it
// leads. Only in the layer of an image, links of the layers below are followed,
// and cannot lead out of the root; so unpack runtimes, and so images of
// distributions with /lib -> usr/lib are made.
func (im *Importer) at(p string) (dir *importNode, name string, err error) {
	dir = im.root
	done, todo := []*importNode{}, strings.Split(p, "/") // done: the parents of dir
	for links := 0; len(todo) > 1; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..": // of the target of a link
			if n := len(done); n > 0 {
				dir, done = done[n-1], done[:n-1]
			}
			continue
		}
		kid := dir.kids[part]
		if kid == nil {
			if err := im.count(); err != nil {
				return nil, "", err
			}
			kid = im.newDir()
			dir.kids[part] = kid
		}
		if kid.kids == nil && kid.target != "" && kid.layer < im.layer && links < maxLinks {
			links++
			if strings.HasPrefix(kid.target, "/") {
				dir, done = im.root, done[:0]
			}
			todo = append(strings.Split(kid.target, "/"), todo...)
			continue
		}
		if kid.kids == nil {
			return nil, "", fmt.Errorf("%q: %q is not a directory", p, part)
		}
		dir, done = kid, append(done, dir)
	}
	return dir, todo[0], nil
}

var errNotRelative = errors.New("not a path inside the archive")

// cleanEntry returns the path of an archive's entry: "." for the root.
func cleanEntry(name string) (string, error) {
	if name != "" && strings.Trim(name, "/") == "" {
		return ".", nil // as umoci and kaniko write it
	}
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q: %w", name, errNotRelative)
	}
	if slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return len(part) > 255 }) {
		return "", fmt.Errorf("%q: a name of more than 255 bytes, which no file can have", name[:min(len(name), 40)]+"…")
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
