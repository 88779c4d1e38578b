package inputs

import (
	"fmt"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// maxPath is the longest path that Linux knows, from the root on, which is
// [action.WorkRoot] and a slash before what a Command names.
const maxPath = 4095 - len(action.WorkRoot+"/")

// maxNames bounds the names in all output paths of a command: the directories are made
// before it starts, and a path can have two thousand.
const maxNames = 1_000_000

// CheckPaths refuses a command whose working directory or outputs no file system of a
// sandbox takes, or that are too many, so that nothing runs for it in vain.
func CheckPaths(c *action.Command) error {
	names := 0
	for _, p := range append([]string{c.WorkingDirectory}, c.OutputPaths...) {
		if err := checkLength(p); err != nil {
			return fmt.Errorf("the path %.100q: %w", p, err)
		}
		if names += strings.Count(p, "/") + 1; names > maxNames {
			return fmt.Errorf("output_paths: more than %d names in all of them together", maxNames)
		}
	}
	return nil
}

func checkLength(p string) error {
	if len(p) > maxPath {
		return fmt.Errorf("it has %d bytes: Linux takes no more than %d", len(p), maxPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > maxName {
			return fmt.Errorf("the name %.20q… has %d bytes: no file system here takes more than %d", part, len(part), maxName)
		}
	}
	return nil
}
