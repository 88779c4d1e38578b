package reapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	logpb "github.com/bazelbuild/remote-apis/build/bazel/remote/logstream/v1"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
)

// alive says whether a process of this machine has word among its arguments.
func alive(t *testing.T, word string) bool {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && strings.Contains("\x00"+string(data), "\x00"+word+"\x00") {
			return true
		}
	}
	return false
}

// eventually waits until ok; the test's own time-out is the only one.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.Fatal("it never happened")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sleeper is an action with processes that can be told from any others.
func (s *server) sleeper() (d *repb.Digest, word string) {
	word = fmt.Sprintf("1%d", time.Now().UnixNano())
	return s.action(call{script: "setsid sleep " + word + " & sleep " + word, action: func(a *repb.Action) { a.Salt = []byte(word) }}), word
}

// begin executes an action until its processes are there.
func (s *server) begin(ctx context.Context, d *repb.Digest, word string) (name string, rest func() *run) {
	s.t.Helper()
	stream, err := s.exec.Execute(ctx, &repb.ExecuteRequest{ActionDigest: d})
	if err != nil {
		s.t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, func() bool { return alive(s.t, word) })
	return op.Name, func() *run { return follow(stream, nil) }
}

func (s *server) cancel(name string) {
	s.t.Helper()
	if _, err := s.ops.CancelOperation(s.t.Context(), &longrunningpb.CancelOperationRequest{Name: name}); err != nil {
		s.t.Fatal(err)
	}
}

func TestCancelKillsEveryProcess(t *testing.T) {
	s := start(t, nil)
	d, word := s.sleeper()
	name, rest := s.begin(t.Context(), d, word)
	s.cancel(name)
	if r := rest(); codes.Code(r.response.GetStatus().GetCode()) != codes.Canceled {
		t.Errorf("%v, %v", r.response, r.err)
	}
	if alive(t, word) { // not a moment later: when the client hears of it
		t.Error("a process of the action is alive after its operation was cancelled")
	}
	s.cancel(name) // once more does no harm
}

func TestCancelOneOfTwo(t *testing.T) {
	s := start(t, nil)
	d, word := s.sleeper()
	one, restOfOne := s.begin(t.Context(), d, word)
	two, restOfTwo := s.begin(t.Context(), d, word)
	if n := s.engine.Counts().Merged; n != 1 || one == two {
		t.Errorf("%d operations were merged; names %s and %s", n, one, two)
	}
	s.cancel(one)
	if r := restOfOne(); codes.Code(r.response.GetStatus().GetCode()) != codes.Canceled {
		t.Errorf("the one that was cancelled: %v, %v", r.response, r.err)
	}
	if !alive(t, word) {
		t.Error("the action was killed though another client waits for it")
	}
	s.cancel(two)
	restOfTwo()
	if alive(t, word) {
		t.Error("the action is alive after both operations were cancelled")
	}
}

func TestAbandonedActionIsKilled(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.Abandon = 50 * time.Millisecond })
	d, word := s.sleeper()
	ctx, cancel := context.WithCancel(t.Context())
	name, _ := s.begin(ctx, d, word)
	// As long as somebody waits, it runs.
	waiting, stopWaiting := context.WithCancel(t.Context())
	wait, err := s.exec.WaitExecution(waiting, &repb.WaitExecutionRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wait.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	time.Sleep(4 * 50 * time.Millisecond)
	if !alive(t, word) {
		t.Error("it was killed though a client waits for it")
	}
	stopWaiting()
	eventually(t, func() bool { return !alive(t, word) })
	r := follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: name}))
	// Rule 8: CANCELLED is for those that CancelOperation was called for.
	if codes.Code(r.response.GetStatus().GetCode()) != codes.Unavailable {
		t.Errorf("its operation: %v, %v", r.response, r.err)
	}
}

func TestOperationsSurviveRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := startIn(t, dir, nil)
	done := s.execute(s.action(call{script: "echo finished"}))
	failed := s.execute(s.action(call{script: "exit 3"}))
	cancelled, word := s.sleeper()
	name, rest := s.begin(t.Context(), cancelled, word)
	s.cancel(name)
	rest()
	// This one is not over when the server stops.
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.exec.Execute(ctx, &repb.ExecuteRequest{ActionDigest: s.action(call{script: "sleep 0.5; echo again"})})
	if err != nil {
		t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	cancel()
	// The end of the journal is damaged, as by a power cut.
	j, err := os.OpenFile(filepath.Join(dir, "serve", "operations"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Write([]byte("b\x05\x00\x00")); err != nil {
		t.Fatal(err)
	}
	j.Close()

	s = startIn(t, dir, nil)
	for _, old := range []*run{done, failed} {
		r := follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: old.name()}))
		if r.err != nil || !proto.Equal(r.response, old.response) {
			t.Errorf("an operation that was done: %v, %v, want %v", r.response, r.err, old.response)
		}
	}
	r := follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: op.Name}))
	if r.err != nil || r.response == nil || string(r.response.Result.GetStdoutRaw()) != "again\n" {
		t.Errorf("an operation that was not done: %v, %v", r.response, r.err)
	}
	r = follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: name}))
	if codes.Code(r.response.GetStatus().GetCode()) != codes.Canceled {
		t.Errorf("one that was cancelled: %v, %v", r.response, r.err)
	}
}

func TestOperations(t *testing.T) {
	s := start(t, nil)
	one := s.execute(s.action(call{script: ": one"}))
	other := s.execute(s.action(call{script: ": other"}), func(r *repb.ExecuteRequest) { r.InstanceName = "some/where" })
	d, word := s.sleeper()
	running, rest := s.begin(t.Context(), d, word)
	list := func(name, filter string) (names []string) {
		t.Helper()
		token := ""
		for {
			res, err := s.ops.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{Name: name, Filter: filter, PageSize: 1, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range res.Operations {
				names = append(names, op.Name)
			}
			if token = res.NextPageToken; token == "" {
				return names
			}
		}
	}
	for _, c := range []struct {
		name, filter string
		want         []string
	}{
		{"operations", "", []string{one.name(), running}},
		{"", "done=true", []string{one.name()}},
		{"", "done=false", []string{running}},
		{"some/where", "", []string{other.name()}},
		{"some/where/operations", "", []string{other.name()}},
		{"elsewhere", "", nil},
	} {
		got := list(c.name, c.filter)
		if len(got) != len(c.want) || len(got) > 0 && !strings.Contains(strings.Join(got, " "), c.want[0]) {
			t.Errorf("list of %q, %q: %q, want %q", c.name, c.filter, got, c.want)
		}
	}
	got, err := s.ops.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: one.name()})
	if err != nil || !proto.Equal(got, one.ops[len(one.ops)-1]) {
		t.Errorf("GetOperation: %v, %v", got, err)
	}
	got, err = s.ops.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: running, Timeout: durationpb.New(time.Millisecond)})
	if err != nil || got.Done {
		t.Errorf("WaitOperation of one that runs: %v, %v", got, err)
	}
	_, err = s.ops.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: running})
	wantCode(t, "DeleteOperation of one that runs", err, codes.FailedPrecondition)
	s.cancel(running)
	rest()
	got, err = s.ops.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: running})
	if err != nil || !got.Done {
		t.Errorf("WaitOperation of one that was cancelled: %v, %v", got, err)
	}
	if _, err := s.ops.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: one.name()}); err != nil {
		t.Error(err)
	}
	_, err = s.ops.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: one.name()})
	wantCode(t, "GetOperation of one that was deleted", err, codes.NotFound)
}

func TestPriority(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.Jobs = 1 })
	release := s.hold(t)
	order := make(chan int32, 3)
	for i, p := range []int32{5, 0, -5} {
		d := s.action(call{script: ": priority", action: func(a *repb.Action) { a.Salt = []byte{byte(i), byte(p)} }})
		stream, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: d, ExecutionPolicy: &repb.ExecutionPolicy{Priority: p}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		go func() {
			follow(stream, nil)
			order <- p
		}()
	}
	var ended []*repb.ExecuteResponse
	release()
	for range 3 {
		<-order
	}
	res, err := s.ops.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{Filter: "done=true"})
	if err != nil {
		t.Fatal(err)
	}
	starts := map[int32]time.Time{}
	for _, op := range res.Operations {
		m := new(repb.ExecuteResponse)
		if err := op.GetResponse().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		if m.Result != nil {
			ended = append(ended, m)
			meta := new(repb.ExecuteOperationMetadata)
			if err := op.Metadata.UnmarshalTo(meta); err != nil {
				t.Fatal(err)
			}
			a := new(repb.Action)
			if err := proto.Unmarshal([]byte(s.read(action.SHA256, meta.ActionDigest)), a); err != nil {
				t.Fatal(err)
			}
			starts[int32(int8(a.Salt[1]))] = m.Result.ExecutionMetadata.WorkerStartTimestamp.AsTime()
		}
	}
	if len(ended) != 3 || !starts[-5].Before(starts[0]) || !starts[0].Before(starts[5]) {
		t.Errorf("%d ended; they started at %v: want the smallest priority first", len(ended), starts)
	}
}

func TestFollowOutput(t *testing.T) {
	s := start(t, nil)
	word := fmt.Sprintf("1%d", time.Now().UnixNano())
	d := s.action(call{script: "echo first; echo oops >&2; sleep " + word})
	name, rest := s.begin(t.Context(), d, word)
	op, err := s.ops.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	meta := new(repb.ExecuteOperationMetadata)
	if err := op.Metadata.UnmarshalTo(meta); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]string{meta.StdoutStreamName: "first\n", meta.StderrStreamName: "oops\n"} {
		got, err := s.readAll(&bytestream.ReadRequest{ResourceName: stream, ReadLimit: int64(len(want))})
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", stream, got, err)
		}
	}
	all := make(chan []byte, 1)
	go func() {
		data, _ := s.readAll(&bytestream.ReadRequest{ResourceName: meta.StdoutStreamName, ReadOffset: 2})
		all <- data
	}()
	s.cancel(name)
	rest()
	if got := <-all; string(got) != "rst\n" {
		t.Errorf("to the end, from offset 2: %q", got)
	}
	_, err = s.readAll(&bytestream.ReadRequest{ResourceName: "logstreams/none/stdout"})
	wantCode(t, "a stream that is not there", err, codes.NotFound)
}

func TestLogStream(t *testing.T) {
	s := start(t, nil)
	l, err := s.logs.CreateLogStream(t.Context(), &logpb.CreateLogStreamRequest{Parent: "main"})
	if err != nil || !strings.HasPrefix(l.Name, "main/logstreams/") || l.Name == l.WriteResourceName {
		t.Fatalf("%v, %v", l, err)
	}
	reader, err := s.bs.Read(t.Context(), &bytestream.ReadRequest{ResourceName: l.Name})
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789"), 20_000)
	if res, err := s.write(l.WriteResourceName, 0, false, []byte("one "), big); err != nil || res.CommittedSize != int64(len(big)+4) {
		t.Fatalf("%v, %v", res, err)
	}
	st, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: l.WriteResourceName})
	if err != nil || st.CommittedSize != int64(len(big)+4) || st.Complete {
		t.Errorf("%v, %v", st, err)
	}
	var got []byte
	for len(got) < len(big)+4 { // before it ends
		res, err := reader.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.Data...)
	}
	_, err = s.write(l.WriteResourceName, 1, false, []byte("x"))
	wantCode(t, "a write at another offset", err, codes.OutOfRange)
	_, err = s.write(l.Name, int64(len(big)+4), false, []byte("x"))
	wantCode(t, "a write by the name for readers", err, codes.NotFound)
	if _, err := s.write(l.WriteResourceName, int64(len(big)+4), true, []byte(" end")); err != nil {
		t.Fatal(err)
	}
	for {
		res, err := reader.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.Data...)
	}
	if string(got) != "one "+string(big)+" end" {
		t.Errorf("%d bytes were read", len(got))
	}
}

// TestLogStreamWithoutSpace: of a stream that cannot be kept any more, what was kept
// is read, nothing is made up, and who writes it is told.
func TestLogStreamWithoutSpace(t *testing.T) {
	s := start(t, nil)
	const most = 64 << 10 // stays in memory
	for _, dir := range []string{t.TempDir(), "/nowhere"} {
		t.Setenv("TMPDIR", dir)
		l, err := s.logs.CreateLogStream(t.Context(), &logpb.CreateLogStreamRequest{})
		if err != nil {
			t.Fatal(err)
		}
		first, second := bytes.Repeat([]byte("x"), most/2), random(most)
		_, err = s.write(l.WriteResourceName, 0, false, first, second)
		want, code := append(first, second...), codes.OK
		if dir == "/nowhere" {
			want, code = first, codes.ResourceExhausted
		}
		wantCode(t, "a write with TMPDIR="+dir, err, code)
		got, err := s.readAll(&bytestream.ReadRequest{ResourceName: l.Name, ReadLimit: int64(len(want))})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("TMPDIR=%s: %d bytes, %v; want the %d that were kept", dir, len(got), err, len(want))
		}
		st, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: l.WriteResourceName})
		if err != nil || st.CommittedSize != int64(len(want)) {
			t.Errorf("TMPDIR=%s: %v, %v; want a size of %d", dir, st, err, len(want))
		}
	}
}
