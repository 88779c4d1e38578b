package backends

import (
	"fmt"
	"strings"
)

// SELinux are labels: user:role:type:level, the last of them optional.
type SELinux struct {
	Process string // of the command
	Mount   string // of the file systems that are mounted for it; empty: what the policy says
}

// Check says why a label is malformed, or nil. What the policy has, the kernel knows.
func (l *SELinux) Check() error {
	for _, label := range []string{l.Process, l.Mount} {
		if label == "" {
			continue
		}
		// Levels have colons, too: s0:c1,c2.
		if n := strings.Count(label, ":"); n < 2 || n > 4 || strings.ContainsAny(label, " \t\n\x00\"\\") || strings.HasPrefix(label, ":") || strings.HasSuffix(label, ":") || strings.Contains(label, "::") {
			return fmt.Errorf("%q is no SELinux label: want user:role:type or user:role:type:level", label)
		}
	}
	return nil
}
