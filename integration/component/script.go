package component

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// scriptName is the file of the input root that runs the commands.
const scriptName = "run"

// stepMark begins the lines by which the log says what runs.
const stepMark = "## "

// A script is a shell script that runs the commands of a component.
//
// Each command gets its environment from "env -i", because shells add variables
// of their own. ldconfig comes first, if the root has an /etc/ld.so.conf, so that
// programs find the libraries that are staged. In the end, what was installed
// goes to where the action's output is.
func (c *Component) script(env []Variable) string {
	var b strings.Builder
	b.WriteString("exec 2>&1\n")
	c.begin(&b)
	b.WriteString(tryFunction(env))
	for _, s := range c.Steps {
		for i, command := range s.Commands {
			name := s.Name
			if len(s.Commands) > 1 {
				name += " " + strconv.Itoa(i+1)
			}
			makeflags := ""
			switch {
			case s.Parallel && c.MaxJobs > 0:
				makeflags = fmt.Sprintf("MAKEFLAGS=-j%d ", c.MaxJobs)
			case s.Parallel:
				makeflags = `MAKEFLAGS="-j$n" `
			}
			fmt.Fprintf(&b, "try %s %ssh -c -e %s\n", quote(name), makeflags, quote(command))
		}
	}
	source, dest := c.dirs()
	if !c.HostTools { // which no other machine builds
		own := []string{workRoot, source, dest, "/" + c.Short + ".patches"}
		for _, x := range c.Caches {
			own = append(own, "/"+x.Path)
		}
		b.WriteString(outsideCheck("/", workRoot+"/"+scriptName, own))
	}
	fmt.Fprintf(&b, `cd %[1]s
if [ ! -d %[2]s ] || [ -L %[2]s ]; then
  echo "DESTDIR is no directory any more: what is installed goes below it"
  exit 1
fi
if [ -e %[3]s ]; then
  echo "%[1]s/%[3]s is there: it is not for commands"
  exit 1
fi
mv %[2]s %[3]s
`, workRoot, quote(dest), outputName)
	return b.String()
}

// outsideCheck looks for what was changed outside of own, where this program does
// not: on another machine. Here it looks itself, when all is done, and compares with
// what was staged; that is exact. This knows times only, and needs find; so what it
// finds makes a component be built here, before anybody believes it. What is staged
// has the same old time as the file old.
func outsideCheck(root, old string, own []string) string {
	var prune strings.Builder
	for _, p := range append([]string{"/proc", "/sys", "/dev", "/tmp", "/run", "/var/cache/ldconfig"}, own...) {
		prune.WriteString("-path " + quote(path.Join(root, p)) + " -o ")
	}
	var ignored strings.Builder
	for _, p := range []string{"", "etc", "etc/ld.so.cache", "etc/mtab", "var/cache"} { // of directories: what is new in them has a time of its own
		ignored.WriteString("! -path " + quote(path.Join(root, p)) + " ")
	}
	return fmt.Sprintf(`if [ -z "${%s:-}" ] && command -v find >/dev/null; then
  outside=$(find %s -xdev \( %s-name __pycache__ \) -prune -o -newer %s %s-print 2>/dev/null || :)
  if [ -n "$outside" ]; then
    printf 'outside of its DESTDIR it changed:\n%%s\n' "$outside"
    exit 1
  fi
fi
`, hereVariable, quote(root), prune.String(), quote(old), ignored.String())
}

// hereVariable is in the environment of the script, but not of the commands, and
// not in the key, where the root is looked at afterwards.
const hereVariable = "SBX_HERE"

// shellScript runs a shell in the place of the commands.
func (c *Component) shellScript(env []Variable) string {
	var b strings.Builder
	c.begin(&b)
	fmt.Fprintf(&b, "exec env -i%s MAKEFLAGS=\"-j$n\" sh -i\n", assignments(env))
	return b.String()
}

// dirs are where the source is, and where it is installed to.
func (c *Component) dirs() (source, dest string) {
	source, dest = "/"+c.Short+".build", "/"+c.Short+".inst"
	if c.HostTools {
		source, dest = workRoot+source, workRoot+dest
	}
	return source, dest
}

// begin is what comes before the commands.
func (c *Component) begin(b *strings.Builder) {
	source, dest := c.dirs()
	b.WriteString("set -e\numask 022\n" + killFirst)
	if !c.HostTools {
		b.WriteString("if [ -e /etc/ld.so.conf ] && [ -x /sbin/ldconfig ]; then /sbin/ldconfig; fi\n")
	}
	fmt.Fprintf(b, "[ -d %[1]s ] || mkdir %[1]s\nmkdir %[2]s\ncd %[1]s\n", quote(source), quote(dest))
	b.WriteString("n=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)\n")
}

// killFirst makes the commands the first that the kernel ends when memory is short,
// and not us, who would tell which component it was.
const killFirst = "{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null || :\n"

// outputName is the output of every component's action.
const outputName = "installed"

// tryFunction is the function that runs one command in an environment. It says
// what runs, and what failed.
func tryFunction(env []Variable) string {
	return fmt.Sprintf(`try() {
  name=$1
  shift
  printf '%s%%s\n' "$name"
  env -i%s "$@" </dev/null && return 0 || code=$?
  printf '%%s failed with %%s\n' "$name" "$code"
  exit "$code"
}
`, stepMark, assignments(env))
}

func assignments(env []Variable) string {
	var b strings.Builder
	for _, v := range env {
		b.WriteString(" " + v.Name + "=" + quote(v.Value))
	}
	return b.String()
}

// quote quotes s for a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+,@%:", r))
	}
	if s != "" && !strings.ContainsFunc(s, plain) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
