package images

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// aciManifest is what we need of an image manifest of the App Container
// specification 0.8 (spec/aci.md). No module with its schema is to be had.
type aciManifest struct {
	Kind         string `json:"acKind"`
	Name         string `json:"name"`
	Dependencies []struct {
		ImageName string `json:"imageName"`
	} `json:"dependencies"`
	PathWhitelist []string `json:"pathWhitelist"`
	App           *struct {
		Exec        []string `json:"exec"`
		User        string   `json:"user"`
		Group       string   `json:"group"`
		Directory   string   `json:"workingDirectory"`
		Environment []struct {
			Name, Value string
		} `json:"environment"`
	} `json:"app"`
}

// importACI imports an App Container image: the file manifest, and the tree
// below rootfs.
func importACI(ctx context.Context, blobs action.Blobs, b *bundle, o Options) (*Image, error) {
	if err := o.none("an App Container image"); err != nil {
		return nil, err
	}
	raw, err := document(b, "manifest")
	if err != nil {
		return nil, err
	}
	var m aciManifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.Kind != "ImageManifest":
		return nil, fmt.Errorf("manifest: acKind is %q, not ImageManifest", m.Kind)
	case len(m.Dependencies) > 0:
		return nil, fmt.Errorf("the image builds upon %q, which is not in it: render it into one image first", m.Dependencies[0].ImageName)
	case len(m.PathWhitelist) > 0:
		return nil, errors.New("the image has a pathWhitelist: render it into one image first")
	}
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(stripRootfs(b.file, w)) }()
	im := staging.NewImporter(ctx, blobs, o.ImportOptions)
	err = im.Tar(r)
	r.Close() // ends the goroutine, if it has not ended
	if err != nil {
		return nil, err
	}
	out, err := im.Finish()
	if err != nil {
		return nil, err
	}
	return &Image{Import: *out, Kind: "App Container image " + m.Name, Config: m.config()}, nil
}

// stripRootfs copies what is below rootfs.
func stripRootfs(from io.Reader, to io.Writer) error {
	in, out := tar.NewReader(from), tar.NewWriter(to)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		name, ok := below(h.Name)
		if !ok {
			continue
		}
		h.Name = name
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, ok = below(h.Linkname); !ok {
				return fmt.Errorf("%q: a hard link to what is not in rootfs", name)
			}
		}
		h.Format = tar.FormatPAX // holds every name and number
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.Copy(out, in); err != nil {
				return err
			}
		}
	}
}

// below returns the rest of a name in rootfs.
func below(name string) (string, bool) {
	name = strings.TrimPrefix(name, "./")
	if strings.TrimSuffix(name, "/") == "rootfs" {
		return "./", true
	}
	return strings.CutPrefix(name, "rootfs/")
}

func (m *aciManifest) config() *Config {
	if m.App == nil {
		return nil
	}
	c := &Config{Args: m.App.Exec, Dir: m.App.Directory, User: m.App.User, Group: m.App.Group}
	for _, v := range m.App.Environment {
		c.Env = append(c.Env, v.Name+"="+v.Value)
	}
	return c
}
