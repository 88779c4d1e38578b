package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// importDocker imports from an archive of 'docker save' or 'podman save
// --format docker-archive': manifest.json names the configuration and the
// layers, the configuration has the digests of the unpacked layers.
func importDocker(ctx context.Context, blobs action.Blobs, b *bundle, o Options) (*Image, error) {
	raw, err := document(b, "manifest.json")
	if err != nil {
		return nil, err
	}
	var list tarball.Manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	d, err := o.dockerImage(list)
	if err != nil {
		return nil, err
	}
	if raw, err = document(b, path.Clean(d.Config)); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", d.Config, err)
	}
	if want, err := o.platform(); err != nil {
		return nil, err
	} else if o.Platform != "" && !f.Platform().Satisfies(*want) {
		return nil, fmt.Errorf("the image is for %v, not for %v", f.Platform(), want)
	}
	if len(f.RootFS.DiffIDs) != len(d.Layers) {
		return nil, fmt.Errorf("%d layers, but the configuration has %d", len(d.Layers), len(f.RootFS.DiffIDs))
	}
	im := staging.NewImporter(ctx, blobs, o.ImportOptions)
	for n, name := range d.Layers {
		if err := dockerLayer(im, b, path.Clean(name), f.RootFS.DiffIDs[n]); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", n+1, len(d.Layers), err)
		}
	}
	out, err := im.Finish()
	if err != nil {
		return nil, err
	}
	return &Image{Import: *out, Kind: "docker archive " + strings.Join(d.RepoTags, ", "), Config: configOf(f)}, nil
}

// dockerImage chooses one of the images of an archive.
func (o Options) dockerImage(list tarball.Manifest) (*tarball.Descriptor, error) {
	var tags []string
	for i := range list {
		tags = append(tags, list[i].RepoTags...)
		if slices.Contains(list[i].RepoTags, o.Tag) {
			return &list[i], nil
		}
	}
	switch {
	case o.Tag != "":
		return nil, fmt.Errorf("no image is called %q: there are %q", o.Tag, tags)
	case len(list) == 0:
		return nil, errors.New("manifest.json names no image")
	case len(list) > 1:
		return nil, fmt.Errorf("it holds %d images: choose with --tag: there are %q", len(list), tags)
	}
	return &list[0], nil
}

func dockerLayer(im *staging.Importer, b *bundle, name string, want v1.Hash) error {
	r, err := b.open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	h := sha256.New()
	content := io.TeeReader(plain, h)
	if err := im.Layer(content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("%s is damaged: its digest is sha256:%s, not %v", name, got, want)
	}
	return nil
}
