//go:build !unix

package progress

import "os"

// Terminal returns what [Options.Size] wants, or nil if f is no terminal.
func Terminal(*os.File) func() (columns, rows int) { return nil }
