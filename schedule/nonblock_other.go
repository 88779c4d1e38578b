//go:build !unix

package schedule

const nonblock = 0
