package component

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mostOfPatch is how many bytes a patch may have.
const mostOfPatch = 64 << 20

// readPatch reads a patch, and refuses one that no build could mean: one that
// changes nothing, or changes what is not in the source. A program that applies
// patches may be careful or not, and each in its way; so what it is given is
// looked at first, and outside of the sandbox nothing but this reads it.
func readPatch(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the patch %s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostOfPatch+1))
	if err == nil && len(data) > mostOfPatch {
		err = fmt.Errorf("larger than %d bytes", mostOfPatch)
	}
	if err == nil {
		err = checkPatch(data)
	}
	if err != nil {
		return nil, fmt.Errorf("the patch %s: %w", name, err)
	}
	return data, nil
}

// checkPatches reads the patches of a source.
func checkPatches(s *Source) error {
	var all []error
	for _, p := range s.Patches {
		_, err := readPatch(p)
		all = append(all, err)
	}
	return errors.Join(all...)
}

var hunk = regexp.MustCompile(`^@@ -[0-9]+(,[0-9]+)? \+[0-9]+(,[0-9]+)? @@`)

// checkPatch looks at the names of files of a unified diff, with git's
// extensions. What a hunk has, is no name, whatever it looks like.
func checkPatch(data []byte) error {
	changes := false
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte("\n"))
		if m := hunk.FindSubmatch(line); m != nil {
			changes = true
			data = skipHunk(data, hunkLines(m[1]), hunkLines(m[2]))
			continue
		}
		for _, word := range []string{"--- ", "+++ ", "rename from ", "rename to ", "copy from ", "copy to ", "Index: ", "*** "} {
			rest, ok := bytes.CutPrefix(line, []byte(word))
			if !ok {
				continue
			}
			changes = changes || !strings.HasSuffix(word, "- ") // a rename has no hunk
			if err := checkPatched(string(rest)); err != nil {
				return err
			}
		}
		if bytes.HasPrefix(line, []byte("GIT binary patch")) || bytes.HasPrefix(line, []byte("new mode ")) || bytes.HasPrefix(line, []byte("deleted file mode ")) || bytes.HasPrefix(line, []byte("new file mode ")) {
			changes = true
		}
	}
	if !changes {
		return errors.New("it changes nothing: is it a patch?")
	}
	return nil
}

// hunkLines is the number in ",N"; without it, one.
func hunkLines(text []byte) int {
	if len(text) == 0 {
		return 1
	}
	n, err := strconv.Atoi(string(text[1:]))
	if err != nil {
		return 0
	}
	return n
}

// skipHunk leaves out the lines of a hunk, which has so many of the old file and
// of the new one.
func skipHunk(data []byte, was, is int) []byte {
	for (was > 0 || is > 0) && len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		switch {
		case bytes.HasPrefix(line, []byte("-")):
			was--
		case bytes.HasPrefix(line, []byte("+")):
			is--
		case bytes.HasPrefix(line, []byte(`\`)):
		case len(line) == 0 || line[0] == ' ' || line[0] == '\t': // some editors cut spaces off
			was--
			is--
		default: // it ends before it should
			return data
		}
		data = rest
	}
	return data
}

// checkPatched says why a patch must not change a file of that name. A time may
// follow it, after a tab.
func checkPatched(name string) error {
	name, _, _ = strings.Cut(strings.TrimRight(name, "\r"), "\t")
	if unquoted, err := strconv.Unquote(name); err == nil {
		name = unquoted
	}
	switch {
	case name == "/dev/null":
		return nil
	case path.IsAbs(name), slices.Contains(strings.Split(name, "/"), ".."):
		return fmt.Errorf("it changes %q, which is not in the source", name)
	}
	return nil
}

// patchName is the name of patch i in the directory /NAME.patches.
func patchName(i int, file string) string { return strconv.Itoa(i+1) + "-" + filepath.Base(file) }
