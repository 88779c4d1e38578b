package reapi_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// TestHostileTrees executes actions whose input roots are small to send and
// large to make: each directory holds the next one many times, or the chain of
// directories is longer than any path can be.
func TestHostileTrees(t *testing.T) {
	s := start(t, nil)
	for name, c := range map[string]struct{ depth, width int }{
		"bomb":  {40, 10},
		"wide":  {3, 1500},
		"chain": {1500, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.with(t)
			d := s.put(action.SHA256, nil)
			var batch []*repb.BatchUpdateBlobsRequest_Request
			for i := range c.depth {
				m := &repb.Directory{}
				for k := range c.width {
					m.Directories = append(m.Directories, &repb.DirectoryNode{Name: fmt.Sprintf("%05d", k), Digest: d})
				}
				data, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				d = reapi.ToDigest(action.Sum(action.SHA256, data))
				batch = append(batch, &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: data})
				if len(batch) < 1000 && i < c.depth-1 {
					continue
				}
				if _, err := s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: batch}); err != nil {
					t.Fatal(err)
				}
				batch = nil
			}
			command := s.putMessage(action.SHA256, &repb.Command{Arguments: []string{"/bin/true"}})
			r := s.execute(s.putMessage(action.SHA256, &repb.Action{CommandDigest: command, InputRootDigest: d}))
			if code := codes.Code(r.response.GetStatus().GetCode()); code != codes.InvalidArgument {
				t.Errorf("%v, %v; want InvalidArgument", r.response, r.err)
			}
		})
	}
	if res := s.succeed(s.action(call{script: "echo well"})); string(res.Result.StdoutRaw) != "well\n" {
		t.Errorf("after all that: %v", res)
	}
}

// TestWhatLinuxRefuses executes actions that name what no file system takes, which is
// the client's fault, and what it cannot make go away by trying again.
func TestWhatLinuxRefuses(t *testing.T) {
	s := start(t, nil)
	long := strings.Repeat("n", 256)
	for name, c := range map[string]call{
		"target":            {root: &repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: "l", Target: strings.Repeat("t", 4096)}}}},
		"name":              {root: &repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: long, Target: "t"}}}},
		"working directory": {command: func(c *repb.Command) { c.WorkingDirectory = long }},
		"deep":              {command: func(c *repb.Command) { c.WorkingDirectory = strings.Repeat("a/", 2100) }},
		"many deep outputs": {command: func(c *repb.Command) {
			for i := range 600 {
				c.OutputPaths = append(c.OutputPaths, fmt.Sprint(i, "/", strings.Repeat("a/", 1900), "out"))
			}
		}},
		"output": {command: func(c *repb.Command) { c.OutputPaths = []string{"d/" + long} }},
	} {
		c.script = "true"
		r := s.execute(s.action(c))
		code := status.Code(r.err)
		if r.response != nil {
			code = codes.Code(r.response.GetStatus().GetCode())
		}
		if code != codes.InvalidArgument {
			t.Errorf("%s: %v, %v; want InvalidArgument", name, r.response, r.err)
		}
	}
	most := s.succeed(s.action(call{script: "readlink l", root: &repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: "l", Target: strings.Repeat("t", 4095)}}}}))
	if len(most.Result.StdoutRaw) != 4096 {
		t.Errorf("control: %v", most)
	}
}

// TestFailedCommandIsTold executes a command that fails, and leaves what cannot be an
// output: the client gets its exit code and what it said.
func TestFailedCommandIsTold(t *testing.T) {
	s := start(t, nil)
	script := "mkfifo pipe; echo x > file; echo why >&2; exit "
	outputs := func(c *repb.Command) { c.OutputPaths = []string{"file", "pipe"} }
	res := s.succeed(s.action(call{script: script + "3", command: outputs})).Result
	if res.ExitCode != 3 || string(res.StderrRaw) != "why\n" || output(res, "file") == nil || len(res.OutputFiles) != 1 {
		t.Errorf("%v", res)
	}
	if r := s.execute(s.action(call{script: script + "0", command: outputs})); codes.Code(r.response.GetStatus().GetCode()) != codes.FailedPrecondition {
		t.Errorf("control: %v, %v", r.response, r.err)
	}
	//lint:ignore SA1019 an old client
	old := func(c *repb.Command) { c.OutputFiles = []string{"dir"} }
	if res := s.succeed(s.action(call{script: "mkdir dir; exit 4", command: old})).Result; res.ExitCode != 4 {
		t.Errorf("%v", res)
	}
}

// TestNobodyGetsIntoAnotherInstance uploads, in the instance without a name,
// results under the keys that results of an instance are found by, and sends
// actions with the salt that its actions run with.
func TestNobodyGetsIntoAnotherInstance(t *testing.T) {
	s := start(t, nil)
	in := func(name string) func(*repb.ExecuteRequest) {
		return func(r *repb.ExecuteRequest) { r.InstanceName = name }
	}
	uuid := func(salt string) *repb.Digest {
		return s.action(call{script: "cat /proc/sys/kernel/random/uuid", action: func(a *repb.Action) { a.Salt = []byte(salt) }})
	}
	d := uuid("x")
	theirs := s.succeed(d, in("main"))
	// Every key that the store has of a result of an action that ran.
	keys := s.resultKeys(t)
	if len(keys) == 0 {
		t.Fatal("no result is stored: the test would prove nothing")
	}
	poison := &repb.ActionResult{StdoutRaw: []byte("poison")}
	for _, k := range keys {
		if _, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: k, ActionResult: poison}); err != nil {
			t.Fatal(err)
		}
		got, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: k})
		if err != nil || string(got.StdoutRaw) != "poison" {
			t.Errorf("control: %v, %v", got, err)
		}
	}
	again := s.succeed(d, in("main"))
	if !again.CachedResult || string(again.Result.StdoutRaw) != string(theirs.Result.StdoutRaw) {
		t.Errorf("after the upload in another instance: %v, want %q from the cache", again, theirs.Result.StdoutRaw)
	}
	// The other way: an action without an instance, salted as one of main is.
	for _, salt := range []string{"\x00instance main\x00x", "x\x00instance main", "\x00instance \x00\x00instance main\x00x"} {
		if mine := s.succeed(uuid(salt)); mine.CachedResult || string(mine.Result.StdoutRaw) == string(theirs.Result.StdoutRaw) {
			t.Errorf("salt %q: it has the result of another instance", salt)
		}
	}
	for _, name := range []string{"main", "main/sub", "other", "operations", "main\x00", strings.Repeat("x", 300)} {
		if name == "main" {
			continue
		}
		if res, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InstanceName: name}); err == nil {
			t.Errorf("instance %q has it, too: %v", name, res)
		}
	}
}

// resultKeys are the keys of all results and notes in the store, packed or not, as
// digests of actions; their sizes do not matter to it.
func (s *server) resultKeys(t *testing.T) (list []*repb.Digest) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "result", "sha256", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		list = append(list, &repb.Digest{Hash: filepath.Base(f), SizeBytes: 100})
	}
	packs, err := filepath.Glob(filepath.Join(s.dir, "serve", "pack", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range packs {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		const header = 8 + 32 // see package pack
		for len(data) > header {
			if data[0] == 'K' && action.Function(data[1]) == action.SHA256 {
				list = append(list, &repb.Digest{Hash: hex.EncodeToString(data[8:header]), SizeBytes: 100})
			}
			data = data[min(len(data), header+int(binary.LittleEndian.Uint32(data[4:]))):]
		}
	}
	return list
}
