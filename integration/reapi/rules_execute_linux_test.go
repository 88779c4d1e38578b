package reapi_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
)

func TestRule08Execute(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.MaxTimeout = func(string) time.Duration { return time.Hour } })
	t.Run("Stages", func(t *testing.T) {
		s := s.with(t)
		r := s.execute(s.action(call{script: "echo made > out; echo said; echo wrong >&2", command: outputs("out")}))
		if r.err != nil || r.response == nil {
			t.Fatal(r.err)
		}
		for i, op := range r.ops {
			if op.GetError() != nil {
				t.Errorf("Operation.error is set: %v", op.GetError())
			}
			last := i == len(r.ops)-1
			if op.Done != last || (r.stages(t)[i] == repb.ExecutionStage_COMPLETED) != last {
				t.Errorf("operation %d of %d: done %v, stage %v", i, len(r.ops), op.Done, r.stages(t)[i])
			}
		}
		res := r.response.Result
		if string(res.StdoutRaw) != "said\n" || string(res.StderrRaw) != "wrong\n" || res.ExitCode != 0 {
			t.Errorf("result: %v", res)
		}
		if f := output(res, "out"); f == nil || s.read(action.SHA256, f.Digest) != "made\n" {
			t.Errorf("output: %v", f)
		}
		if again := s.succeed(s.action(call{script: "echo made > out; echo said; echo wrong >&2", command: outputs("out")})); !again.CachedResult {
			t.Error("the second time is no hit")
		}
	})
	t.Run("Times", func(t *testing.T) {
		s := s.with(t)
		m := s.succeed(s.action(call{script: ": times"})).Result.ExecutionMetadata
		times := []interface{ AsTime() time.Time }{
			m.QueuedTimestamp, m.WorkerStartTimestamp, m.InputFetchStartTimestamp, m.InputFetchCompletedTimestamp, m.ExecutionStartTimestamp,
			m.ExecutionCompletedTimestamp, m.OutputUploadStartTimestamp, m.OutputUploadCompletedTimestamp, m.WorkerCompletedTimestamp,
		}
		for i, at := range times {
			if at.AsTime().Year() < 2020 || i > 0 && at.AsTime().Before(times[i-1].AsTime()) {
				t.Errorf("time %d of %v", i, m)
			}
		}
		if m.Worker == "" || m.VirtualExecutionDuration == nil {
			t.Errorf("metadata: %v", m)
		}
		used := new(runnerpb.POSIXResourceUsage)
		if len(m.AuxiliaryMetadata) != 1 || m.AuxiliaryMetadata[0].UnmarshalTo(used) != nil || used.MaximumResidentSetSize == 0 {
			t.Errorf("auxiliary_metadata: %v", m.AuxiliaryMetadata)
		}
	})
	t.Run("Missing", func(t *testing.T) {
		s := s.with(t)
		node := func(name string) *repb.FileNode {
			return &repb.FileNode{Name: name, Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing "+name)))}
		}
		r := s.execute(s.action(call{script: "true", root: &repb.Directory{
			Directories: []*repb.DirectoryNode{{Name: "d", Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing d")))}},
			Files:       []*repb.FileNode{node("f"), node("g")},
		}}))
		if r.err != nil || r.response == nil {
			t.Fatal(r.err)
		}
		wantMissing(t, status.FromProto(r.response.Status), "missing d", "missing f", "missing g")
		r = s.execute(reapi.ToDigest(action.Sum(action.SHA256, []byte("missing action"))))
		wantMissing(t, status.Convert(r.err), "missing action")
		a := s.putMessage(action.SHA256, &repb.Action{
			CommandDigest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing command"))), InputRootDigest: s.put(action.SHA256, nil),
		})
		r = s.execute(a)
		wantMissing(t, status.Convert(r.err), "missing command")
	})
	t.Run("Timeout", func(t *testing.T) {
		s := s.with(t)
		d := s.action(call{script: "echo begun; echo part > out; sleep 1000 & sleep 1000", command: outputs("out"), action: timeout(300 * time.Millisecond)})
		r := s.execute(d)
		if r.err != nil || r.response == nil || codes.Code(r.response.Status.GetCode()) != codes.DeadlineExceeded {
			t.Fatalf("%v, %v", r.response, r.err)
		}
		if string(r.response.Result.StdoutRaw) != "begun\n" || output(r.response.Result, "out") == nil {
			t.Errorf("what was there is not attached: %v", r.response.Result)
		}
		_, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
		wantCode(t, "the result of a time-out", err, codes.NotFound)
		r = s.execute(s.action(call{script: "true", action: timeout(2 * time.Hour)}))
		wantCode(t, "more time than the server allows", r.err, codes.InvalidArgument)
		r = s.execute(s.action(call{script: "true", action: timeout(-time.Second)}))
		wantCode(t, "a negative time", r.err, codes.InvalidArgument)
	})
	t.Run("TimeoutOfTheServer", func(t *testing.T) {
		const usual = 300 * time.Millisecond
		s := start(t, func(o *execution.Options) {
			o.DefaultTimeout = usual
			o.MaxTimeout = func(instance string) time.Duration {
				if instance == "short" {
					return usual / 10
				}
				return time.Hour
			}
		})
		for instance, want := range map[string]time.Duration{"": usual, "short": usual / 10} {
			for _, change := range []func(*repb.Action){nil, timeout(0)} {
				r := s.execute(s.action(call{script: "sleep 1000", action: change}), func(r *repb.ExecuteRequest) { r.InstanceName = instance })
				st := r.response.GetStatus()
				if codes.Code(st.GetCode()) != codes.DeadlineExceeded || !strings.Contains(st.GetMessage(), want.String()) {
					t.Errorf("instance %q, an action without a time-out: %v, %v; want it to end after %v", instance, r.response, r.err, want)
				}
			}
		}
		// Waiting for a slot is none of an action's time.
		s = start(t, func(o *execution.Options) { o.Jobs = 1 })
		gate := s.hold(t)
		waiting, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: "sleep 1000", action: timeout(usual)})})
		if err != nil {
			t.Fatal(err)
		}
		op, err := waiting.Recv()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * usual)
		if op, err = s.ops.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: op.Name}); err != nil || op.Done {
			t.Errorf("while it waits: %v, %v", op, err)
		}
		gate()
		m := follow(waiting, nil).response
		ran := m.GetResult().GetExecutionMetadata()
		if codes.Code(m.GetStatus().GetCode()) != codes.DeadlineExceeded || ran.ExecutionCompletedTimestamp.AsTime().Sub(ran.ExecutionStartTimestamp.AsTime()) < usual {
			t.Errorf("after it had waited: %v", m)
		}
	})
	t.Run("Failed", func(t *testing.T) {
		s := s.with(t)
		d := s.action(call{script: "echo part > out; exit 7", command: outputs("out")})
		for range 2 {
			res := s.succeed(d)
			if res.Result.ExitCode != 7 || res.CachedResult || output(res.Result, "out") == nil {
				t.Errorf("%v", res)
			}
		}
		if res := s.succeed(s.action(call{script: "kill -9 $$"})); res.Result.ExitCode != 128+9 {
			t.Errorf("killed by signal 9: exit code %d", res.Result.ExitCode)
		}
		if res := s.succeed(s.action(call{args: []string{"no-such-program"}})); res.Result.ExitCode != 127 || !strings.Contains(res.Message, "could not be started") {
			t.Errorf("a program that is not there: %v", res)
		}
	})
	t.Run("Memory", func(t *testing.T) {
		var can backends.Capabilities
		s := start(t, func(o *execution.Options) { o.Limits.Memory, can = 32<<20, o.Backend.Capabilities() })
		d := s.action(call{script: "echo begun; head -c 300000000 /dev/zero | tail -n 1 | wc -c"})
		if res := s.succeed(s.action(call{script: "head -c 1000000 /dev/zero | tail -n 1 | wc -c"})); string(res.Result.StdoutRaw) != "1000000\n" {
			t.Errorf("control: %v", res)
		}
		r := s.execute(d)
		if r.err != nil || r.response == nil {
			t.Fatal(r.err)
		}
		switch code := codes.Code(r.response.Status.GetCode()); {
		case can.MemoryLimit == backends.Exact: // the group as a whole
			if code != codes.ResourceExhausted || !strings.Contains(r.response.Status.Message, "memory") || !strings.HasPrefix(string(r.response.Result.GetStdoutRaw()), "begun\n") {
				t.Errorf("%v", r.response)
			}
			details := status.FromProto(r.response.Status).Details()
			if !slices.ContainsFunc(details, func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok }) {
				t.Errorf("it does not say when to try again: %v", details)
			}
		case code != codes.OK || string(r.response.Result.StdoutRaw) == "begun\n300000000\n": // each process by itself
			t.Errorf("it had 300 MB: %v", r.response)
		}
		_, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
		if can.MemoryLimit == backends.Exact {
			wantCode(t, "the result of an action without enough memory", err, codes.NotFound)
		}
	})
	t.Run("MalformedInputs", func(t *testing.T) {
		s := s.with(t)
		file := s.put(action.SHA256, []byte("x"))
		for name, root := range map[string]*repb.Directory{
			"a slash":     {Files: []*repb.FileNode{{Name: "a/b", Digest: file}}},
			"a long name": {Files: []*repb.FileNode{{Name: strings.Repeat("n", 256), Digest: file}}},
			"dot dot":     {Files: []*repb.FileNode{{Name: "..", Digest: file}}},
			"unsorted":    {Files: []*repb.FileNode{{Name: "b", Digest: file}, {Name: "a", Digest: file}}},
			"twice":       {Files: []*repb.FileNode{{Name: "a", Digest: file}}, Symlinks: []*repb.SymlinkNode{{Name: "a", Target: "b"}}},
			"no digest":   {Files: []*repb.FileNode{{Name: "a"}}},
		} {
			r := s.execute(s.action(call{script: "true", root: root}))
			if codes.Code(r.response.GetStatus().GetCode()) != codes.InvalidArgument {
				t.Errorf("%s: %v, %v", name, r.response, r.err)
			}
		}
		// A directory that is in itself cannot be made, but a file can lie about it.
		r := s.execute(s.action(call{script: "true", root: &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "d", Digest: file}}}}))
		if codes.Code(r.response.GetStatus().GetCode()) != codes.InvalidArgument {
			t.Errorf("a file as a directory: %v, %v", r.response, r.err)
		}
		for dir, want := range map[string]codes.Code{"file": codes.InvalidArgument, "file/below": codes.InvalidArgument, "dangling": codes.InvalidArgument, "loop": codes.InvalidArgument, "away": codes.OK} {
			r := s.execute(s.action(call{
				script:  "true",
				root:    &repb.Directory{Files: []*repb.FileNode{{Name: "file", Digest: file}}, Symlinks: []*repb.SymlinkNode{{Name: "away", Target: "/usr"}, {Name: "dangling", Target: "nowhere"}, {Name: "loop", Target: "loop"}}},
				command: func(c *repb.Command) { c.WorkingDirectory = dir },
			}))
			if got := codes.Code(r.response.GetStatus().GetCode()); r.err != nil || got != want {
				t.Errorf("%s as the working directory: %v, %v, want %v", dir, r.response, r.err, want)
			}
		}
	})
	t.Run("Queue", func(t *testing.T) {
		s := start(t, func(o *execution.Options) { o.Jobs, o.MaxQueue, o.MaxQueued = 1, 2, 1<<20 })
		gate := s.hold(t)
		waiting, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: ": waits"})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Recv(); err != nil {
			t.Fatal(err)
		}
		large := s.execute(s.action(call{script: ": " + strings.Repeat("x", 1<<20)}))
		wantCode(t, "an action too large", large.err, codes.ResourceExhausted)
		second, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: ": waits, too"})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Recv(); err != nil {
			t.Fatal(err)
		}
		r := s.execute(s.action(call{script: ": too many"}))
		wantCode(t, "an action too many", r.err, codes.ResourceExhausted)
		if !slices.ContainsFunc(status.Convert(r.err).Details(), func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok }) {
			t.Error("it does not say when to try again")
		}
		gate()
		if r := follow(waiting, nil); r.response == nil {
			t.Errorf("the one that waited: %v", r.err)
		}
	})
}

func TestRule09DoNotCache(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.Jobs = 1 })
	never := s.action(call{script: "cat /proc/sys/kernel/random/uuid", action: func(a *repb.Action) { a.DoNotCache = true }})
	one, two := s.succeed(never), s.succeed(never)
	if one.CachedResult || two.CachedResult || bytes.Equal(one.Result.StdoutRaw, two.Result.StdoutRaw) {
		t.Errorf("do_not_cache: %v, %v", one, two)
	}
	_, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: never})
	wantCode(t, "the result of do_not_cache", err, codes.NotFound)

	// In flight: equal actions are one, but not with do_not_cache.
	for _, c := range []struct {
		name       string
		doNotCache bool
		skip       bool
		runs       int
	}{{"Merged", false, false, 1}, {"MergedSkipLookup", false, true, 1}, {"Apart", true, false, 3}} {
		t.Run(c.name, func(t *testing.T) {
			s := s.with(t)
			d := s.action(call{script: "cat /proc/sys/kernel/random/uuid", action: func(a *repb.Action) {
				a.DoNotCache, a.Salt = c.doNotCache, []byte(c.name)
			}})
			gate := s.hold(t)
			var all []grpc.ServerStreamingClient[longrunningpb.Operation]
			for range 3 {
				all = append(all, s.queued(d, c.skip))
			}
			gate()
			seen := map[string]bool{}
			for _, stream := range all {
				r := follow(stream, nil)
				if r.err != nil || r.response.GetResult() == nil {
					t.Fatalf("%v, %v", r.response, r.err)
				}
				seen[string(r.response.Result.StdoutRaw)] = true
			}
			if len(seen) != c.runs {
				t.Errorf("it ran %d times, want %d", len(seen), c.runs)
			}
		})
	}
	t.Run("SkipLookupAmongOthers", func(t *testing.T) {
		// Two actions that are the same to us, but not to clients: of the second one,
		// it shows only when it runs that there is a result.
		s := s.with(t)
		twin := func(names ...string) *repb.Digest {
			return s.action(call{script: "cat /proc/sys/kernel/random/uuid", command: func(c *repb.Command) {
				for _, n := range names {
					c.EnvironmentVariables = append(c.EnvironmentVariables, &repb.Command_EnvironmentVariable{Name: n})
				}
			}})
		}
		old := s.succeed(twin("A", "B")).Result
		d := twin("B", "A")
		gate := s.hold(t)
		any, skip := s.queued(d, false), s.queued(d, true)
		gate()
		for _, stream := range []grpc.ServerStreamingClient[longrunningpb.Operation]{any, skip} {
			if res := follow(stream, nil).response; res.GetResult() == nil || res.CachedResult || bytes.Equal(res.Result.StdoutRaw, old.StdoutRaw) {
				t.Errorf("the result of before for who did not want it: %v", res)
			}
		}
		if res := s.succeed(twin("A", "B")); !res.CachedResult || bytes.Equal(res.Result.StdoutRaw, old.StdoutRaw) {
			t.Errorf("the new result did not replace the old one: %v", res)
		}
	})
	// skip_cache_lookup runs it again and replaces the result.
	d := s.action(call{script: "cat /proc/sys/kernel/random/uuid"})
	first := s.succeed(d)
	second := s.succeed(d, func(r *repb.ExecuteRequest) { r.SkipCacheLookup = true })
	third := s.succeed(d)
	if second.CachedResult || bytes.Equal(first.Result.StdoutRaw, second.Result.StdoutRaw) {
		t.Errorf("skip_cache_lookup: %v", second)
	}
	if !third.CachedResult || !bytes.Equal(third.Result.StdoutRaw, second.Result.StdoutRaw) {
		t.Errorf("after skip_cache_lookup: %v, want %v", third, second)
	}
}

func TestRule10WaitExecution(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.KeepAlive = 20 * time.Millisecond })
	r := follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: "operations/none"}))
	wantCode(t, "an operation that is not known", r.err, codes.NotFound)

	done := s.execute(s.action(call{script: ": done"}))
	r = follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: done.name()}))
	if r.err != nil || len(r.ops) != 1 || !proto.Equal(r.response, done.response) {
		t.Errorf("of one that is done: %v, %v", r.ops, r.err)
	}

	// The first message comes at once; then come updates though nothing changes.
	stream, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: "sleep 1000", action: func(a *repb.Action) { a.DoNotCache = true }})})
	if err != nil {
		t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wait, err := s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: op.Name})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := wait.Recv(); err != nil || again.Name != op.Name || again.Done {
			t.Fatalf("%v, %v", again, err)
		}
	}
	if _, err := s.ops.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: op.Name}); err != nil {
		t.Fatal(err)
	}
	if r := follow(wait, nil); codes.Code(r.response.GetStatus().GetCode()) != codes.Canceled {
		t.Errorf("after the operation was cancelled: %v, %v", r.response, r.err)
	}
}
