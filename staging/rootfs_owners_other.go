//go:build !linux

package staging

import (
	"io/fs"
	"os"
)

// ownerOf returns what Go knows of a file on every system.
func ownerOf(info fs.FileInfo, _ *os.File) Owner {
	o := Owner{Type: TypeFile, Mode: uint32(info.Mode().Perm())}
	switch info.Mode().Type() {
	case fs.ModeDir:
		o.Type = TypeDir
	case fs.ModeSymlink:
		o.Type = TypeLink
	case fs.ModeNamedPipe:
		o.Type = TypeFIFO
	case fs.ModeDevice:
		o.Type = TypeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		o.Type = TypeChar
	}
	return o
}
