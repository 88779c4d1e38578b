package workertest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
)

// A Spec describes an action in a few words.
type Spec struct {
	Script   string            // for /bin/sh
	Inputs   map[string]string // contents by path; "" as content of a path with a slash at its end: a directory
	Outputs  []string
	Timeout  time.Duration
	Uncached bool // do_not_cache
	Function action.Function

	// Properties are those of files at the top.
	Properties map[string]*rexec.NodeProperties

	// Change, where not nil, changes the command before it is stored.
	Change func(*rexec.Command)
}

// Store puts what an action needs into the storage, and returns it.
func (spec Spec) Store(t testing.TB, s *remotetest.Server) (action.Digest, *rexec.Action) {
	t.Helper()
	f := spec.Function
	if f == 0 {
		f = action.SHA256
	}
	command := &rexec.Command{
		Arguments:            []string{"/bin/sh", "-c", spec.Script},
		EnvironmentVariables: []*rexec.Command_EnvironmentVariable{{Name: "PATH", Value: "/usr/bin:/bin"}},
		OutputPaths:          spec.Outputs,
	}
	if spec.Change != nil {
		spec.Change(command)
	}
	act := &rexec.Action{
		CommandDigest:   remote.ToDigest(s.PutMessage(t, f, command)),
		InputRootDigest: remote.ToDigest(s.PutMessage(t, f, spec.root(t, s, f))),
		DoNotCache:      spec.Uncached,
	}
	if spec.Timeout > 0 {
		act.Timeout = durationpb.New(spec.Timeout)
	}
	return s.PutMessage(t, f, act), act
}

// root is the input root. What is below it is stored.
func (spec Spec) root(t testing.TB, s *remotetest.Server, f action.Function) *rexec.Directory {
	t.Helper()
	dir := directory(t, s, f, spec.Inputs)
	for _, n := range dir.Files {
		n.NodeProperties = spec.Properties[n.Name]
	}
	return dir
}

// Tree stores files and returns the digest of their root directory.
func Tree(t testing.TB, s *remotetest.Server, f action.Function, files map[string]string) action.Digest {
	t.Helper()
	return s.PutMessage(t, f, directory(t, s, f, files))
}

func directory(t testing.TB, s *remotetest.Server, f action.Function, files map[string]string) *rexec.Directory {
	t.Helper()
	dir := &rexec.Directory{}
	below := map[string]map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		name, rest, deeper := strings.Cut(p, "/")
		if !deeper {
			dir.Files = append(dir.Files, &rexec.FileNode{Name: name, Digest: remote.ToDigest(s.Put(f, []byte(files[p])))})
			continue
		}
		if below[name] == nil {
			below[name] = map[string]string{}
		}
		if rest != "" {
			below[name][rest] = files[p]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(below)) {
		dir.Directories = append(dir.Directories, &rexec.DirectoryNode{Name: name, Digest: remote.ToDigest(Tree(t, s, f, below[name]))})
	}
	return dir
}
