//go:build !linux

package staging

import (
	"context"
	"errors"
	"os"

	"github.com/sbx-action/sbx-action/action"
)

func (s *Stager) withProperties(context.Context, action.Digest, func(*os.File) error) (func(*os.File) error, error) {
	return nil, errors.ErrUnsupported
}
