package baserock

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/integration/component"
)

// Options say what the definitions leave open.
type Options struct {
	Arch string // empty: that of the system

	// Aliases are what is put in the place of the beginning of a repo:
	// "upstream:" becomes "/srv/git/".
	Aliases []Alias

	// Sources are where sources are, by repo, or by path or name of a chunk.
	Sources map[string]*component.Source

	// Replace are root file systems in the place of elements, by path.
	Replace map[string]component.Base

	// HostBootstrap allows bootstrap chunks, which are built with the tools of
	// the host.
	HostBootstrap bool

	// MaxJobs is what -j is in MAKEFLAGS where a chunk does not say it; 0: the
	// number of processors.
	MaxJobs int

	Limits component.Limits // of each chunk

	// AnySource accepts sources that are nowhere: they keep the names that they
	// have in the definitions.
	AnySource bool
}

// An Alias replaces the beginning of a repo.
type Alias struct{ Prefix, Place string }

// Project turns a target, and all that it needs, into components and systems. Of
// a cluster, these are all its systems.
//
// Sources that are nowhere are all in the one error.
func (t *Tree) Project(target *Element, o Options) (*component.Project, error) {
	c := &converter{Tree: t, Options: o, made: map[*Element]*component.Component{}, project: &component.Project{}}
	for name := range o.Replace {
		if _, err := t.Find(name); err != nil {
			return nil, fmt.Errorf("--replace: %w", err)
		}
	}
	for name := range o.Sources {
		if !c.known(name) {
			return nil, fmt.Errorf("--source %s: no chunk has that path, name or repo", name)
		}
	}
	if err := c.target(target); err != nil {
		return nil, err
	}
	if len(c.missing) > 0 {
		c.problems = append(c.problems, c.lost())
	}
	c.project.Arch = c.Arch
	return c.project, errors.Join(c.problems...)
}

type converter struct {
	*Tree
	Options
	made     map[*Element]*component.Component
	project  *component.Project
	missing  []string // sources that are nowhere, and who needs them
	problems []error
}

// known says whether a chunk has this path, name or repo, or a submodule may be
// there: which those are that only .gitmodules names, is not known yet.
func (c *converter) known(name string) bool {
	if strings.Contains(name, "://") || path.IsAbs(name) || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || strings.Contains(name, "@") {
		return true
	}
	for _, e := range c.Elements {
		if e.Kind == Chunk && (e.Path == strings.TrimSuffix(name, ".morph") || e.Name == name || e.Repo == name) {
			return true
		}
		for _, url := range e.Submodules {
			if url == name {
				return true
			}
		}
	}
	return false
}

// lost is an error that lists every source that is nowhere.
func (c *converter) lost() error {
	var b strings.Builder
	if len(c.missing) == 1 {
		b.WriteString("1 source is nowhere:")
	} else {
		fmt.Fprintf(&b, "%d sources are nowhere:", len(c.missing))
	}
	for _, m := range c.missing {
		b.WriteString("\n" + m)
	}
	b.WriteString("\nsay where with --source NAME=SOURCE or --source-map FILE, or where repositories are with --alias PREFIX=PLACE")
	return errors.New(b.String())
}

func (c *converter) target(e *Element) error {
	switch e.Kind {
	case Chunk, Stratum:
		c.project.Targets = c.element(e)
	case System:
		return c.system(e)
	case Cluster:
		done := map[*Element]bool{}
		for _, s := range e.Contents {
			if done[s.Element] {
				continue
			}
			done[s.Element] = true
			if err := c.system(s.Element); err != nil {
				return err
			}
		}
	}
	return nil
}

// element returns the components of a chunk or a stratum: without those that
// exist only to build others.
func (c *converter) element(e *Element) []*component.Component {
	if r := c.replaced(e); r != nil {
		return []*component.Component{r}
	}
	if e.Kind == Chunk {
		return []*component.Component{c.chunk(e)}
	}
	var list []*component.Component
	for _, kid := range e.Contents {
		if !kid.Bootstrap() {
			list = append(list, c.element(kid.Element)...)
		}
	}
	return list
}

// replaced returns the root file system that is in the place of e or of its
// stratum, or nil.
func (c *converter) replaced(e *Element) *component.Component {
	for _, r := range []*Element{e, e.Stratum} {
		if r == nil {
			continue
		}
		base, ok := c.Replace[r.Path]
		if !ok {
			base, ok = c.Replace[r.Path+".morph"]
		}
		if !ok {
			base, ok = c.Replace[r.Name]
		}
		if !ok {
			continue
		}
		if c.made[r] == nil {
			c.made[r] = &component.Component{Name: r.Path, Short: r.Name, Where: r.Place.String(), Tree: base}
			c.project.Components = append(c.project.Components, c.made[r])
		}
		return c.made[r]
	}
	return nil
}

func (c *converter) chunk(e *Element) *component.Component {
	if made := c.made[e]; made != nil {
		return made
	}
	arch := cmp.Or(c.Arch, "x86_64")
	m := &component.Component{
		Name: e.Path, Short: e.Name, Where: e.Place.String(), MaxJobs: cmp.Or(e.MaxJobs, c.MaxJobs), Limits: c.Limits,
		Artifacts: c.artifactNames(e), HostTools: e.Bootstrap(), Owners: true, // as Morph and YBD run it
	}
	c.made[e] = m
	if m.HostTools && !c.HostBootstrap {
		c.problems = append(c.problems, fmt.Errorf("%v: %s is a bootstrap chunk, which is built with the tools of this machine: allow that with --allow-host-bootstrap, or put a root file system in the place of its stratum with --replace %s=NAME", e.Place, e.Path, e.Stratum.Path))
	}
	if m.Source = c.source(e); m.Source == nil && c.AnySource {
		m.Source = &component.Source{Kind: component.GitSource, At: e.Repo, Ref: e.Ref}
	} else if m.Source == nil {
		c.missing = append(c.missing, fmt.Sprintf("%v: %s needs %s at %s", e.Place, e.Path, e.Repo, e.Ref))
	}
	for _, s := range e.Staged(func(d *Element) bool { return c.replaced(d) != nil }) {
		need := c.replaced(s)
		if need == nil {
			need = c.chunk(s)
		}
		if !slices.Contains(m.Needs, need) {
			m.Needs = append(m.Needs, need)
		}
	}
	sandbox := ""
	if m.HostTools {
		sandbox = "/build"
	}
	for _, v := range e.Environment(arch, sandbox) {
		m.Env = append(m.Env, component.Variable(v))
	}
	for _, step := range stepNames() {
		if commands := c.Commands(e, step); len(commands) > 0 {
			m.Steps = append(m.Steps, component.Step{Name: step, Commands: commands, Parallel: strings.Contains(step, "build")})
		}
	}
	rules := c.Rules(e)
	m.Split = func(p string) string { return split(rules, p) }
	for _, r := range rules {
		m.Rules = append(m.Rules, component.SplitRule{Artifact: r.Artifact, Expressions: r.Include})
	}
	for _, d := range e.Devices {
		m.Devices = append(m.Devices, component.Device{
			Path: strings.TrimPrefix(d.Filename, "/"), Type: d.Type, Major: d.Major, Minor: d.Minor, UID: d.UID, GID: d.GID, Mode: d.Mode,
		})
	}
	c.project.Components = append(c.project.Components, m)
	return m
}

func (c *converter) artifactNames(e *Element) []string {
	var names []string
	for _, r := range c.Rules(e) {
		if !slices.Contains(names, r.Artifact) {
			names = append(names, r.Artifact)
		}
	}
	return names
}

// split returns the artifact of a path: that of the first rule that it matches,
// as a file or as a directory.
func split(rules []Rule, p string) string {
	for i := range rules {
		if rules[i].Match(p) || rules[i].Match(p+"/") {
			return rules[i].Artifact
		}
	}
	return ""
}

// source returns where the source of a chunk is, or nil.
func (c *converter) source(e *Element) *component.Source {
	for _, name := range []string{e.Path, e.Path + ".morph", e.Name, e.Repo} {
		if s := c.Sources[name]; s != nil {
			return c.withSubmodules(e, s)
		}
	}
	at := c.repository(e.Repo)
	if at == "" {
		return nil
	}
	return c.withSubmodules(e, &component.Source{Kind: component.GitSource, At: at, Ref: e.Ref})
}

// withSubmodules adds where submodules of a repository are that the definition
// names. The others, .gitmodules says.
func (c *converter) withSubmodules(e *Element, s *component.Source) *component.Source {
	if s.Kind != component.GitSource {
		return s
	}
	with := *s
	with.Locate = c.locate
	with.Submodules = maps.Clone(s.Submodules)
	for _, p := range slices.Sorted(maps.Keys(e.Submodules)) {
		url := e.Submodules[p]
		sub := c.locate(url)
		if sub == nil {
			if at := c.repository(url); at != "" {
				sub = &component.Source{Kind: component.GitSource, At: at}
			} else if c.AnySource {
				sub = &component.Source{Kind: component.GitSource, At: url}
			}
		}
		if sub == nil {
			c.missing = append(c.missing, fmt.Sprintf("%v: submodule %s of %s needs %s", e.Place, p, e.Path, url))
			continue
		}
		if with.Submodules == nil {
			with.Submodules = map[string]*component.Source{}
		}
		with.Submodules[p] = sub
	}
	return &with
}

// locate is where a repository is, if a source or an alias says it: else nil.
func (c *converter) locate(url string) *component.Source {
	if s := c.Sources[url]; s != nil {
		return s
	}
	for _, a := range c.Aliases {
		if rest, ok := strings.CutPrefix(url, a.Prefix); ok {
			if at := existing(a.Place + rest); at != "" {
				return &component.Source{Kind: component.GitSource, At: at}
			}
		}
	}
	return nil
}

// repository returns the place of a repository, or "".
func (c *converter) repository(repo string) string {
	for _, a := range c.Aliases {
		if rest, ok := strings.CutPrefix(repo, a.Prefix); ok {
			return existing(a.Place + rest)
		}
	}
	if strings.Contains(repo, "://") || path.IsAbs(repo) {
		return repo
	}
	return ""
}

// existing is a repository as it is called on the disk, with or without .git;
// "" if it is neither there nor elsewhere.
func existing(at string) string {
	at = component.ExistingRepository(at)
	if strings.Contains(at, "://") {
		return at
	}
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		return ""
	}
	return at
}

// system adds a system, with all that it is made of.
func (c *converter) system(e *Element) error {
	if c.Arch == "" {
		c.Arch = e.Arch
	}
	if c.Arch != e.Arch {
		return fmt.Errorf("%v: %s is of %s, not of %s", e.Place, e.Path, e.Arch, c.Arch)
	}
	for _, d := range e.Doubts {
		c.problems = append(c.problems, d)
	}
	s := &component.System{Name: e.Path, Where: e.Place.String()}
	for _, content := range e.Contents {
		c.stratum(s, content)
	}
	c.project.Systems = append(c.project.Systems, s)
	return nil
}

// stratum adds the chunks of a stratum, with the artifacts that are meant.
func (c *converter) stratum(s *component.System, content Content) {
	if r := c.replaced(content.Element); r != nil {
		add(s, component.Content{Component: r, All: true})
		return
	}
	for _, kid := range content.Contents {
		if kid.Bootstrap() {
			continue
		}
		for _, m := range c.element(kid.Element) {
			item := component.Content{Component: m, All: len(content.Artifacts) == 0}
			for _, a := range m.Artifacts {
				if !item.All && slices.Contains(content.Artifacts, c.stratumArtifact(content.Element, kid.Element, a)) {
					item.Artifacts = append(item.Artifacts, a)
				}
			}
			if add(s, item) && m.Tree == "" {
				c.integration(s, kid.Element, item)
			}
		}
	}
}

// add adds content to a system that does not have it yet.
func add(s *component.System, item component.Content) bool {
	if !item.All && len(item.Artifacts) == 0 && item.Tree == "" {
		return false
	}
	for i := range s.Contents {
		if old := &s.Contents[i]; old.Component == item.Component {
			old.All = old.All || item.All
			old.Artifacts = append(old.Artifacts, item.Artifacts...)
			return false
		}
	}
	s.Contents = append(s.Contents, item)
	return true
}

// stratumArtifact is the artifact of the stratum that has an artifact of a
// chunk: what the entry of the chunk says, else by the rules of the stratum.
func (c *converter) stratumArtifact(stratum, chunk *Element, artifact string) string {
	if to, ok := chunk.ChunkFields.Artifacts[artifact]; ok {
		return to
	}
	return split(c.Rules(stratum), artifact)
}

// integration adds the commands of those artifacts that the system has.
func (c *converter) integration(s *component.System, e *Element, item component.Content) {
	for _, i := range e.Integration {
		if item.All || slices.Contains(item.Artifacts, i.Artifact) {
			s.Integration = append(s.Integration, component.Integration{Label: i.Label + "-" + i.Artifact, Component: e.Path, Commands: i.Commands})
		}
	}
}
