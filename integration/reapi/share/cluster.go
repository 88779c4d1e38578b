package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A Cluster executes actions on the remote of a link: it is an
// [action.Elsewhere]. Each action has a connection of its own, so that those of
// one process run side by side.
type Cluster struct {
	Link     *Link
	Store    action.Blobs
	Racing   bool     // see [action.Elsewhere]
	Platform []string // NAME=VALUE, in the place of an action's own

	// Here is told why an action cannot be executed elsewhere, Failed what went
	// wrong with the remote.
	Here   func(req *action.Request, why error)
	Failed func(ctx context.Context, err error)
}

// CheckPlatform says why Platform is malformed, or nil.
func CheckPlatform(platform []string) error {
	for _, p := range platform {
		if name, _, ok := strings.Cut(p, "="); !ok || name == "" {
			return fmt.Errorf("%q: want NAME=VALUE", p)
		}
	}
	return nil
}

// Race implements [action.Elsewhere].
func (c *Cluster) Race() bool { return c.Racing }

// Execute implements [action.Elsewhere].
func (c *Cluster) Execute(ctx context.Context, req *action.Request) (*action.Away, error) {
	if why := local(req); why != nil {
		c.Here(req, why)
		return nil, why
	}
	a := c.foreign(req)
	f := req.Action.InputRoot.Function()
	key := a.Digest(f)
	for _, m := range [][]byte{a.Marshal(), req.Command.Marshal()} {
		if _, err := c.Store.PutBytes(ctx, f, m); err != nil {
			return nil, err
		}
	}
	link := c.Link.Another()
	defer link.Close()
	e, err := link.Execute(ctx, key, req.SkipLookup)
	if err != nil {
		c.Failed(ctx, err)
		return nil, err
	}
	return &action.Away{Result: e.Result, Cached: e.Cached, Same: key == req.Action.Digest(f)}, nil
}

// local says why an action cannot be executed elsewhere, or nil.
func local(req *action.Request) error {
	switch {
	case req.Stdin != nil:
		return errors.New("the remote execution API has no standard input")
	case req.Network != backends.NetworkNone:
		return errors.New("with --network it needs this machine's")
	}
	for _, o := range req.Command.OutputPaths {
		if strings.ContainsAny(o, "*?[{") {
			return fmt.Errorf("the output %q is a pattern, which the remote execution API does not have", o)
		}
	}
	return nil
}

// foreign is the action as a cluster is to execute it. Its platform does not
// name a view of the host: the cluster's is another.
func (c *Cluster) foreign(req *action.Request) *action.Action {
	a := *req.Action
	a.Timeout = req.Limits.Wall
	if len(c.Platform) > 0 {
		a.Platform = nil
		for _, p := range c.Platform {
			name, value, _ := strings.Cut(p, "=")
			a.Platform = append(a.Platform, action.Property{Name: name, Value: value})
		}
	} else {
		a.Platform = slices.DeleteFunc(slices.Clone(a.Platform), func(p action.Property) bool {
			return p.Name == staging.RootfsProperty && strings.HasPrefix(p.Value, "host")
		})
	}
	slices.SortFunc(a.Platform, func(x, y action.Property) int {
		if n := strings.Compare(x.Name, y.Name); n != 0 {
			return n
		}
		return strings.Compare(x.Value, y.Value)
	})
	a.Platform = slices.Compact(a.Platform)
	return &a
}
