package webpage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// tar sends everything below a directory, or the root of a tree, as an archive.
// If something of it is not there, the connection breaks: a part must not pass for
// the whole.
func (h *Handler) tar(w http.ResponseWriter, r *http.Request, kind string, d action.Digest) error {
	p := &packer{h: h, ctx: r.Context(), f: d.Function(), read: func(d action.Digest) (*repb.Directory, error) {
		m := new(repb.Directory)
		return m, h.message(r.Context(), d, m)
	}}
	root, err := p.read(d)
	switch kind {
	case "directory":
	case "tree":
		var children map[action.Digest]*repb.Directory
		root, children, err = h.readTree(r.Context(), d)
		p.read = func(d action.Digest) (*repb.Directory, error) {
			if m := children[d]; m != nil {
				return m, nil
			}
			return nil, fmt.Errorf("directory %v is not in the tree", d)
		}
	default:
		return fmt.Errorf("there is no page %q", r.URL.Path)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="`+d.Hash()[:16]+`.tar"`)
	if r.Method == http.MethodHead {
		return errSent
	}
	p.to = tar.NewWriter(w)
	if err := errors.Join(p.directory(root, "", 0), p.to.Close()); err != nil {
		panic(http.ErrAbortHandler)
	}
	return errSent
}

// packed is the time of all that is in an archive, as commands see it.
var packed = time.Unix(staging.MTime, 0)

const packedMost = 4_000_000 // entries

// A packer writes an archive.
type packer struct {
	h       *Handler
	ctx     context.Context
	f       action.Function
	read    func(action.Digest) (*repb.Directory, error)
	to      *tar.Writer
	entries int
}

// directory writes what is in m. Names are checked: nothing may lead out of where
// the archive is unpacked.
func (p *packer) directory(m *repb.Directory, at string, depth int) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	dir, err := action.ParseDirectory(data, p.f)
	if err != nil {
		return err
	}
	if p.entries += len(dir.Directories) + len(dir.Files) + len(dir.Symlinks); p.entries > packedMost || depth > depthMost*16 {
		return errors.New("the tree is too large")
	}
	for _, n := range dir.Directories {
		if err := p.to.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: at + n.Name + "/", Mode: 0o755, ModTime: packed}); err != nil {
			return err
		}
		below, err := p.read(n.Digest)
		if err == nil {
			err = p.directory(below, at+n.Name+"/", depth+1)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range dir.Files {
		if err := p.file(n, at); err != nil {
			return err
		}
	}
	for _, n := range dir.Symlinks {
		if err := p.to.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: at + n.Name, Linkname: n.Target, Mode: 0o777, ModTime: packed}); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) file(n action.FileNode, at string) error {
	mode := int64(0o644)
	if n.Executable {
		mode = 0o755
	}
	file, err := p.h.Store.OpenContent(p.ctx, n.Digest)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := p.to.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at + n.Name, Size: n.Digest.Size(), Mode: mode, ModTime: packed}); err != nil {
		return err
	}
	_, err = io.Copy(p.to, file)
	return err
}
