package component

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// ownedProperty is the platform property of an action in whose root something does
// not belong to root: the digest of what that is, as staging.Owners says it.
const ownedProperty = "owned"

// known is the part of owners that a command can see: what does not belong to
// 0:0, and devices, but for those below our own mounts.
func known(owners staging.Owners) staging.Owners {
	list := staging.Owners{}
	for p, o := range owners {
		switch top, _, _ := strings.Cut(p, "/"); top {
		case "dev", "proc", "sys", "tmp", strings.Trim(workRoot, "/"):
			continue
		}
		if o.UID|o.GID != 0 || !o.InTree() && o.Type != staging.TypeFIFO {
			o.Xattrs = nil
			list[p] = o
		}
	}
	return list
}

// record makes the action one whose command may change owners and make devices, in
// a root in which list is known.
func (p *plan) record(f action.Function, list staging.Owners) {
	p.stager.owned = list
	p.action.Platform = append(p.action.Platform, action.Property{Name: action.OwnersProperty, Value: action.OwnersRecorded})
	if len(list) > 0 {
		p.action.Platform = append(p.action.Platform, action.Property{Name: ownedProperty, Value: action.Sum(f, list.Marshal()).String()})
	}
	slices.SortFunc(p.action.Platform, func(a, b action.Property) int { return strings.Compare(a.Name, b.Name) })
}

// given returns what a command has given away, or taken, of what is not an output
// of its own: by path.
func (s *buildStager) given(left *backends.Status) staging.Owners {
	list := staging.Owners{}
	for _, x := range left.Owned {
		p := strings.TrimPrefix(path.Clean(x.Path), "/")
		if x.Path == "" || p == "" || s.ignored(p) {
			continue
		}
		o := staging.Owner{UID: int(x.UID), GID: int(x.GID), Major: int64(x.Major), Minor: int64(x.Minor)}
		switch x.Kind {
		case unix.S_IFCHR:
			o.Type = staging.TypeChar
		case unix.S_IFBLK:
			o.Type = staging.TypeBlock
		}
		was := s.owned[p]
		if was.UID != o.UID || was.GID != o.GID || o.Type != "" && (was.Type != o.Type || was.Major != o.Major || was.Minor != o.Minor) {
			list[p] = o
		}
	}
	return list
}

// own notes in the tree that p belongs to o.
func (t *tree) own(ctx context.Context, p string, o staging.Owner) error {
	d, err := t.directory(ctx, path.Dir(p), true)
	if err != nil {
		return err
	}
	if err := t.load(ctx, d); err != nil {
		return err
	}
	n := d.names[path.Base(p)]
	if n == nil {
		return nil
	}
	switch {
	case n.file != nil:
		file := *n.file
		file.Properties = explicit(file.Properties, o)
		d.names[path.Base(p)] = &node{file: &file}
	case n.link != nil:
		link := *n.link
		link.Properties = explicit(link.Properties, o)
		d.names[path.Base(p)] = &node{link: &link}
	default:
		if err := t.load(ctx, n.dir); err != nil {
			return err
		}
		n.dir.digest, n.dir.props = action.Digest{}, explicit(n.dir.props, o)
	}
	return nil
}

// explicit is staging.WithOwner, but says 0 of a user and a group, too, and leaves
// out what was said before.
func explicit(p *action.NodeProperties, o staging.Owner) *action.NodeProperties {
	out := action.NodeProperties{}
	if p != nil {
		out.MTime, out.UnixMode = p.MTime, p.UnixMode
		for _, x := range p.Properties {
			if strings.HasPrefix(x.Name, "xattr.") {
				out.Properties = append(out.Properties, x)
			}
		}
	}
	ids := o
	ids.UID, ids.GID = 0, 0
	out.Properties = append(
		out.Properties,
		action.Property{Name: "gid", Value: fmt.Sprint(o.GID)}, action.Property{Name: "uid", Value: fmt.Sprint(o.UID)},
	)
	return staging.WithOwner(&out, ids)
}

// saysOwner says whether properties have an owner, not only a mode.
func saysOwner(p *action.NodeProperties) bool {
	return p != nil && slices.ContainsFunc(p.Properties, func(x action.Property) bool {
		return x.Name == "uid" || x.Name == "gid" || x.Name == "device" || strings.HasPrefix(x.Name, "xattr.")
	})
}
