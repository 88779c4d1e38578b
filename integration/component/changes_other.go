//go:build !linux

package component

import (
	"context"
	"errors"
	"time"

	"github.com/sbx-action/sbx-action/staging"
)

func coarseNow() time.Time { return time.Now() }

// A changeWalker has nothing to walk where there is no sandbox.
type changeWalker struct {
	ctx  context.Context
	s    *buildStager
	list []Change

	owned *staging.Owned
}

func (w *changeWalker) strays(int) error { return nil }

func (w *changeWalker) directory(int, string, *dir, string) error {
	return errors.New("only Linux has sandboxes")
}
