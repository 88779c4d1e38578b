package baserock

import (
	"fmt"
	"io"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// Show writes what is known of an element: of a chunk its source, what is staged
// for it, its environment, and each command that runs.
func (t *Tree) Show(w io.Writer, e *Element, arch string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\ndefined in %v\n", e.Kind, e.Path, e.Place)
	if e.Kind == Chunk {
		if arch == "" {
			arch = "x86_64"
		}
		t.showChunk(&b, e, arch)
	}
	for _, c := range e.Contents {
		fmt.Fprintf(&b, "contains %s", c.Path)
		if len(c.Artifacts) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(c.Artifacts, ", "))
		}
		b.WriteByte('\n')
	}
	for _, r := range t.Rules(e) {
		fmt.Fprintf(&b, "artifact %s: %s\n", r.Artifact, strings.Join(r.Include, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Tree) showChunk(b *strings.Builder, e *Element, arch string) {
	fmt.Fprintf(b, "source %s at %s\nbuild-system %s, build-mode %s\n", e.Repo, e.Ref, e.BuildSystem, e.BuildMode)
	for _, s := range e.Staged(nil) {
		fmt.Fprintf(b, "staged %s\n", s.Path)
	}
	sandbox := ""
	if e.Bootstrap() {
		sandbox = action.WorkRoot
	}
	for _, v := range e.Environment(arch, sandbox) {
		fmt.Fprintf(b, "env %s=%s\n", v.Name, v.Value)
	}
	jobs := "as many as there are processors"
	if e.MaxJobs > 0 {
		jobs = fmt.Sprint(e.MaxJobs)
	}
	fmt.Fprintf(b, "env MAKEFLAGS=-jN in build steps, N: %s\n", jobs)
	fmt.Fprintf(b, "env SOURCE_DATE_EPOCH=N, N: the time of the commit, or %d\n", staging.MTime)
	for _, step := range stepNames() {
		for i, c := range t.Commands(e, step) {
			fmt.Fprintf(b, "%s %d:\n", step, i+1)
			for line := range strings.Lines(c) {
				fmt.Fprintf(b, "    %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
	for _, d := range e.Devices {
		fmt.Fprintf(b, "device %s %c %d:%d mode %04o owner %d:%d\n", d.Filename, d.Type, d.Major, d.Minor, d.Mode, d.UID, d.GID)
	}
	for _, i := range e.Integration {
		for _, c := range i.Commands {
			fmt.Fprintf(b, "integration %s-%s: %s\n", i.Label, i.Artifact, c)
		}
	}
}
