package execution

import (
	"context"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// missing returns what of the tree root is not in the store, each once: all of
// it, so that a client needs one more try and not many.
func (e *Engine) missing(ctx context.Context, root action.Digest) ([]action.Digest, error) {
	var lost []action.Digest
	seen := map[action.Digest]bool{root: true}
	queue := []action.Digest{root}
	for len(queue) > 0 && len(lost) < reapi.MissingMax {
		d := queue[0]
		queue = queue[1:]
		if !e.opts.Store.Holds(ctx, d) { // the memo may have what the store has not
			lost = append(lost, d)
			continue
		}
		m, err := e.dirs.Get(ctx, d)
		if err != nil {
			return nil, err
		}
		for i := range m.Directories {
			if below := m.Directories[i].Digest; !seen[below] {
				seen[below] = true
				queue = append(queue, below)
			}
		}
		for i := range m.Files {
			if f := m.Files[i].Digest; !seen[f] {
				seen[f] = true
				if !e.opts.Store.Holds(ctx, f) {
					lost = append(lost, f)
				}
			}
		}
	}
	return lost, ctx.Err()
}
