//go:build linux

package helper

import (
	"errors"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

var errNoSELinux = errors.New("SELinux is not active on this machine (/sys/fs/selinux is not mounted): leave the label out, or boot a kernel with SELinux and a policy")

// CheckSELinux says why the labels of spec cannot be given, or nil. status is a
// file that is there, and begins with a digit, where SELinux is active:
// [SELinuxStatus].
func CheckSELinux(l *backends.SELinux, status string) error {
	if l == nil {
		return nil
	}
	if err := l.Check(); err != nil {
		return err
	}
	data, err := os.ReadFile(status)
	if text := strings.TrimSpace(string(data)); err != nil || text != "0" && text != "1" {
		return errNoSELinux
	}
	return nil
}

// SELinuxStatus is whether the policy is enforced, where there is one.
const SELinuxStatus = "/sys/fs/selinux/enforce"
