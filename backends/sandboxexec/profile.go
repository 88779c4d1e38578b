package sandboxexec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Profile says what a command may do. Paths are absolute and have no link in them,
// as the kernel compares what a path leads to.
type Profile struct {
	Read    []Path // may be read and executed
	Write   []Path // may be read, executed and changed
	Network bool   // of the host; sockets with a name in the file system are never allowed
}

// A Path is a file, or with Below a directory and all that is below it.
type Path struct {
	Name  string
	Below bool
}

// always may be used by every command: without it none starts.
var always = Profile{
	Read: []Path{
		{"/dev/random", false},
		{"/dev/urandom", false},
		{"/private/etc/localtime", false},
		{"/private/var/db/timezone", true},
		{"/private/var/db/dyld", true},
		{"/System/Volumes/Preboot/Cryptexes", true},
	},
	Write: []Path{{"/dev/null", false}, {"/dev/zero", false}, {"/dev/dtracehelper", false}, {"/dev/tty", false}},
}

// String returns the profile in the language that sandbox-exec reads, SBPL, a
// dialect of Scheme. Later rules win over earlier ones.
//
// Everything is forbidden but what is listed. Metadata of all files can be read, or
// no path could be followed.
func (p *Profile) String() (string, error) {
	var b strings.Builder
	b.WriteString(`(version 1)
(deny default)
(allow process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow mach-lookup (global-name "com.apple.system.notification_center") (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow ipc-posix-shm-read-data (ipc-posix-name "apple.shm.notification_center"))
(allow file-read-metadata)
(allow file-read* (literal "/"))
`)
	for _, rule := range []struct {
		allow string
		paths []Path
	}{
		{"file-read* process-exec file-map-executable", append(append([]Path{}, always.Read...), p.Read...)},
		{"file* process-exec", append(append([]Path{}, always.Write...), p.Write...)},
	} {
		fmt.Fprintf(&b, "(allow %s", rule.allow)
		for _, path := range rule.paths {
			text, err := quote(path.Name)
			if err != nil {
				return "", err
			}
			kind := "literal"
			if path.Below {
				kind = "subpath"
			}
			fmt.Fprintf(&b, "\n  (%s %s)", kind, text)
		}
		b.WriteString(")\n")
	}
	b.WriteString("(deny file-write-setugid)\n")
	if p.Network {
		b.WriteString("(allow network*)\n(allow system-socket)\n(deny network* (local unix-socket) (remote unix-socket))\n")
	}
	return b.String(), nil
}

// quote writes a string of SBPL. There are names that it has no way to say.
func quote(name string) (string, error) {
	if !strings.HasPrefix(name, "/") || !utf8.ValidString(name) {
		return "", fmt.Errorf("%q is no absolute path in UTF-8, as a sandbox profile needs", name)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return "", fmt.Errorf("%q has a control character, which a sandbox profile cannot say", name)
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`, nil
}
