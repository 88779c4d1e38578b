package component

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/internal/spelling"
	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// # sbx.yaml, version 1
//
// One file has components and systems. A comment in what 'sbx-action build init'
// writes says what each field is, and sbx.schema.json says it to editors.
// Relative files are relative to the file.

// FileName is what the file is called.
const FileName = "sbx.yaml"

// ReadFile reads an sbx.yaml. An error lists everything that is wrong with it.
func ReadFile(name string) (*Project, error) {
	n, err := strictyaml.ReadFile(name)
	if n == nil {
		return nil, err
	}
	f := &fileReader{dir: filepath.Dir(name), components: map[string]*fileComponent{}}
	if err != nil {
		f.errs.Add(n.Pos, err)
	}
	f.file(n)
	if err := f.errs.Err(); err != nil {
		return nil, err
	}
	return f.project, nil
}

// A fileComponent is a component while its file is read.
type fileComponent struct {
	*Component
	pos        strictyaml.Pos
	needs      []reference // to build and to run
	buildNeeds []reference // only to build
	tests      []*fileComponent
	state      int // of the search for cycles
}

// A reference is a name and where it is.
type reference struct {
	name string
	pos  strictyaml.Pos
}

type fileReader struct {
	dir        string
	errs       strictyaml.Errors
	base       Base
	env        []Variable
	components map[string]*fileComponent
	order      []*fileComponent
	project    *Project
}

func (f *fileReader) file(n *strictyaml.Node) {
	m := f.errs.Map(n, "sbx.yaml")
	if v := m.Need("sbx"); v != nil && v.Text != "1" {
		f.errs.Addf(v.Pos, "version %s of the format is not known: this program knows 1", v.Text)
	}
	f.base = f.readBase(m.Take("base"))
	f.env = f.variables(m.Take("env"))
	components, systems := m.Take("components"), m.Take("systems")
	m.Done()
	for _, field := range f.fields(components, "components") {
		f.component(field)
	}
	f.project = &Project{}
	for _, c := range f.order {
		f.link(c, nil)
	}
	for _, c := range f.order {
		f.linkTests(c)
	}
	for _, field := range f.fields(systems, "systems") {
		f.system(field)
	}
}

// fields are the keys and values of a mapping; none of nothing.
func (f *fileReader) fields(n *strictyaml.Node, what string) []strictyaml.Field {
	if n == nil || n.Kind == strictyaml.Null {
		return nil
	}
	if n.Kind != strictyaml.Mapping {
		f.errs.Addf(n.Pos, "%s must be a mapping (NAME: …), not %s", what, n.Kind)
		return nil
	}
	return n.Fields
}

// readBase reads a root file system: a name, or {image: PLACE, digest: DIGEST}.
func (f *fileReader) readBase(n *strictyaml.Node) Base {
	switch {
	case n == nil || n.Kind == strictyaml.Null:
		return ""
	case n.Kind == strictyaml.Text:
		return f.relativeBase(n.Text)
	}
	m := f.errs.Map(n, "base")
	image, name, digest := m.String("image"), m.String("rootfs"), m.String("digest")
	if digest != "" && !baseDigest.MatchString(digest) {
		f.errs.Addf(m.KeyPos("digest"), "digest must be sha256: or blake3: and 64 digits, not %q", digest)
	}
	m.Done()
	if (image == "") == (name == "") {
		f.errs.Addf(n.Pos, "base must have one of image (a directory or an archive) and rootfs (a name or a digest)")
	}
	base := f.relativeBase(image)
	if name != "" {
		base = Base("rootfs:" + name)
	}
	if digest != "" {
		base += Base("#" + digest)
	}
	return base
}

var baseDigest = regexp.MustCompile(`^(sha256|blake3):[0-9a-f]{64}$`)

// relativeBase is a base whose file, if it is one, is relative to ours.
func (f *fileReader) relativeBase(s string) Base {
	kind, rest, ok := strings.Cut(s, ":")
	if !ok || kind != "oci" && kind != "tar" && kind != "dir" {
		kind, rest = "", s
	} else {
		kind += ":"
	}
	if kind == "" && !strings.ContainsAny(rest, "/") || filepath.IsAbs(rest) || strings.HasPrefix(rest, "rootfs:") {
		return Base(s)
	}
	return Base(kind + filepath.Join(f.dir, rest))
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (f *fileReader) variables(n *strictyaml.Node) (list []Variable) {
	for _, field := range f.fields(n, "env") {
		if !variableName.MatchString(field.Key) {
			f.errs.Addf(field.Pos, "%q cannot be the name of a variable", field.Key)
		}
		list = append(list, Variable{field.Key, f.errs.String(field.Value, field.Key)})
	}
	return list
}

// component reads one component.
func (f *fileReader) component(field strictyaml.Field) {
	c := &fileComponent{pos: field.Pos, Component: &Component{Name: field.Key, Short: field.Key, Where: field.Pos.String(), Base: f.base}}
	if !goodName(field.Key) {
		f.errs.Addf(field.Pos, "%q cannot be a name: use letters, digits and ._+-@", field.Key)
	}
	f.components[field.Key] = c
	f.order = append(f.order, c)
	m := f.errs.Map(field.Value, "component "+field.Key)
	if b := m.Take("base"); b != nil {
		c.Base = f.readBase(b)
	}
	c.Source = f.source(m.Take("source"), false)
	prefix := m.String("prefix")
	if prefix == "" {
		prefix = "/usr"
	}
	if !path.IsAbs(prefix) || path.Clean(prefix) != prefix {
		f.errs.Addf(m.KeyPos("prefix"), "prefix must be an absolute path, without \"..\": %q is not", prefix)
	}
	c.Env = f.environment(c, prefix, f.variables(m.Take("env")))
	f.steps(c, m)
	c.needs, c.buildNeeds = f.references(m.Take("needs"), "needs"), f.references(m.Take("build-needs"), "build-needs")
	c.MaxJobs = int(m.Int("max-jobs", 0, 1<<16))
	f.limits(c, m.Take("limits"))
	f.outputs(c, m.Take("outputs"))
	c.Devices = f.devices(m.Take("devices"))
	c.Owners = m.Bool("owners")
	c.Caches = f.caches(c, m.Take("caches"))
	f.tests(c, m.Take("tests"))
	m.Done()
}

func goodName(s string) bool {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-@", r))
	}
	return s != "" && len(s) < 200 && !strings.ContainsFunc(s, odd) && s[0] != '.' && s[0] != '-'
}

// environment is what the commands of a component see: what is usual, what the
// file says for all, and what it says for this one.
func (f *fileReader) environment(c *fileComponent, prefix string, own []Variable) []Variable {
	env := map[string]string{
		"DESTDIR": "/" + c.Short + ".inst", "HOME": "/tmp", "LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
		"PREFIX": prefix, "SHELL": "/bin/sh", "TERM": "dumb", "TZ": "UTC",
	}
	for _, v := range append(slices.Clone(f.env), own...) {
		env[v.Name] = v.Value
	}
	var list []Variable
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, Variable{name, env[name]})
	}
	return list
}

// stepWords are the fields of a component that have commands, in their order.
var stepWords = []string{"configure", "build", "test", "install", "strip"}

// steps reads the commands: those of the build-system, where the component has
// none of its own.
func (f *fileReader) steps(c *fileComponent, m *strictyaml.Map) {
	system := m.String("build-system")
	if system == "" {
		system = "manual"
	}
	defaults, ok := buildSystems()[system]
	if !ok {
		f.errs.Addf(m.KeyPos("build-system"), "unknown build-system %q: there are %s", system, strings.Join(slices.Sorted(maps.Keys(buildSystems())), ", "))
	}
	c.patch()
	for _, word := range stepWords {
		for _, name := range []string{"pre-" + word, word, "post-" + word} {
			commands := defaults[name]
			if n := m.Take(name); n != nil {
				commands = nil
				if n.Kind != strictyaml.Null {
					commands = f.errs.Strings(n, name)
				}
			}
			if len(commands) > 0 {
				c.Steps = append(c.Steps, Step{Name: name, Commands: commands, Parallel: strings.HasSuffix(name, "build")})
			}
		}
	}
}

// patch is the first step: the patches of the source.
func (c *fileComponent) patch() {
	if c.Source == nil || len(c.Source.Patches) == 0 {
		return
	}
	step := Step{Name: "patch"}
	for i, p := range c.Source.Patches {
		step.Commands = append(step.Commands, "patch -p1 -N -i "+quote("/"+c.Short+".patches/"+patchName(i, p)))
	}
	c.Steps = append(c.Steps, step)
}

func (f *fileReader) references(n *strictyaml.Node, what string) (list []reference) {
	if n == nil {
		return nil
	}
	items := []*strictyaml.Node{n}
	if n.Kind == strictyaml.List {
		items = n.Items
	}
	for _, item := range items {
		list = append(list, reference{f.errs.String(item, what), item.Pos})
	}
	return list
}

func (f *fileReader) limits(c *fileComponent, n *strictyaml.Node) {
	if n == nil {
		return
	}
	m := f.errs.Map(n, "limits")
	if s := m.String("timeout"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			f.errs.Addf(m.KeyPos("timeout"), "timeout must be a duration such as 20m, not %q", s)
		}
		c.Limits.Timeout = d
	}
	c.Limits.Memory, c.Limits.Scratch = f.size(m, "memory"), f.size(m, "disk")
	c.Limits.Pids = m.Int("pids", 0, 1<<30)
	if cpus := m.Int("cpus", 0, 1<<16); cpus > 0 {
		c.MaxJobs = int(cpus)
	}
	m.Done()
}

func (f *fileReader) size(m *strictyaml.Map, key string) int64 {
	s := m.String(key)
	if s == "" {
		return 0
	}
	digits := strings.TrimRight(s, "BbIiKkMmGgTt")
	shift, ok := map[string]int{"": 0, "K": 10, "KIB": 10, "M": 20, "MIB": 20, "G": 30, "GIB": 30, "T": 40, "TIB": 40}[strings.ToUpper(s[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 || n > 1<<62>>shift {
		f.errs.Addf(m.KeyPos(key), "%s must be a size such as 512M or 2GiB, not %q", key, s)
		return 0
	}
	return n << shift
}

func (f *fileReader) devices(n *strictyaml.Node) (list []Device) {
	if n == nil {
		return nil
	}
	if n.Kind != strictyaml.List {
		f.errs.Addf(n.Pos, "devices must be a list, not %s", n.Kind)
		return nil
	}
	for _, item := range n.Items {
		m := f.errs.Map(item, "a device")
		d := Device{Mode: 0o600}
		p, kind, mode := m.String("path"), m.String("type"), m.String("mode")
		d.Major, d.Minor = uint32(m.Int("major", 0, 1<<12)), uint32(m.Int("minor", 0, 1<<20))
		d.UID, d.GID = uint32(m.Int("uid", 0, 1<<31)), uint32(m.Int("gid", 0, 1<<31))
		m.Done()
		if p = strings.TrimPrefix(p, "/"); p == "" || path.Clean("/"+p) != "/"+p {
			f.errs.Addf(item.Pos, "a device must have a path without \"..\", such as dev/null")
		}
		if kind != "c" && kind != "b" {
			f.errs.Addf(item.Pos, "the type of a device is c or b, not %q", kind)
			continue
		}
		if mode != "" {
			n, err := strconv.ParseUint(mode, 8, 12)
			if err != nil {
				f.errs.Addf(item.Pos, "mode must be an octal number such as \"0600\", not %q", mode)
			}
			d.Mode = uint32(n)
		}
		d.Path, d.Type = p, kind[0]
		list = append(list, d)
	}
	return list
}

// link finds the components that c needs: those that it names, and what these
// need to run. It adds c to the project after them.
func (f *fileReader) link(c *fileComponent, from []string) {
	const visiting, done = 1, 2
	switch c.state {
	case done:
		return
	case visiting:
		i := max(slices.Index(from, c.Name), 0)
		f.errs.Addf(c.pos, "component %s needs itself: %s", c.Name, strings.Join(append(slices.Clone(from[i:]), c.Name), " -> "))
		return
	}
	c.state = visiting
	from = append(slices.Clone(from), c.Name)
	for _, r := range append(slices.Clone(c.buildNeeds), c.needs...) {
		n := f.find(r, "component "+c.Name+" needs")
		if n == nil {
			continue
		}
		f.link(n, from)
		for _, x := range f.closure(n) {
			if !slices.Contains(c.Needs, x) && x != c.Component {
				c.Needs = append(c.Needs, x)
			}
		}
	}
	c.state = done
	f.project.Components = append(f.project.Components, c.Component)
}

// closure is a component with all that it needs to run, which comes first.
func (f *fileReader) closure(c *fileComponent) []*Component {
	var list []*Component
	seen := map[*fileComponent]bool{}
	var visit func(c *fileComponent)
	visit = func(c *fileComponent) {
		if seen[c] {
			return
		}
		seen[c] = true
		for _, r := range c.needs {
			if n := f.components[r.name]; n != nil {
				visit(n)
			}
		}
		list = append(list, c.Component)
	}
	visit(c)
	return list
}

func (f *fileReader) find(r reference, what string) *fileComponent {
	if c := f.components[r.name]; c != nil {
		return c
	}
	if r.name == "" {
		return nil // it was reported
	}
	near := spelling.Nearest(r.name, slices.Collect(maps.Keys(f.components)))
	if near != "" {
		near = fmt.Sprintf(": is %q meant?", near)
	}
	f.errs.Addf(r.pos, "%s %q, which is no component%s", what, r.name, near)
	return nil
}

// system reads one system. What its components need to run is in it, too.
func (f *fileReader) system(field strictyaml.Field) {
	s := &System{Name: field.Key, Where: field.Pos.String()}
	m := f.errs.Map(field.Value, "system "+field.Key)
	if !goodName(field.Key) || f.components[field.Key] != nil {
		f.errs.Addf(field.Pos, "%q cannot be the name of a system: use letters, digits and ._+-@, and no name of a component", field.Key)
	}
	if b := m.Take("base"); b != nil {
		switch {
		case b.Kind == strictyaml.Bool && b.Text == "true":
			s.Base = f.base
		case b.Kind == strictyaml.Bool:
		default:
			s.Base = f.readBase(b)
		}
	}
	chosen := map[*Component]*Content{}
	whole := map[*Component]bool{} // asked for by name, without an output
	for _, r := range f.references(m.Need("contents"), "contents") {
		name, output, some := strings.Cut(r.name, ":")
		c := f.find(reference{name, r.pos}, "system "+field.Key+" contains")
		if c == nil {
			continue
		}
		if some && !slices.Contains(c.Artifacts, output) {
			f.errs.Addf(r.pos, "component %s has no output %q: it has %s", name, output, strings.Join(c.Artifacts, ", "))
		}
		for _, x := range f.closure(c) {
			if chosen[x] == nil {
				chosen[x] = &Content{Component: x, All: x != c.Component}
				s.Contents = append(s.Contents, Content{Component: x})
			}
		}
		whole[c.Component] = whole[c.Component] || !some
		chosen[c.Component].All = whole[c.Component]
		if some {
			chosen[c.Component].Artifacts = append(chosen[c.Component].Artifacts, output)
		}
	}
	for i, c := range s.Contents {
		s.Contents[i] = *chosen[c.Component]
	}
	if n := m.Take("integrate"); n != nil {
		s.Integration = []Integration{{Label: "integrate", Component: field.Key, Commands: f.errs.Strings(n, "integrate")}}
	}
	for _, r := range f.references(m.Take("output"), "output") {
		o, err := f.output(field.Key, r.name)
		if err != nil {
			f.errs.Addf(r.pos, "output %v", err)
		}
		s.Outputs = append(s.Outputs, o)
	}
	m.Done()
	f.project.Systems = append(f.project.Systems, s)
}
