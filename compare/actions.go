package compare

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// A Side is one of the two actions that are compared.
type Side struct {
	Action  *action.Action
	Command *action.Command // nil: not known any more

	// Facts are what a run saw of the host, a line each, as docs/key.md has
	// it; nil: not known, or nothing.
	Facts []byte
}

// RootfsProperty is the platform property that names the root file system: that
// of package staging, which this one does not need otherwise.
const RootfsProperty = "rootfs"

// Actions adds how b differs from a.
func (c *Comparison) Actions(ctx context.Context, a, b *Side) {
	if fa, fb := a.Action.InputRoot.Function(), b.Action.InputRoot.Function(); fa != fb {
		c.add(Change{Part: Function, Kind: Changed, Old: fa.String(), New: fb.String()})
		c.commands(a, b)
		return // every digest differs
	}
	c.commands(a, b)
	c.Trees(ctx, Input, a.Action.InputRoot, b.Action.InputRoot)
	if x, y := a.Action.Timeout, b.Action.Timeout; x != y {
		c.add(Change{Part: Timeout, Kind: Changed, Old: x.String(), New: y.String()})
	}
	if !bytes.Equal(a.Action.Salt, b.Action.Salt) {
		c.add(Change{Part: Salt, Kind: Changed, Old: string(a.Action.Salt), New: string(b.Action.Salt)})
	}
	c.platforms(ctx, a, b)
}

func (c *Comparison) commands(a, b *Side) {
	x, y := a.Command, b.Command
	if x == nil || y == nil {
		if a.Action.Command != b.Action.Command {
			c.add(Change{Part: Other, Kind: Unknown, Name: "command", Detail: "one of the two is not in the store any more"})
		}
		return
	}
	c.arguments(x.Arguments, y.Arguments)
	env := func(m *action.Command) map[string]string {
		all := map[string]string{}
		for _, v := range m.Environment {
			all[v.Name] = v.Value
		}
		return all
	}
	c.maps(Variable, env(x), env(y))
	if x.WorkingDirectory != y.WorkingDirectory {
		c.add(Change{Part: WorkDir, Kind: Changed, Old: x.WorkingDirectory, New: y.WorkingDirectory})
	}
	outs := func(m *action.Command) map[string]string {
		all := map[string]string{}
		for _, list := range [][]string{m.OutputPaths, m.OutputFiles, m.OutputDirectories} {
			for _, p := range list {
				all[p] = ""
			}
		}
		return all
	}
	c.maps(Output, outs(x), outs(y))
	if x.OutputDirectoryFormat != y.OutputDirectoryFormat {
		c.add(Change{
			Part: Other, Kind: Changed, Name: "output directory format",
			Old: strconv.Itoa(int(x.OutputDirectoryFormat)), New: strconv.Itoa(int(y.OutputDirectoryFormat)),
		})
	}
	if !slices.Equal(x.OutputNodeProperties, y.OutputNodeProperties) {
		c.add(Change{
			Part: Other, Kind: Changed, Name: "output node properties",
			Old: strings.Join(x.OutputNodeProperties, " "), New: strings.Join(y.OutputNodeProperties, " "),
		})
	}
	c.maps(Platform, properties(x.Platform), properties(y.Platform))
}

// maps adds how the values of names differ.
func (c *Comparison) maps(part Part, a, b map[string]string) {
	for _, name := range sortedNames(a, b) {
		x, inA := a[name]
		y, inB := b[name]
		switch {
		case !inA:
			c.add(Change{Part: part, Kind: Added, Name: name, New: y})
		case !inB:
			c.add(Change{Part: part, Kind: Removed, Name: name, Old: x})
		case x != y:
			c.add(Change{Part: part, Kind: Changed, Name: name, Old: x, New: y})
		}
	}
}

// properties are a platform's, but for the root file system.
func properties(list []action.Property) map[string]string {
	all := map[string]string{}
	for _, p := range list {
		if p.Name == RootfsProperty {
			continue
		}
		if old, ok := all[p.Name]; ok {
			all[p.Name] = old + " " + p.Value
			continue
		}
		all[p.Name] = p.Value
	}
	return all
}

func rootfs(a *action.Action) string {
	for _, p := range a.Platform {
		if p.Name == RootfsProperty {
			return p.Value
		}
	}
	return ""
}

// splitHost splits the name of a view of the host from the digest of what was
// seen of it.
func splitHost(id string) (view, seal string, host bool) {
	if !strings.HasPrefix(id, "host") {
		return id, "", false
	}
	view, seal, _ = strings.Cut(id, ":")
	return view, seal, true
}

func (c *Comparison) platforms(ctx context.Context, a, b *Side) {
	c.maps(Platform, properties(a.Action.Platform), properties(b.Action.Platform))
	x, y := rootfs(a.Action), rootfs(b.Action)
	if x == y {
		return
	}
	viewX, sealX, hostX := splitHost(x)
	viewY, sealY, hostY := splitHost(y)
	dx, errX := action.ParseDigest(x)
	dy, errY := action.ParseDigest(y)
	switch {
	case !hostX && !hostY && errX == nil && errY == nil && dx.Function() == dy.Function():
		c.Trees(ctx, Rootfs, dx, dy)
	case viewX != viewY || !hostX || !hostY:
		c.add(Change{Part: Rootfs, Kind: Changed, Old: viewX, New: viewY})
	case sealX == "" || sealY == "": // one of them never came so far
	case a.Facts == nil || b.Facts == nil:
		c.add(Change{Part: Host, Kind: Unknown, Detail: "what one of the two saw of the host is not in the store any more"})
	default:
		c.facts(a.Facts, b.Facts)
	}
}

// facts adds how what was seen of the host differs. What only one run looked at
// is an effect, and no cause; it is told if nothing else is.
func (c *Comparison) facts(a, b []byte) {
	x, y := parseFacts(a), parseFacts(b)
	before, lone := len(c.Changes), 0
	for _, p := range sortedNames(x, y) {
		old, news := x[p], y[p]
		if maps.Equal(old, news) {
			continue
		}
		_, wasAbsent := old["absent"]
		_, isAbsent := news["absent"]
		switch {
		case len(old) == 0 || len(news) == 0:
			lone++
		case wasAbsent && !isAbsent:
			c.add(Change{Part: Host, Kind: Added, Name: p})
		case isAbsent && !wasAbsent:
			c.add(Change{Part: Host, Kind: Removed, Name: p})
		default:
			if how := factChange(old, news); how != "" {
				c.add(Change{Part: Host, Kind: Changed, Name: p, Detail: how})
			} else {
				lone++
			}
		}
	}
	if before == 0 && len(c.Changes) == 0 && lone > 0 {
		c.add(Change{Part: Host, Kind: Unknown, Detail: "the two runs looked at " + count(lone, "path") + " that the other did not look at in this way"})
	}
}

// parseFacts is, for each path, what was learned of it: by the kind of fact.
func parseFacts(data []byte) map[string]map[string]string {
	all := map[string]map[string]string{}
	for line := range strings.Lines(string(data)) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			continue
		}
		p, err := strconv.Unquote(quoted)
		if err != nil {
			continue
		}
		if all[p] == nil {
			all[p] = map[string]string{}
		}
		all[p][kind] = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return all
}

// factChange says what differs between two sets of facts about a path, or "" if
// none of them contradicts another.
func factChange(a, b map[string]string) string {
	for _, kind := range []string{"link", "file", "large", "list", "dir", "meta", "made"} {
		x, inA := a[kind]
		y, inB := b[kind]
		if !inA || !inB || x == y {
			continue
		}
		switch kind {
		case "link":
			return fmt.Sprintf("the link led to %s and leads to %s", x, y)
		case "meta":
			return fmt.Sprintf("kind, permissions or size were %s and are %s", x, y)
		case "made":
			return "there are other names in it"
		}
		// The permissions, a digest but for directories, and whose rights count.
		px, dx, _ := strings.Cut(x, " ")
		py, dy, _ := strings.Cut(y, " ")
		if kind != "dir" {
			dx, _, _ = strings.Cut(dx, " ")
			dy, _, _ = strings.Cut(dy, " ")
		}
		switch {
		case px != py && (kind == "dir" || dx == dy):
			return fmt.Sprintf("the permissions were %s and are %s", px, py)
		case kind == "dir" || dx == dy:
			return "what the command may do with it"
		}
		if kind == "list" {
			return "there are other names in it, or of another kind"
		}
		if kind == "large" {
			return "its times or its content (it is large, and was not read)" + sizeChange(dx, dy)
		}
		return "its content" + sizeChange(dx, dy)
	}
	return "" // looked at in another way
}

func sizeChange(a, b string) string {
	x, err1 := action.ParseDigest(a)
	y, err2 := action.ParseDigest(b)
	if err1 != nil || err2 != nil || x.Size() == y.Size() {
		return ""
	}
	return fmt.Sprintf(": %d bytes became %d", x.Size(), y.Size())
}

// arguments adds how two lists of arguments differ, in order.
func (c *Comparison) arguments(a, b []string) {
	first := 0
	for first < len(a) && first < len(b) && a[first] == b[first] {
		first++
	}
	last := 0
	for last < len(a)-first && last < len(b)-first && a[len(a)-1-last] == b[len(b)-1-last] {
		last++
	}
	x, y := a[first:len(a)-last], b[first:len(b)-last]
	if len(x)*len(y) > 1<<22 {
		c.add(Change{
			Part: Argument, Kind: Changed, Name: strconv.Itoa(first),
			Detail: fmt.Sprintf("%s from here on became %d", count(len(x), "argument"), len(y)),
		})
		return
	}
	if len(x) == len(y) { // in place, if that is the shorter way to say it
		same := 0
		for i := range x {
			if x[i] == y[i] {
				same++
			}
		}
		if same >= common(x, y)-1 {
			for i := range x {
				if x[i] != y[i] {
					c.add(Change{Part: Argument, Kind: Changed, Name: strconv.Itoa(first + i), Old: x[i], New: y[i]})
				}
			}
			return
		}
	}
	c.argumentList(x, y, first)
}

// table is the lengths of the longest common subsequences of a[i:] and b[j:].
func table(a, b []string) [][]int32 {
	t := make([][]int32, len(a)+1)
	for i := range t {
		t[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}

func common(a, b []string) int { return int(table(a, b)[0][0]) }

// argumentList adds what was taken out and put in. An argument that was taken
// out where another was put in has changed.
func (c *Comparison) argumentList(a, b []string, first int) {
	t := table(a, b)
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		from, to := i, j
		for i < len(a) && (j >= len(b) || a[i] != b[j]) && (j >= len(b) || t[i+1][j] >= t[i][j+1]) {
			i++
		}
		for j < len(b) && (i >= len(a) || a[i] != b[j]) && (i >= len(a) || t[i][j+1] > t[i+1][j]) {
			j++
		}
		for ; from < i && to < j; from, to = from+1, to+1 {
			c.add(Change{Part: Argument, Kind: Changed, Name: strconv.Itoa(first + to), Old: a[from], New: b[to]})
		}
		for ; from < i; from++ {
			c.add(Change{Part: Argument, Kind: Removed, Name: strconv.Itoa(first + from), Old: a[from]})
		}
		for ; to < j; to++ {
			c.add(Change{Part: Argument, Kind: Added, Name: strconv.Itoa(first + to), New: b[to]})
		}
	}
}

// sortedNames are the names of both maps.
func sortedNames[V any](a, b map[string]V) []string {
	names := make([]string, 0, len(a)+len(b))
	for n := range a {
		names = append(names, n)
	}
	for n := range b {
		if _, ok := a[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}
