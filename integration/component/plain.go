package component

import (
	"context"
	"errors"

	"github.com/sbx-action/sbx-action/action"
)

// Plain returns a result of another machine as ours are: with modes only where
// they are not the usual ones, and without times. It is res itself if there is
// nothing to change. Then equal files give equal trees, wherever they were made.
func (b *Builder) Plain(ctx context.Context, res *action.Result) (*action.Result, error) {
	if res.ExitCode != 0 {
		return res, nil
	}
	if len(res.Directories) != 1 || res.Directories[0].Root.IsZero() {
		return nil, errors.New("it has no directory, as the root_directory_digest of an output directory")
	}
	was := res.Directories[0].Root
	t := newTree(b.Blobs, b.Function, was)
	if err := t.plain(ctx, t.root); err != nil {
		return nil, err
	}
	var s sealer
	root := t.seal(&s)
	if root == was {
		return res, nil
	}
	if err := s.save(ctx, b.Blobs, b.Function); err != nil {
		return nil, err
	}
	out := *res
	out.Directories = []action.OutputDirectory{{Path: res.Directories[0].Path, Root: root}}
	return &out, nil
}

// plain changes the directory and all that is in it.
func (t *tree) plain(ctx context.Context, d *dir) error {
	if err := t.load(ctx, d); err != nil {
		return err
	}
	d.digest = action.Digest{}
	d.props = plainProperties(d.props, 0o755, 0o755)
	for _, n := range d.names {
		switch {
		case n.file != nil:
			f := *n.file
			f.Properties = plainProperties(f.Properties, 0o644, 0o755)
			n.file = &f
		case n.link != nil:
			l := *n.link
			l.Properties = plainProperties(l.Properties, 0o777, 0o777)
			n.link = &l
		default:
			if err := t.plain(ctx, n.dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// plainProperties leaves out the time, and one of the two usual modes.
func plainProperties(p *action.NodeProperties, plain, executable uint32) *action.NodeProperties {
	if p == nil {
		return nil
	}
	q := *p
	q.MTime = nil
	if m := q.UnixMode; m != nil {
		mode := *m & 0o7777 // some say the type, too
		if q.UnixMode = &mode; mode == plain || mode == executable {
			q.UnixMode = nil
		}
	}
	if q.MTime == nil && q.UnixMode == nil && len(q.Properties) == 0 {
		return nil
	}
	return &q
}
