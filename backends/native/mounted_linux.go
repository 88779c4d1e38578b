package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sbx-action/sbx-action/backends"
)

// mountedBelow explains err, if it is what the kernel says to users who want a directory
// as a layer below which something is mounted: they would see what that covers.
func (b *Backend) mountedBelow(root *backends.Root, err error) error {
	if !b.unprivileged || !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "mount overlay") {
		return err
	}
	info, readErr := os.ReadFile("/proc/self/mountinfo")
	if readErr != nil {
		return err
	}
	for _, l := range root.Lowers {
		dir, linkErr := filepath.EvalSymlinks(l.Dir)
		if linkErr != nil {
			continue
		}
		if at := mountBelow(string(info), dir); at != "" {
			return fmt.Errorf("%w: %s is mounted below %s, and to show that without it is for root: give a directory with no mounts below it, such as a copy, or the root file system host", err, at, l.Dir)
		}
	}
	return err
}

// mountBelow is the first mount point below dir that info, which is as
// /proc/self/mountinfo, has; "" if there is none.
func mountBelow(info, dir string) string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(info) {
		if f := strings.Fields(line); len(f) > 4 {
			at := unescape.Replace(f[4])
			if at != dir && strings.HasPrefix(at, strings.TrimSuffix(dir, "/")+"/") {
				return at
			}
		}
	}
	return ""
}
