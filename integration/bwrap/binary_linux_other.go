//go:build linux && !amd64 && !arm64

package bwrap

const program = ""
