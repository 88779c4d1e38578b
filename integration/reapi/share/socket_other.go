//go:build !linux

package share

import (
	"errors"
	"fmt"
	"os"
)

var errNobody = errors.New("no agent is running")

var errHere = fmt.Errorf("remotes need Linux: %w", errors.ErrUnsupported)

// SocketPath is where the user's agent listens.
func SocketPath() (string, error) { return "", errHere }

func connect(string) (*os.File, error) { return nil, errHere }

// Listening says whether somebody of ours listens at the socket.
func Listening(string) bool { return false }
