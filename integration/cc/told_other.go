//go:build !linux

package cc

import (
	"context"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

const toldProperty = "inputs-as-told"

type bare struct {
	backends.Backend
	parts *Parts
}

// Told says false.
func Told(*Parts, *Call, Want) (*Session, bool) { return nil, false }

func (s *Session) collectTold(context.Context) (*action.Result, error) { return nil, ErrPlain }

func (s *Session) lookupsTold(context.Context) ([]backends.Lookup, error) { return nil, ErrPlain }
