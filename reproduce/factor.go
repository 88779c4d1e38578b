package reproduce

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A Factor is one condition that can be varied.
type Factor uint

// The factors, in the order in which they are named.
const (
	Time Factor = iota
	HostName
	Order
	Path
	CPUs
	Parallelism
	TimeZone
	Locale
	Umask
	Layout
	factors
)

var phrases = [factors]string{
	Time: "time", HostName: "host name", Order: "order of directory entries", Path: "build path", CPUs: "number of CPUs",
	Parallelism: "parallelism", TimeZone: "time zone", Locale: "locale", Umask: "umask", Layout: "address layout",
}

func (f Factor) String() string { return phrases[f] }

// A Set is a set of factors.
type Set uint

// All is the set of all factors.
const All Set = 1<<factors - 1

func of(f Factor) Set { return 1 << f }

func (s Set) has(f Factor) bool { return s&of(f) != 0 }

func (s Set) len() int { return bits.OnesCount(uint(s)) }

// halves splits a set of at least two factors.
func (s Set) halves() (a, b Set) {
	for f := range factors {
		if s.has(f) && a.len() < s.len()/2 {
			a |= of(f)
		}
	}
	return a, s &^ a
}

// Names are the names of the factors.
func (s Set) Names() (list []string) {
	for f := range factors {
		if s.has(f) {
			list = append(list, f.String())
		}
	}
	return list
}

// String says when something differs: "when the time differs".
func (s Set) String() string {
	verb := "differs"
	if s.len() > 1 {
		verb = "differ together"
	}
	return fmt.Sprintf("when the %s %s", strings.Join(s.Names(), " and the "), verb)
}

// Base is what is as it always is.
type Base struct {
	Start time.Time // of these trials: when the clock that stands still begins
	CPUs  int       // that there are
	// Locale is one that the root file system has, other than C: "de_CH.UTF-8".
	// Empty: it has none.
	Locale string
	// Took is how long the command took: the clock that stands still jumps when
	// four times as much, or a minute, has passed.
	Took time.Duration
}

// far is by how much the time differs: another year, month, day of the week,
// day of the month, hour, minute and second.
const far = 401*24*time.Hour + 7*time.Hour + 13*time.Minute + 17*time.Second + 123456789

// A mode is how a run differs from others to find something out.
type mode struct {
	frozen bool // the clock stands still
	inTurn bool // processes begin one after the other, if the parallelism varies
	// order is added to the number of the order of directory entries, if that varies.
	order int
}

// conditions are those of one run. In each round the factors of varied differ
// in another way.
func (b *Base) conditions(varied Set, round int, m mode) *backends.Vary {
	v := &backends.Vary{CPUs: b.CPUs, Order: 1}
	if varied.has(HostName) {
		v.HostName = fmt.Sprintf("another-host-%d.example.org", round)
	}
	if varied.has(Order) {
		v.Order = uint32(round+m.order) + 1
	}
	if varied.has(Path) {
		v.WorkDir = fmt.Sprintf("/another/place%d/for/the/work", round)
	}
	if varied.has(CPUs) {
		v.CPUs = b.CPUs + 2*round + 1
		if round%2 == 0 && b.CPUs > 1 {
			v.CPUs = 1
		}
	}
	if varied.has(Parallelism) {
		v.OneCPU, v.Delay = true, uint32(round)
		if m.inTurn {
			v.Delay = backends.InTurn
		}
	}
	if varied.has(Umask) {
		umask := 0o002
		if round%2 == 0 {
			umask = 0o077
		}
		v.Umask = &umask
	}
	v.Layout = varied.has(Layout)
	b.clock(v, varied.has(Time), round, m.frozen)
	return v
}

func (b *Base) clock(v *backends.Vary, varied bool, round int, frozen bool) {
	shift := time.Duration(0)
	if varied {
		shift = time.Duration(round) * far
	}
	if !frozen {
		v.Shift = shift
		return
	}
	// An hour ahead, so that no file that is made now seems to be older.
	v.Freeze = b.Start.Add(time.Hour + shift)
	v.FreezeStep = max(time.Minute, 4*b.Took)
}

// localeVariables choose the locale. Who sets one of them has chosen.
var localeVariables = []string{"LANG", "LANGUAGE", "LC_"}

// environment returns the environment of c with the factors of varied
// different. What the action says of them itself is not changed: given says
// which factors that concerns.
func (b *Base) environment(c *action.Command, own func(name string) bool, varied Set, round int) (env []action.EnvironmentVariable, given Set) {
	set := map[string]string{}
	for _, e := range c.Environment {
		if !own(e.Name) {
			continue
		}
		if e.Name == "TZ" {
			given |= of(TimeZone)
		}
		for _, p := range localeVariables {
			if e.Name == p || p == "LC_" && strings.HasPrefix(e.Name, p) {
				given |= of(Locale)
			}
		}
	}
	varied &^= given
	if varied.has(TimeZone) {
		set["TZ"] = []string{"<+1345>-13:45", "<-1115>11:15"}[round%2]
	}
	if varied.has(Locale) {
		locale := "C"
		if b.Locale != "" && round%2 == 1 {
			locale = b.Locale
		}
		set["LANG"], set["LC_ALL"] = locale, locale
		if language, _, ok := strings.Cut(b.Locale, "."); ok {
			set["LANGUAGE"] = language
		}
	}
	for _, e := range c.Environment {
		if value, ok := set[e.Name]; ok {
			e.Value = value
			delete(set, e.Name)
		}
		env = append(env, e)
	}
	for name, value := range set {
		env = append(env, action.EnvironmentVariable{Name: name, Value: value})
	}
	return sorted(env), given
}
