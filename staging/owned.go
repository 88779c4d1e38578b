package staging

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// # Owners in trees
//
// What a command with recorded owners has made of its outputs is in the nodes of
// their trees, as node properties, which REAPI has for such things: so it is part of a
// tree's digest, and who does not know them loses nothing but that.
//
//	uid, gid     decimal, where it is not 0
//	device       "c:MAJOR:MINOR", "b:MAJOR:MINOR", or "p" for a named pipe; the node
//	             is an empty file
//	xattr.NAME   the value in base64
//
// Modes are in unix_mode, as without owners.

// OwnerProperties returns node properties for what o says beyond the mode.
func OwnerProperties(o Owner) []action.Property {
	var list []action.Property
	add := func(name, value string) { list = append(list, action.Property{Name: name, Value: value}) }
	switch o.Type {
	case TypeChar:
		add("device", fmt.Sprintf("c:%d:%d", o.Major, o.Minor))
	case TypeBlock:
		add("device", fmt.Sprintf("b:%d:%d", o.Major, o.Minor))
	case TypeFIFO:
		add("device", "p")
	}
	if o.GID != 0 {
		add("gid", fmt.Sprint(o.GID))
	}
	if o.UID != 0 {
		add("uid", fmt.Sprint(o.UID))
	}
	for _, k := range slices.Sorted(maps.Keys(o.Xattrs)) {
		add("xattr."+k, base64.StdEncoding.EncodeToString([]byte(o.Xattrs[k])))
	}
	return list
}

// WithOwner adds what o says beyond the mode to the properties of a node.
func WithOwner(p *action.NodeProperties, o Owner) *action.NodeProperties {
	list := OwnerProperties(o)
	if len(list) == 0 {
		return p
	}
	both := action.NodeProperties{}
	if p != nil {
		both = *p
	}
	both.Properties = slices.SortedFunc(slices.Values(slices.Concat(both.Properties, list)), func(a, b action.Property) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	return &both
}

// OwnerOf returns what the properties of a node, which is a t in its tree and
// usually has the mode usual, say of it. What is no owner's property is passed over.
func OwnerOf(p *action.NodeProperties, t NodeType, usual uint32) (Owner, error) {
	o := Owner{Type: t, Mode: usual}
	if p == nil {
		return o, nil
	}
	if p.UnixMode != nil {
		o.Mode = *p.UnixMode & 0o7777
	}
	for _, prop := range p.Properties {
		var err error
		switch name, value := prop.Name, prop.Value; {
		case name == "uid":
			o.UID, err = parseID(value)
		case name == "gid":
			o.GID, err = parseID(value)
		case name == "device":
			err = o.parseDevice(value)
		case strings.HasPrefix(name, "xattr."):
			var content []byte
			content, err = base64.StdEncoding.DecodeString(value)
			if o.Xattrs == nil {
				o.Xattrs = map[string]string{}
			}
			o.Xattrs[strings.TrimPrefix(name, "xattr.")] = string(content)
		}
		if err != nil {
			return o, fmt.Errorf("node property %s=%q: %w", prop.Name, prop.Value, err)
		}
	}
	return o, nil
}

func (o *Owner) parseDevice(value string) error {
	if value == "p" {
		o.Type = TypeFIFO
		return nil
	}
	var kind rune
	if n, _ := fmt.Sscanf(value, "%c:%d:%d", &kind, &o.Major, &o.Minor); n != 3 || o.Major < 0 || o.Minor < 0 {
		return fmt.Errorf("want c:MAJOR:MINOR, b:MAJOR:MINOR or p")
	}
	switch kind {
	case 'c':
		o.Type = TypeChar
	case 'b':
		o.Type = TypeBlock
	default:
		return fmt.Errorf("want c:MAJOR:MINOR, b:MAJOR:MINOR or p")
	}
	return nil
}

// Known is a list of owners as a command with recorded owners is told of it: what
// does not belong to 0:0, and devices.
func Known(list Owners) []backends.Owned {
	const charDevice, blockDevice = 0o020000, 0o060000 // S_IFCHR, S_IFBLK of Linux
	var out []backends.Owned
	for _, p := range slices.Sorted(maps.Keys(list)) {
		o := list[p]
		x := backends.Owned{Path: "/" + p, UID: uint32(o.UID), GID: uint32(o.GID), Major: uint32(o.Major), Minor: uint32(o.Minor)}
		switch o.Type {
		case TypeChar:
			x.Kind = charDevice
		case TypeBlock:
			x.Kind = blockDevice
		}
		if x.UID|x.GID|x.Kind != 0 && p != "." {
			out = append(out, x)
		}
	}
	return out
}
