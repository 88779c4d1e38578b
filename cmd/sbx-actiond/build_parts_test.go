package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/component"
)

// TestBaseDigest takes a root file system only if it is what it must be: a
// directory, and an archive, of which the digest is that of the file.
func TestBaseDigest(t *testing.T) {
	dir := t.TempDir()
	root, archive := filepath.Join(dir, "root"), filepath.Join(dir, "x.tar")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	var tarred bytes.Buffer
	w := tar.NewWriter(&tarred)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	data := tarred.Bytes()
	if err := os.WriteFile(archive, data, 0o644); err != nil {
		t.Fatal(err)
	}
	parts, err := openBuildParts(buildFlags{cache: filepath.Join(dir, "store"), digest: commandline.Function{Function: action.BLAKE3}})
	if err != nil {
		t.Fatal(err)
	}
	defer parts.Close()
	sum := sha256.Sum256(data)
	base, err := parts.base(t.Context(), component.Base(root))
	if err != nil {
		t.Fatal(err)
	}
	tree, _, _ := strings.Cut(base.Tree.String(), "/")
	wrong := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct{ place, right string }{{root, tree}, {archive, "sha256:" + hex.EncodeToString(sum[:])}} {
		if _, err := parts.base(t.Context(), component.Base(c.place+"#"+c.right)); err != nil {
			t.Errorf("%s: %v", c.place, err)
		}
		if x, err := parts.base(t.Context(), component.Base(c.place+"#"+wrong)); err == nil || x != nil || !strings.Contains(err.Error(), c.place+" is not what was asked for: its digest is "+c.right[:20]) {
			t.Errorf("%s with another digest: %v, %v", c.place, x, err)
		}
	}
	index := filepath.Join(dir, "index.json")
	if err := os.WriteFile(index, []byte(`{"manifests": [{"digest": "sha256:12"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := manifestOf(index); len(got) != 1 || got[0] != "sha256:12" {
		t.Errorf("the manifest of a layout: %q", got)
	}
}
