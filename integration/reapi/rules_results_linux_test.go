package reapi_test

import (
	"errors"
	"os"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

func TestRule14Inline(t *testing.T) {
	s := start(t, nil)
	d := s.action(call{
		script:  "head -c 100000 /dev/zero; head -c 6000000 /dev/zero >&2; echo small > small; head -c 6000000 /dev/zero > large",
		command: outputs("large", "small"),
	})
	want := func(what string, res *repb.ActionResult, stdout, small bool) {
		t.Helper()
		if got := len(res.StdoutRaw) == 100_000; got != stdout {
			t.Errorf("%s: stdout_raw has %d bytes", what, len(res.StdoutRaw))
		}
		if got := string(output(res, "small").Contents) == "small\n"; got != small {
			t.Errorf("%s: small is %q", what, output(res, "small").Contents)
		}
		if len(res.StderrRaw) > 0 || len(output(res, "large").Contents) > 0 || proto.Size(res) > 4<<20 {
			t.Errorf("%s: what does not fit is inside", what)
		}
		if res.StdoutDigest == nil || res.StderrDigest.GetSizeBytes() != 6_000_000 {
			t.Errorf("%s: the digests are not there", what)
		}
	}
	all := func(r *repb.ExecuteRequest) {
		r.InlineStdout, r.InlineStderr, r.InlineOutputFiles = true, true, []string{"large", "small"}
	}
	want("Execute", s.succeed(d, all).Result, true, true)
	want("Execute, cached", s.succeed(d, all).Result, true, true)
	want("Execute without hints", s.succeed(d).Result, false, false)
	res, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InlineStdout: true, InlineStderr: true, InlineOutputFiles: []string{"small", "large"}})
	if err != nil {
		t.Fatal(err)
	}
	want("GetActionResult", res, true, true)
}

func TestRule15UpdateActionResult(t *testing.T) {
	s := start(t, nil)
	d := reapi.ToDigest(action.Sum(action.SHA256, []byte("some action")))
	file := reapi.ToDigest(action.Sum(action.SHA256, []byte("output")))
	m := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "b", Digest: file}, {Path: "a", Digest: file}}, ExitCode: 3, StdoutRaw: []byte("hello")}
	_, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m})
	wantCode(t, "a result that names a blob that is not there", err, codes.FailedPrecondition)
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	wantCode(t, "that result", err, codes.NotFound)
	s.put(action.SHA256, []byte("output"))
	if _, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m}); err != nil {
		t.Fatal(err)
	}
	got, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	if err != nil || len(got.OutputFiles) != 2 || got.ExitCode != 3 || string(got.StdoutRaw) != "hello" {
		t.Errorf("%v, %v", got, err)
	}
	// Another instance does not see it.
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InstanceName: "other"})
	wantCode(t, "in another instance", err, codes.NotFound)
	// Complete hits only.
	s.lose(t, action.Sum(action.SHA256, []byte("output")))
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	wantCode(t, "after its output is gone", err, codes.NotFound)
	_, err = s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d})
	wantCode(t, "no result", err, codes.InvalidArgument)

	// What is inside is what the digest beside it says, and is given to who asks.
	file = s.put(action.SHA256, []byte("output"))
	for _, c := range []struct {
		inside string
		want   codes.Code
	}{{"output", codes.OK}, {"other!", codes.InvalidArgument}} {
		for what, m := range map[string]*repb.ActionResult{
			"a file":          {OutputFiles: []*repb.OutputFile{{Path: "a", Digest: file, Contents: []byte(c.inside)}}},
			"standard output": {StdoutDigest: file, StdoutRaw: []byte(c.inside)},
			"standard error":  {StderrDigest: file, StderrRaw: []byte(c.inside)},
		} {
			_, err = s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m})
			wantCode(t, what+" that says "+c.inside, err, c.want)
		}
	}
	m = &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "a", Digest: file, Contents: []byte("output")}}, StdoutRaw: make([]byte, 5<<20)}
	if _, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m}); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []string{"a", "b"} {
		got, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InlineOutputFiles: []string{ask}})
		if err != nil || (len(got.OutputFiles[0].Contents) > 0) != (ask == "a") || got.StdoutDigest.GetSizeBytes() != 5<<20 {
			t.Errorf("inline %s: %v, %v", ask, got, err)
		}
	}
}

// TestHostIsInTheKey changes a file of the host that an action has read: its
// result is not found any more, though its digest is the same. Only root can
// put a file where actions see it.
func TestHostIsInTheKey(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("an ordinary user cannot change what actions see of the host")
		return
	}
	// Not where compilers look that other packages' tests run meanwhile.
	dir, err := os.MkdirTemp("/usr/src", "sbx-reapi-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	change := func(text string, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age) // what is younger than the run may have changed during it
		if err := errors.Join(file.Truncate(0), file.Chmod(0o644), os.WriteFile(file.Name(), []byte(text), 0o644), os.Chtimes(file.Name(), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	change("first", time.Hour)
	time.Sleep(50 * time.Millisecond) // its change must not seem to be of the time of the run
	s := start(t, nil)
	d := s.action(call{script: "cat " + file.Name()})
	if res := s.succeed(d); string(res.Result.StdoutRaw) != "first" || res.Message != "" {
		t.Fatalf("%v", res)
	}
	get := func() (*repb.ActionResult, error) {
		return s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	}
	if res, err := get(); err != nil || string(res.StdoutRaw) != "first" {
		t.Fatalf("control: %v, %v", res, err)
	}
	change("other", 2*time.Hour)
	_, err = get()
	wantCode(t, "after the file has changed", err, codes.NotFound)
	if res := s.succeed(d); res.CachedResult || string(res.Result.StdoutRaw) != "other" {
		t.Errorf("%v", res)
	}
	change("first", time.Hour)
	if res, err := get(); err != nil || string(res.StdoutRaw) != "first" {
		t.Errorf("after the file is as it was: %v, %v", res, err)
	}
}
