package staging

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/spelling"
)

// glob collects what matches the pattern p, and says whether anything does.
func (c *collector) glob(p string) (bool, error) {
	g, err := parsePathGlob(p)
	if err != nil {
		return false, err
	}
	found := false
	err = c.walk(c.full(g.base), func(dir int, name, rel string, st *unix.Stat_t) error {
		if rel = path.Join(g.base, rel); !g.match(rel) {
			return nil
		}
		err := action.CheckName(name)
		if err != nil {
			err = unfit{fmt.Errorf("%q matches, but cannot be recorded: %w", rel, err)}
		} else {
			_, err = c.at(path.Dir(c.full(rel)), name, rel)
		}
		if c.tolerates(err) {
			return nil // the others are recorded
		}
		found = true
		return err
	})
	if isAbsent(err) {
		err = nil
	}
	return found, err
}

const (
	nearMost   = 3      // names for each missing output
	nearLook   = 20_000 // files that are looked at
	nearLetter = 2      // letters that may be wrong
)

var errEnough = errors.New("enough")

// A nearMiss is a file that the command made where a declared one is missing.
type nearMiss struct {
	path string
	cost int
}

// nearMisses finds, for each lost output, what the command may have made
// instead: files of the same name elsewhere, and files of nearly that name.
func (c *collector) nearMisses(lost []string) []action.Missing {
	if len(lost) == 0 {
		return nil
	}
	near := make([][]nearMiss, len(lost))
	looked := 0
	// What cannot be read cannot be suggested: no error to report.
	_ = c.walk(c.full(""), func(_ int, name, rel string, st *unix.Stat_t) error {
		if looked++; looked > nearLook {
			return errEnough
		}
		if st.Mtim.Sec == MTime || c.seen[rel] {
			return nil // an input as it was, or another output
		}
		for i, p := range lost {
			if cost := spelling.Distance(name, path.Base(p), nearLetter); cost <= nearLetter && cost < len(name) {
				near[i] = append(near[i], nearMiss{rel, cost})
			}
		}
		return nil
	})
	out := make([]action.Missing, len(lost))
	for i, p := range lost {
		slices.SortStableFunc(near[i], func(a, b nearMiss) int {
			if a.cost != b.cost {
				return a.cost - b.cost
			}
			return strings.Count(a.path, "/") - strings.Count(b.path, "/")
		})
		out[i].Path = p
		for _, n := range near[i][:min(len(near[i]), nearMost)] {
			out[i].Near = append(out[i].Near, n.path)
		}
	}
	return out
}
