package component

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// Manifest writes a line for each path of a system, sorted, with tabs between
// the columns: type, mode, owner, size, digest or target of a link, component,
// path. A path or target with a tab, a newline or a quote in it is in quotes.
//
//	file	0755	0:0	14480	blake3:4a1f…	strata/libs/bzip2	usr/bin/bzip2
func (b *Builder) Manifest(ctx context.Context, s *BuiltSystem, to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintln(w, "# type\tmode\towner\tsize\tdigest or target\tcomponent\tpath")
	line := func(p string, o staging.Owner, size int64, what string) {
		fmt.Fprintf(w, "%s\t%04o\t%d:%d\t%d\t%s\t%s\t%s\n", o.Type, o.Mode, o.UID, o.GID, size, what, s.origin(p), field(p))
	}
	t := newTree(b.Blobs, b.Function, s.Tree)
	err := t.visit(ctx, func(p string, n *node) error {
		switch {
		case n.file != nil:
			usual := uint32(0o644)
			if n.file.Executable {
				usual = 0o755
			}
			line(p, s.owner(p, staging.TypeFile, usual), n.file.Digest.Size(), n.file.Digest.Function().String()+":"+n.file.Digest.Hash())
		case n.link != nil:
			line(p, s.owner(p, staging.TypeLink, 0o777), 0, "-> "+field(n.link.Target))
		default:
			line(p, s.owner(p, staging.TypeDir, 0o755), 0, "-")
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(s.Owners)) {
		if o := s.Owners[p]; !o.InTree() {
			line(p, o, 0, fmt.Sprintf("%d:%d", o.Major, o.Minor))
		}
	}
	return w.Flush()
}

func field(s string) string {
	if strings.ContainsAny(s, "\t\n\"\r") {
		return strconv.Quote(s)
	}
	return s
}

func (s *BuiltSystem) owner(p string, t staging.NodeType, usual uint32) staging.Owner {
	if o, ok := s.Owners[p]; ok && o.Type == t {
		return o
	}
	return staging.Owner{Type: t, Mode: usual}
}

// origin is whose a path is.
func (s *BuiltSystem) origin(p string) string {
	if o := s.Origin[p]; o != "" {
		return o
	}
	if s.based {
		return BaseOrigin
	}
	return "-"
}

// SBOM writes what a system is made of as an SPDX 2.3 document: a package for
// the system and for each component, what each needed to be built, and its
// source with the digest or commit. The same system gives the same bytes.
func (b *Builder) SBOM(s *BuiltSystem, built map[*Component]*Built, to io.Writer) error {
	doc := spdx{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: s.Name,
		Namespace: "https://sbx-action.invalid/" + s.Tree.Hash(),
		Created:   spdxCreation{Created: time.Unix(staging.MTime, 0).UTC().Format(time.RFC3339), Creators: []string{"Tool: sbx-action"}},
	}
	system := spdxPackage{ID: spdxID("system", s.Name), Name: s.Name, Version: s.Tree.Hash(), Purpose: "OPERATING-SYSTEM"}
	system.fill(s.Tree)
	doc.Packages = append(doc.Packages, system)
	doc.relate(doc.ID, "DESCRIBES", system.ID)
	var parts []*Component
	inside := map[*Component]bool{}
	for _, c := range s.Contents {
		parts = append(parts, c.Component)
		inside[c.Component] = true
	}
	for _, c := range needed(parts) {
		r := built[c]
		if r == nil {
			continue
		}
		p := spdxPackage{ID: spdxID("component", c.Name), Name: c.Name, Version: r.Tree.Hash(), Purpose: "APPLICATION"}
		p.fill(r.Tree)
		if r.Inputs.Base != "" {
			p.Comment = "base " + r.Inputs.Base
		}
		doc.Packages = append(doc.Packages, p)
		if inside[c] {
			doc.relate(system.ID, "CONTAINS", p.ID)
		}
		for _, n := range c.Needs {
			doc.relate(spdxID("component", n.Name), "BUILD_DEPENDENCY_OF", p.ID)
		}
		if c.Source != nil {
			src := spdxPackage{ID: spdxID("source", c.Name), Name: c.Name + " source", Version: r.Inputs.Source, Purpose: "SOURCE", Location: "NOASSERTION"}
			src.source(c.Source, r.Inputs)
			doc.Packages = append(doc.Packages, src)
			doc.relate(p.ID, "GENERATED_FROM", src.ID)
		}
	}
	enc := json.NewEncoder(to)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(&doc)
}

type spdx struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Created       spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"name"`
	Version   string         `json:"versionInfo,omitempty"`
	Purpose   string         `json:"primaryPackagePurpose,omitempty"`
	Location  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Info      string         `json:"sourceInfo,omitempty"`
	Comment   string         `json:"comment,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

func (d *spdx) relate(from, kind, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{from, kind, to})
}

// fill says which tree the package is. The checksum is of the REAPI Directory at
// its root.
func (p *spdxPackage) fill(tree action.Digest) {
	p.Location = cmp.Or(p.Location, "NONE")
	if a := spdxAlgorithm(tree); a != "" {
		p.Checksums = append(p.Checksums, spdxChecksum{a, tree.Hash()})
	}
}

func spdxAlgorithm(d action.Digest) string {
	return map[action.Function]string{action.SHA256: "SHA256", action.BLAKE3: "BLAKE3"}[d.Function()]
}

func (p *spdxPackage) source(s *Source, in Inputs) {
	p.Info = in.Source
	if !in.Pinned {
		p.Info += "\nnot pinned: what is at this place can change"
	}
	switch {
	case remote(s.At) && s.Kind == GitSource:
		p.Location = "git+" + s.At + "@" + s.Ref
	case remote(s.At):
		p.Location = s.At
	}
	for line := range strings.Lines(in.Source) {
		if sum, ok := strings.CutPrefix(strings.TrimSpace(line), "sha256:"); ok {
			sum, _, _ = strings.Cut(sum, " ")
			p.Checksums = append(p.Checksums, spdxChecksum{"SHA256", sum})
			break
		}
	}
}

// spdxID is an identifier: letters, digits, dots and dashes, and different for
// different names.
func spdxID(kind, name string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, name)
	sum := sha1.Sum([]byte(name))
	return "SPDXRef-" + kind + "-" + clean + "-" + hex.EncodeToString(sum[:4])
}
