package cc

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

const epochName = "SOURCE_DATE_EPOCH"

// epochVersion changes with what is believed of compilers that are given the variable.
const epochVersion = "1"

// latestEpoch is the last second of the year 9999: what says more is an error.
const latestEpoch = 253402300799

// Undated returns the variables of a call without SOURCE_DATE_EPOCH, and says whether that
// is all that the time can come from: compilers read the variable where they need the
// time, and whoever else may read it gets all variables.
func (c *Call) Undated(env []action.EnvironmentVariable) ([]action.EnvironmentVariable, bool) {
	at := slices.IndexFunc(env, func(v action.EnvironmentVariable) bool { return v.Name == epochName })
	if at < 0 || c.Script || c.Kind != Compile && c.Kind != Preprocess {
		return nil, false
	}
	n, err := strconv.ParseInt(env[at].Value, 10, 64)
	if err != nil || n < 0 || n > latestEpoch || strconv.FormatInt(n, 10) != env[at].Value {
		return nil, false // some say so
	}
	return slices.Delete(slices.Clone(env), at, at+1), true
}

// DatedKey is the key of a note that the call uses the time.
func (c *Call) DatedKey(w Want) action.Digest {
	text := []string{"cc dated", c.Dir, strings.Join(c.Args, "\x00")}
	for _, v := range w.Env {
		text = append(text, v.Name+"="+v.Value)
	}
	return action.Sum(action.BLAKE3, []byte(strings.Join(text, "\x00\x00")))
}

// UsesTime says whether a result was not kept because the time is in it, or may be, with
// the times of files.
func (d *Done) UsesTime() bool {
	return errors.Is(d.Unkept, errClock) || reasonOf(d.Unkept) == ReasonTimes
}
