package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// maxDocument bounds manifests, indexes and configurations: registries allow 4
// MiB.
const maxDocument = 4 << 20

// importOCI imports from an image layout (OCI image specification,
// image-layout.md).
func importOCI(ctx context.Context, blobs action.Blobs, c container, o Options) (*Image, error) {
	raw, err := document(c, "index.json")
	if err != nil {
		return nil, err
	}
	top, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	desc, err := o.choose(c, top.Manifests)
	if err != nil {
		return nil, err
	}
	if raw, err = blob(c, desc); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("manifest %v: %w", desc.Digest, err)
	}
	config, err := ociConfig(c, m.Config)
	if err != nil {
		return nil, err
	}
	im := staging.NewImporter(ctx, blobs, o.ImportOptions)
	for n, layer := range m.Layers {
		if !layer.MediaType.IsLayer() {
			return nil, fmt.Errorf("layer %d is of type %q, which is not one of a file system: this is no image of a container", n+1, layer.MediaType)
		}
		if err := importLayer(im, c, layer); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", n+1, len(m.Layers), err)
		}
	}
	out, err := im.Finish()
	if err != nil {
		return nil, err
	}
	return &Image{Import: *out, Kind: "OCI image " + desc.Digest.String(), Config: config}, nil
}

// choose follows indexes down to the manifest that o means.
func (o Options) choose(c container, list []v1.Descriptor) (v1.Descriptor, error) {
	if o.Tag != "" {
		var named []v1.Descriptor
		for _, d := range list {
			if tagOf(d) == o.Tag {
				named = append(named, d)
			}
		}
		if len(named) == 0 {
			return v1.Descriptor{}, fmt.Errorf("no image is called %q: there are %s", o.Tag, describe(list))
		}
		list = named
	}
	want, err := o.platform()
	if err != nil {
		return v1.Descriptor{}, err
	}
	manifests, err := flatten(c, list, 0)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if len(manifests) == 1 && o.Platform == "" { // whatever it says of itself
		return manifests[0], nil
	}
	var fit []v1.Descriptor
	for _, d := range manifests {
		p := d.Platform
		if p == nil {
			p = platformOf(c, d)
		}
		if p == nil || p.Satisfies(*want) {
			fit = append(fit, d)
		}
	}
	switch len(fit) {
	case 0:
		return v1.Descriptor{}, fmt.Errorf("no image for the platform %s: there are %s; choose with --platform", want, describe(manifests))
	case 1:
		return fit[0], nil
	}
	if slices.ContainsFunc(fit[1:], func(d v1.Descriptor) bool { return d.Digest != fit[0].Digest }) {
		return v1.Descriptor{}, fmt.Errorf("several images fit: %s; choose with --tag or --platform", describe(fit))
	}
	return fit[0], nil
}

// platform is what --platform says, else that of this machine.
func (o Options) platform() (*v1.Platform, error) {
	if o.Platform == "" {
		return &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := v1.ParsePlatform(o.Platform)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return nil, fmt.Errorf("platform %q: want OS/ARCHITECTURE, as in linux/arm64", o.Platform)
	}
	return p, nil
}

// platformOf is what the configuration of an image says; nil if nothing.
func platformOf(c container, d v1.Descriptor) *v1.Platform {
	raw, err := blob(c, d)
	if err != nil {
		return nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	if raw, err = blob(c, m.Config); err != nil {
		return nil
	}
	f, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil || f.Architecture == "" {
		return nil
	}
	return f.Platform()
}

// flatten replaces indexes by what they hold.
func flatten(c container, list []v1.Descriptor, depth int) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	for _, d := range list {
		switch {
		case d.MediaType.IsIndex() && depth < 4:
			raw, err := blob(c, d)
			if err != nil {
				return nil, fmt.Errorf("index: %w", err)
			}
			sub, err := v1.ParseIndexManifest(bytes.NewReader(raw))
			if err != nil {
				return nil, fmt.Errorf("index %v: %w", d.Digest, err)
			}
			more, err := flatten(c, sub.Manifests, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case d.MediaType.IsImage() && d.Annotations["vnd.docker.reference.type"] != "attestation-manifest":
			out = append(out, d)
		}
	}
	if len(out) > 1000 {
		return nil, errors.New("more than 1000 images")
	}
	if len(out) == 0 && depth == 0 {
		return nil, errors.New("no image in it")
	}
	return out, nil
}

// tagOf is the name by which a layout knows an image.
func tagOf(d v1.Descriptor) string { return d.Annotations["org.opencontainers.image.ref.name"] }

func describe(list []v1.Descriptor) string {
	var words []string
	for _, d := range list {
		word := d.Digest.String()[:min(19, len(d.Digest.String()))]
		if t := tagOf(d); t != "" {
			word += fmt.Sprintf(" (tag %q)", t)
		}
		if d.Platform != nil {
			word += " for " + d.Platform.String()
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func ociConfig(c container, d v1.Descriptor) (*Config, error) {
	raw, err := blob(c, d)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("configuration %v: %w", d.Digest, err)
	}
	return configOf(f), nil
}

func configOf(f *v1.ConfigFile) *Config {
	user, group, _ := strings.Cut(f.Config.User, ":")
	return &Config{
		Args: slices.Concat(f.Config.Entrypoint, f.Config.Cmd),
		Env:  f.Config.Env, Dir: f.Config.WorkingDir, User: user, Group: group,
	}
}

// importLayer puts a layer upon the others, and checks its digest.
func importLayer(im *staging.Importer, c container, d v1.Descriptor) error {
	r, err := openBlob(c, d)
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := im.Layer(plain); err != nil {
		return err
	}
	return r.check()
}

// document reads a small file.
func document(c container, name string) ([]byte, error) {
	r, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxDocument)
	}
	return data, err
}

// blob reads a small blob and checks its digest.
func blob(c container, d v1.Descriptor) ([]byte, error) {
	r, err := openBlob(c, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		return nil, fmt.Errorf("%v is larger than %d bytes", d.Digest, maxDocument)
	}
	return data, errors.Join(err, r.check())
}

// A checked blob knows whether it is what its digest says, once it was read.
type checked struct {
	io.Reader // what was read of src is in sum
	src       io.ReadCloser
	sum       hash.Hash
	want      v1.Descriptor
	n         int64
}

func openBlob(c container, d v1.Descriptor) (*checked, error) {
	h, err := hasher(d.Digest)
	if err != nil {
		return nil, err
	}
	src, err := c.open("blobs/" + d.Digest.Algorithm + "/" + d.Digest.Hex)
	if err != nil {
		return nil, err
	}
	k := &checked{src: src, sum: h, want: d}
	k.Reader = io.TeeReader(src, io.MultiWriter(h, (*count)(&k.n)))
	return k, nil
}

// hasher also sees to it that the digest is safe to use as a name.
func hasher(d v1.Hash) (hash.Hash, error) {
	raw, err := hex.DecodeString(d.Hex)
	if err == nil && hex.EncodeToString(raw) == d.Hex {
		switch {
		case d.Algorithm == "sha256" && len(raw) == sha256.Size:
			return sha256.New(), nil
		case d.Algorithm == "sha512" && len(raw) == sha512.Size:
			return sha512.New(), nil
		}
	}
	return nil, fmt.Errorf("malformed digest %q", d.String())
}

// check reads what is left, which a decompressor need not, and compares.
func (k *checked) check() error {
	if _, err := io.Copy(io.Discard, k.Reader); err != nil {
		return err
	}
	if got := hex.EncodeToString(k.sum.Sum(nil)); got != k.want.Digest.Hex {
		return fmt.Errorf("the blob %v is damaged: its digest is %s", k.want.Digest, got)
	}
	if k.want.Size > 0 && k.n != k.want.Size {
		return fmt.Errorf("the blob %v has %d bytes, not %d", k.want.Digest, k.n, k.want.Size)
	}
	return nil
}

func (k *checked) Close() error { return k.src.Close() }

type count int64

func (c *count) Write(p []byte) (int, error) {
	*c += count(len(p))
	return len(p), nil
}
