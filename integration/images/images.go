// Package images puts the root file systems that people have into the store:
// directories, tar archives, OCI image layouts and archives, archives of
// 'docker save', App Container images, schroot definitions, and the host.
//
// It promises that nothing outside the source is read, whatever links or names
// the source holds; that every blob of an image is what its digest says, or the
// import fails; and that a source can take no more than the limits allow, in
// the store and on the way. What an import that fails has stored by then is
// left for the next trim.
//
// The formats themselves are parsed by go-containerregistry and the compression
// libraries; layers are put together by [staging.Importer].
package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// Options say which image of several is meant, and bound the import.
type Options struct {
	staging.ImportOptions

	Platform string // OS/ARCH[/VARIANT]; "" for this machine's
	Tag      string // the reference by which an archive or a layout knows the image; "" if there is one only
}

// An Image is a root file system that was put into the store.
type Image struct {
	staging.Import
	Kind   string // what the source was found to be, for people
	Config *Config
}

// A Config is what an image says of the command that is to run in it: defaults
// for whoever runs one.
type Config struct {
	Args  []string `json:"args,omitempty"`
	Env   []string `json:"env,omitempty"` // NAME=VALUE
	Dir   string   `json:"dir,omitempty"`
	User  string   `json:"user,omitempty"` // as the image spells it
	Group string   `json:"group,omitempty"`
}

// Import stores the root file system that source names:
//
//	a directory      an OCI image layout if it holds the file oci-layout, else the tree itself
//	a file           an archive, plain or compressed (gzip, bzip2, xz, zstd): of an OCI layout,
//	                 of 'docker save', an App Container image, else of the tree itself
//	schroot:NAME     the directory or file of a schroot definition
//	host             the system directories of this machine
func Import(ctx context.Context, blobs action.Blobs, source string, o Options) (*Image, error) {
	im, err := importAny(ctx, blobs, source, o)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", source, err)
	}
	return im, nil
}

func importAny(ctx context.Context, blobs action.Blobs, source string, o Options) (*Image, error) {
	if name, ok := strings.CutPrefix(source, "schroot:"); ok {
		place, err := schrootSource("/etc/schroot", name)
		if err != nil {
			return nil, err
		}
		return importPath(ctx, blobs, place, o)
	}
	if source == "host" {
		return importHost(ctx, blobs, o)
	}
	return importPath(ctx, blobs, source, o)
}

func importPath(ctx context.Context, blobs action.Blobs, source string, o Options) (*Image, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return importArchive(ctx, blobs, source, o)
	}
	if !info.IsDir() {
		return nil, errors.New("neither a directory nor a file")
	}
	if _, err := os.Lstat(filepath.Join(source, "oci-layout")); err == nil {
		root, err := os.OpenRoot(source)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return importOCI(ctx, blobs, folder{root}, o)
	}
	if err := o.none("a directory"); err != nil {
		return nil, err
	}
	im, err := staging.ImportDir(ctx, blobs, source, o.ImportOptions)
	if err != nil {
		return nil, err
	}
	return &Image{Import: *im, Kind: "directory"}, nil
}

// none refuses choices where there is nothing to choose from.
func (o Options) none(what string) error {
	if o.Platform != "" {
		return fmt.Errorf("%s has no platforms to choose from: leave out --platform", what)
	}
	if o.Tag != "" {
		return fmt.Errorf("%s has no tags to choose from: leave out --tag", what)
	}
	return nil
}

// hostDirs are the directories that make a root of this machine: what programs,
// libraries and their settings are in, and no data of users.
var hostDirs = []string{"bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr"}

// importHost imports the system directories of this machine.
func importHost(ctx context.Context, blobs action.Blobs, o Options) (*Image, error) {
	if err := o.none("the host"); err != nil {
		return nil, err
	}
	o.Readable = true // there always is an /etc/shadow
	im := staging.NewImporter(ctx, blobs, o.ImportOptions)
	root, err := os.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, name := range hostDirs {
		if _, err := root.Lstat(name); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := im.Add(root, name); err != nil {
			return nil, err
		}
	}
	out, err := im.Finish()
	if err != nil {
		return nil, err
	}
	return &Image{Import: *out, Kind: "host"}, nil
}
