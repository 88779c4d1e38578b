//lint:file-ignore SA1019 old clients say it with what is deprecated for new ones

package worker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/workertest"
	"github.com/sbx-action/sbx-action/staging"
)

// A bench is a worker with a storage, and no scheduler.
type bench struct {
	*worker.Worker
	storage *remotetest.Server
	store   *cache.Store
}

func start(t *testing.T, change func(*worker.Options)) *bench {
	t.Helper()
	storage := &remotetest.Server{}
	client, err := remote.Dial(remote.Address{Host: remotetest.Serve(t, storage)}, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	store, err := cache.Open(t.TempDir(), cache.Options{TouchAfter: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	backend, err := native.Open(native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	c := backend.Capabilities()
	if !c.Works {
		t.Fatal(c.Reason)
	}
	o := worker.Options{
		Storage: client, Store: store, Backend: backend, Capabilities: c, Rootfs: staging.HostRootfs(staging.HostOptions{}),
		DefaultTimeout: time.Minute, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&o)
	}
	return &bench{worker.New(o), storage, store}
}

const id = `{"hostname":"here","thread":"0"}`

// run executes an action as a scheduler would have it executed, and looks at the
// answer as closely as any client may.
func (b *bench) run(t *testing.T, spec workertest.Spec) *rexec.ExecuteResponse {
	t.Helper()
	digest, act := spec.Store(t, b.storage)
	resp := b.Execute(t.Context(), &worker.Task{Digest: digest, Action: act, Queued: timestamppb.Now()}, id, func(worker.Stage) {})
	j := &workertest.Job{Digest: digest, Action: act, Function: rexec.DigestFunction_Value(digest.Function())}
	if resp.CachedResult {
		return resp
	}
	for _, v := range workertest.Examine(b.storage, j, resp, id) {
		t.Errorf("%s: %s", spec.Script, v)
	}
	return resp
}

// must is the result of an action that is to succeed.
func (b *bench) must(t *testing.T, spec workertest.Spec) *rexec.ActionResult {
	t.Helper()
	resp := b.run(t, spec)
	if resp.Status.GetCode() != 0 || resp.Result.ExitCode != 0 {
		t.Fatalf("%s: status %v, exit code %d, %s", spec.Script, resp.Status, resp.Result.GetExitCode(), b.text(t, resp.Result.GetStderrDigest()))
	}
	return resp.Result
}

func (b *bench) text(t *testing.T, m *rexec.Digest) string {
	t.Helper()
	if m == nil {
		return ""
	}
	d, err := remote.FromDigest(m, action.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := b.storage.Blob(d)
	if !ok {
		t.Fatalf("%v is not in the storage", d)
	}
	return string(data)
}

func TestExecute(t *testing.T) {
	b := start(t, nil)
	var stages []worker.Stage
	digest, act := workertest.Spec{
		Script:  "cat in/a in/b > out/both; ln -s both out/link; mkdir -p out/dir/sub; echo x > out/dir/sub/x; echo said; echo complained >&2",
		Inputs:  map[string]string{"in/a": "A", "in/b": "B"},
		Outputs: []string{"out/both", "out/dir", "out/link", "out/absent"},
	}.Store(t, b.storage)
	resp := b.Execute(t.Context(), &worker.Task{Digest: digest, Action: act}, id, func(s worker.Stage) { stages = append(stages, s) })
	r := resp.Result
	if resp.Status.GetCode() != 0 || r.ExitCode != 0 {
		t.Fatalf("%v", resp)
	}
	if got := b.text(t, r.OutputFiles[0].Digest); len(r.OutputFiles) != 1 || got != "AB" {
		t.Errorf("files %v with %q, want one with AB", r.OutputFiles, got)
	}
	if len(r.OutputSymlinks) != 1 || r.OutputSymlinks[0].Target != "both" || !proto.Equal(r.OutputSymlinks[0], r.OutputFileSymlinks[0]) {
		t.Errorf("links %v, and for old clients %v", r.OutputSymlinks, r.OutputFileSymlinks)
	}
	if len(r.OutputDirectories) != 1 || !r.OutputDirectories[0].IsTopologicallySorted {
		t.Errorf("directories %v", r.OutputDirectories)
	}
	if out, err := b.text(t, r.StdoutDigest), b.text(t, r.StderrDigest); out != "said\n" || err != "complained\n" {
		t.Errorf("output %q and %q", out, err)
	}
	if want := []worker.Stage{worker.Fetching, worker.Running, worker.Uploading}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
	if len(r.ExecutionMetadata.AuxiliaryMetadata) != 2 {
		t.Errorf("auxiliary metadata %v, want what the command and its inputs used", r.ExecutionMetadata.AuxiliaryMetadata)
	}
}

func TestAllDigestFunctions(t *testing.T) {
	b := start(t, nil)
	for _, f := range action.Functions() {
		if f == action.GitSHA1 { // as on our server: it needs the size of a file first
			continue
		}
		b.must(t, workertest.Spec{Script: "cat in > out", Inputs: map[string]string{"in": "x"}, Outputs: []string{"out"}, Function: f})
	}
}

// TestOldClients say what is made in two lists, and the platform in the command.
func TestOldClients(t *testing.T) {
	b := start(t, nil)
	r := b.must(t, workertest.Spec{
		Script: "echo f > f; mkdir d; echo x > d/x; ln -s d link",
		Change: func(c *rexec.Command) {
			c.OutputFiles, c.OutputDirectories = []string{"f"}, []string{"d/", "link"}
			c.WorkingDirectory = "./"
		},
	})
	if len(r.OutputFiles) != 1 || len(r.OutputDirectories) != 1 || len(r.OutputDirectorySymlinks) != 1 {
		t.Errorf("%v", r)
	}
}

// TestNodeProperties: inputs have the times and modes that the client says, and
// it hears of those of outputs.
func TestNodeProperties(t *testing.T) {
	b := start(t, nil)
	spec := workertest.Spec{
		Script: "stat -c '%n %Y %a' in plain; echo x > out; chmod 640 out; touch -d @1400000001 out",
		Inputs: map[string]string{"in": "x", "plain": "y"}, Outputs: []string{"out"},
		Properties: map[string]*rexec.NodeProperties{
			"in": {Mtime: &timestamppb.Timestamp{Seconds: 1_500_000_001}, UnixMode: wrapperspb.UInt32(0o640)},
		},
		Change: func(c *rexec.Command) { c.OutputNodeProperties = []string{"unix_mode", "mtime"} },
	}
	r := b.must(t, spec)
	if got, want := b.text(t, r.StdoutDigest), fmt.Sprintf("in 1500000001 640\nplain %d 644\n", staging.MTime); got != want {
		t.Errorf("inputs: %q, want %q", got, want)
	}
	if p := r.OutputFiles[0].NodeProperties; p.GetMtime().GetSeconds() != 1_400_000_001 || p.GetUnixMode().GetValue() != 0o640 {
		t.Errorf("output: %v", p)
	}
	spec.Change = func(c *rexec.Command) { c.OutputNodeProperties = []string{"colour"} }
	if resp := b.run(t, spec); codes.Code(resp.Status.GetCode()) != codes.InvalidArgument {
		t.Errorf("a property that is not known: %v", resp.Status)
	}
}

func TestUnsortedCommand(t *testing.T) {
	b := start(t, nil)
	r := b.must(t, workertest.Spec{
		Script: "echo $B$A > b; echo > a", Outputs: []string{"b", "a", "b"},
		Change: func(c *rexec.Command) {
			c.EnvironmentVariables = []*rexec.Command_EnvironmentVariable{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}}
		},
	})
	if len(r.OutputFiles) != 2 {
		t.Errorf("%v", r.OutputFiles)
	}
}

// TestResultsThatAreNotKept: the test of Examine is that they are not in the
// action cache.
func TestResultsThatAreNotKept(t *testing.T) {
	b := start(t, func(o *worker.Options) { o.Browser = "http://browser/" })
	resp := b.run(t, workertest.Spec{Script: "echo part > out; echo no >&2; exit 3", Outputs: []string{"out"}})
	if resp.Result.ExitCode != 3 || len(resp.Result.OutputFiles) != 1 || b.text(t, resp.Result.StderrDigest) != "no\n" {
		t.Errorf("a command that failed: %v", resp)
	}
	_, link, ok := strings.Cut(resp.Message, "http://browser/blobs/sha256/historical_execute_response/")
	hash, _, _ := strings.Cut(link, "-")
	if !ok || b.storage.Counted().Uploads[hash] != 1 {
		t.Errorf("message %q does not lead to an account in the storage", resp.Message)
	}
	if resp := b.run(t, workertest.Spec{Script: "exit 0", Uncached: true}); resp.Status.GetCode() != 0 {
		t.Errorf("do_not_cache: %v", resp.Status)
	}
	if resp := b.run(t, workertest.Spec{Script: "kill -9 $$"}); resp.Result.ExitCode != 137 {
		t.Errorf("killed: exit code %d, want 137", resp.Result.ExitCode)
	}
	resp = b.run(t, workertest.Spec{Change: func(c *rexec.Command) { c.Arguments = []string{"no-such-program"} }})
	if resp.Result.ExitCode != 127 || !strings.Contains(b.text(t, resp.Result.StderrDigest), "no-such-program") {
		t.Errorf("not found: %v", resp)
	}
}

func TestTimeout(t *testing.T) {
	b := start(t, func(o *worker.Options) { o.MaxTimeout = time.Hour })
	for limit := 300 * time.Millisecond; ; limit *= 4 { // on a busy machine it takes more to begin
		resp := b.run(t, workertest.Spec{
			Script: "echo early; echo part > out; sleep 600", Outputs: []string{"out"}, Timeout: limit,
		})
		if want := "the command was killed after " + limit.String(); codes.Code(resp.Status.GetCode()) != codes.DeadlineExceeded || resp.Status.Message != want {
			t.Errorf("status %v, want DEADLINE_EXCEEDED: %s", resp.Status, want)
		}
		if b.text(t, resp.Result.StdoutDigest) == "early\n" && len(resp.Result.OutputFiles) == 1 {
			break
		}
		if limit > time.Minute {
			t.Errorf("what there was is not in the answer: %v", resp.Result)
			break
		}
	}
	resp := b.run(t, workertest.Spec{Script: "true", Timeout: 2 * time.Hour})
	if codes.Code(resp.Status.GetCode()) != codes.InvalidArgument {
		t.Errorf("more than is allowed: %v", resp.Status)
	}
}

// TestMissingBlobs: each is named, with the type and subject that clients look
// for.
func TestMissingBlobs(t *testing.T) {
	b := start(t, nil)
	spec := workertest.Spec{Script: "true", Inputs: map[string]string{"a/x": "lost 1", "b/y": "lost 2", "z": "there"}}
	spec.Store(t, b.storage)
	subjects := func(resp *rexec.ExecuteResponse) (list []string) {
		if codes.Code(resp.Status.GetCode()) != codes.FailedPrecondition {
			t.Errorf("status %v, want FAILED_PRECONDITION", resp.Status)
		}
		for _, d := range status.FromProto(resp.Status).Details() {
			for _, v := range d.(*errdetails.PreconditionFailure).Violations {
				if v.Type == "MISSING" {
					list = append(list, v.Subject)
				}
			}
		}
		slices.Sort(list)
		return list
	}
	var want []string
	digest, act := spec.Store(t, b.storage)
	for _, content := range []string{"lost 1", "lost 2"} {
		d := action.Sum(action.SHA256, []byte(content))
		b.storage.Remove(d)
		want = append(want, fmt.Sprintf("blobs/%s/%d", d.Hash(), d.Size()))
	}
	slices.Sort(want)
	task := &worker.Task{Digest: digest, Action: act}
	if got := subjects(b.Execute(t.Context(), task, id, func(worker.Stage) {})); !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
	spec.Store(t, b.storage)
	command, _ := remote.FromDigest(act.CommandDigest, action.SHA256)
	b = start(t, nil) // that has not fetched it
	digest, act = spec.Store(t, b.storage)
	b.storage.Remove(command)
	task = &worker.Task{Digest: digest, Action: act}
	if got := subjects(b.Execute(t.Context(), task, id, func(worker.Stage) {})); len(got) != 1 {
		t.Errorf("without its command: %q", got)
	}
}

func TestMalformedInput(t *testing.T) {
	b := start(t, nil)
	execute := func(act *rexec.Action) codes.Code {
		digest := b.storage.PutMessage(t, action.SHA256, act)
		resp := b.Execute(t.Context(), &worker.Task{Digest: digest, Action: act}, id, func(worker.Stage) {})
		if resp.Status.GetMessage() == "" {
			t.Error("no reason given")
		}
		return codes.Code(resp.Status.GetCode())
	}
	command := remote.ToDigest(b.storage.PutMessage(t, action.SHA256, &rexec.Command{Arguments: []string{"true"}}))
	empty := remote.ToDigest(action.Sum(action.SHA256, nil))
	garbage := remote.ToDigest(b.storage.Put(action.SHA256, []byte("\xff\xffgarbage")))
	up := remote.ToDigest(b.storage.PutMessage(t, action.SHA256, &rexec.Directory{Files: []*rexec.FileNode{{Name: "../evil", Digest: empty}}}))
	leaves := remote.ToDigest(b.storage.PutMessage(t, action.SHA256, &rexec.Command{Arguments: []string{"true"}, OutputPaths: []string{"../../etc/passwd"}}))
	var deep []string
	for i := range 600 {
		deep = append(deep, fmt.Sprint(i, "/", strings.Repeat("a/", 1900), "out"))
	}
	many := remote.ToDigest(b.storage.PutMessage(t, action.SHA256, &rexec.Command{Arguments: []string{"true"}, OutputPaths: deep}))
	for name, act := range map[string]*rexec.Action{
		"no command":           {InputRootDigest: empty},
		"no input root":        {CommandDigest: command},
		"a bad hash":           {CommandDigest: &rexec.Digest{Hash: "xyz", SizeBytes: 1}, InputRootDigest: empty},
		"a command of noise":   {CommandDigest: garbage, InputRootDigest: empty},
		"a tree of noise":      {CommandDigest: command, InputRootDigest: garbage},
		"a name with a slash":  {CommandDigest: command, InputRootDigest: up},
		"an output elsewhere":  {CommandDigest: leaves, InputRootDigest: empty},
		"many deep outputs":    {CommandDigest: many, InputRootDigest: empty},
		"a command of nothing": {CommandDigest: empty, InputRootDigest: empty},
	} {
		if got := execute(act); got != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, got)
		}
	}
	if got := execute(&rexec.Action{CommandDigest: command, InputRootDigest: garbage, DoNotCache: true}); got != codes.InvalidArgument {
		t.Errorf("%v", got)
	}
}

// TestCancelKills: with its children, before Execute returns.
func TestCancelKills(t *testing.T) {
	b := start(t, nil)
	marker := fmt.Sprint(1_000_000 + os.Getpid())
	digest, act := workertest.Spec{Script: "setsid sleep " + marker + " & sleep " + marker}.Store(t, b.storage)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *rexec.ExecuteResponse)
	go func() {
		done <- b.Execute(ctx, &worker.Task{Digest: digest, Action: act}, id, func(worker.Stage) {})
	}()
	alive := func() bool { return exec.Command("pgrep", "-f", "sleep "+marker).Run() == nil }
	workertest.Eventually(t, "control: the command is seen to run", alive)
	cancel()
	resp := <-done
	if alive() {
		t.Error("something of the command is alive")
	}
	if codes.Code(resp.Status.GetCode()) != codes.Canceled || b.storage.Result(digest) != nil {
		t.Errorf("%v, want that it is canceled and not cached", resp.Status)
	}
}

// TestInputsCannotBePoisoned: what an action does to its inputs, no other sees.
func TestInputsCannotBePoisoned(t *testing.T) {
	b := start(t, nil)
	inputs := map[string]string{"in": "good\n"}
	for i := range 70 { // large enough to be staged once and shared
		inputs[fmt.Sprintf("more/%d", i)] = strings.Repeat(fmt.Sprint(i), 100)
	}
	b.run(t, workertest.Spec{Script: "chmod u+w in more/*; echo POISON > in; for f in more/*; do echo POISON >> $f; done; rm -r more/1", Inputs: inputs})
	r := b.must(t, workertest.Spec{Script: "cat in; cat more/* | grep POISON; test -e more/1", Inputs: inputs})
	if got := b.text(t, r.StdoutDigest); got != "good\n" {
		t.Errorf("the next action reads %q", got)
	}
}

// TestInputCache: what was fetched for one action is not fetched for the next,
// nor looked at.
func TestInputCache(t *testing.T) {
	b := start(t, nil)
	inputs := map[string]string{}
	for i := range 300 {
		inputs[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint("content ", i)
	}
	b.must(t, workertest.Spec{Script: "echo 1", Inputs: inputs})
	first := b.storage.Counted()
	if n := first.Messages["BatchReadBlobs"]; n > 5 {
		t.Errorf("300 small inputs took %d calls to fetch", n)
	}
	b.must(t, workertest.Spec{Script: "echo 2", Inputs: inputs})
	inputs["d0/new"] = "new"
	b.must(t, workertest.Spec{Script: "cat d0/new", Inputs: inputs})
	for hash, n := range b.storage.Counted().Reads {
		if n > 1 {
			t.Errorf("%s was fetched %d times", hash, n)
		}
	}
}

// TestInputCacheIsBounded: old inputs go, an action whose own do not fit is
// refused so that another worker may take it, and what is needed is fetched
// again.
func TestInputCacheIsBounded(t *testing.T) {
	const bound = 6 << 20
	b := start(t, func(o *worker.Options) { o.CacheSize = bound })
	b.SetSpare(time.Millisecond)
	input := func(i int) map[string]string { return map[string]string{"in": strings.Repeat(fmt.Sprint(i%10), 1<<20)} }
	for i := range 10 {
		if i > 0 {
			time.Sleep(1500 * time.Millisecond) // times of use are in seconds
		}
		b.must(t, workertest.Spec{Script: fmt.Sprintf("wc -c < in; echo %d", i), Inputs: input(i)})
		u, err := b.store.Stat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := u.Total().Bytes; n > bound {
			t.Errorf("after %d actions the cache has %d bytes, more than %d", i+1, n, bound)
		}
	}
	b.must(t, workertest.Spec{Script: "wc -c < in; echo again", Inputs: input(0)})
	resp := b.run(t, workertest.Spec{Script: "true", Inputs: map[string]string{"in": strings.Repeat("large", 2<<20)}})
	if codes.Code(resp.Status.GetCode()) != codes.ResourceExhausted {
		t.Errorf("inputs that do not fit: %v, want RESOURCE_EXHAUSTED", resp.Status)
	}
}

// TestLookup: a worker that is told to looks for a result first.
func TestLookup(t *testing.T) {
	b := start(t, func(o *worker.Options) { o.UseCache = true })
	spec := workertest.Spec{Script: "echo once"}
	b.must(t, spec)
	if resp := b.run(t, spec); !resp.CachedResult {
		t.Error("the second time it was executed")
	}
	spec.Uncached = true
	if resp := b.run(t, spec); resp.CachedResult {
		t.Error("do_not_cache was found in the cache")
	}
}

// TestStorageGoesAway: the answer says that it may be tried again.
func TestStorageGoesAway(t *testing.T) {
	broken := false
	storage := &remotetest.Server{Fail: func(method string) error {
		if broken {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	}}
	client, err := remote.Dial(remote.Address{Host: remotetest.Serve(t, storage)}, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b := start(t, func(o *worker.Options) { o.Storage = client })
	b.storage = storage
	b.must(t, workertest.Spec{Script: "echo control"})
	digest, act := workertest.Spec{Script: "echo x"}.Store(t, storage)
	broken = true
	resp := b.Execute(t.Context(), &worker.Task{Digest: digest, Action: act}, id, func(worker.Stage) {})
	if codes.Code(resp.Status.GetCode()) != codes.Unavailable {
		t.Errorf("%v, want UNAVAILABLE", resp.Status)
	}
}

// TestReady: a store that cannot be written is no place for inputs.
func TestReady(t *testing.T) {
	b := start(t, nil)
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	b = start(t, func(o *worker.Options) { o.Backend = brokenBackend{o.Backend} })
	if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Errorf("%v, want that the backend does not work", err)
	}
}

type brokenBackend struct{ backends.Backend }

func (brokenBackend) Capabilities() backends.Capabilities {
	return backends.Capabilities{Reason: "injected"}
}
