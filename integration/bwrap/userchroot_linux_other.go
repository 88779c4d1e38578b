//go:build linux && !amd64

package bwrap

var own = machine{refused: anywhere}
