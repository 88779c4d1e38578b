package staging

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/erofs"
)

// Made returns what the root shows in a directory that staging makes, of things
// that not every host has, as lines to compare; and false for every other path.
//
// Such a directory is not of the host, but what a command sees when it lists it
// depends on the host: in the root directory, on whether there is a /gnu.
func (r Rootfs) Made(dir string) ([]byte, bool) {
	if r.host == nil || !r.host.makes(dir) {
		return nil, false
	}
	return r.host.made(dir), true
}

// makes says whether dir is made for the sake of what is shown in it. All else
// that staging makes is the same on every host.
func (h *hostView) makes(dir string) bool {
	shown := []string{"/etc/" + opensslConfig, "/var/lib/" + varDirs[0]}
	if h.network {
		shown = append(shown, certDirs...)
	}
	return dir == "/" || slices.ContainsFunc(shown, func(p string) bool { return strings.HasPrefix(p, dir+"/") })
}

// made lists dir as [Stager.stageHost] makes it.
func (h *hostView) made(dir string) []byte {
	if err := h.look(); err != nil {
		return []byte(err.Error()) // then nothing can be staged
	}
	root := emptyDir()
	if etc, err := h.etc(); err == nil {
		etc.name = "etc"
		root.kids = append(root.kids, etc)
	}
	for path, target := range h.links {
		root.put(path[1:], fillNode{kind: erofs.Symlink, target: target})
	}
	for _, b := range h.binds {
		root.put(b.Target[1:], emptyDir())
	}
	at := &root
	for name := range strings.FieldsFuncSeq(dir, func(r rune) bool { return r == '/' }) {
		i := slices.IndexFunc(at.kids, func(k fillNode) bool { return k.name == name })
		if i < 0 {
			return []byte("absent")
		}
		at = &at.kids[i]
	}
	var lines []byte
	for i := range at.kids {
		lines = fmt.Appendf(lines, "%q %v\n", at.kids[i].name, at.kids[i].kind)
	}
	return lines
}
