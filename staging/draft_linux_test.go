package staging

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// stuckBlobs says that it has come to the blob stuck, and does not go on.
type stuckBlobs struct {
	*testStore
	stuck action.Digest
}

func (s stuckBlobs) Open(ctx context.Context, d action.Digest) (*os.File, error) {
	if d == s.stuck {
		fmt.Println("stuck")
		os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // until our caller is gone
		return nil, os.ErrClosed
	}
	return s.testStore.Open(ctx, d)
}

// draftResult has outputs of each kind, and more files than may wait without a name.
func draftResult(t *testing.T, store *testStore) (*action.Result, action.Digest) {
	files, paths := spec{"d/a": "content", "d/sub/b": "more", "link": "-> d/a"}, []string{"d", "link"}
	for i := range maxUnnamed + 1 {
		name := fmt.Sprintf("f%d", i)
		files[name] = name
		paths = append(paths, name)
	}
	files["last"] = "the last one"
	res := result(t, store, files, append(paths, "last")...)
	i := slices.IndexFunc(res.Files, func(f action.OutputFile) bool { return f.Path == "last" })
	if i < 0 {
		t.Fatal("the last file is not among the outputs")
	}
	// It comes last, and is read from the store.
	f := res.Files[i]
	f.Contents = nil
	res.Files = append(slices.Delete(res.Files, i, i+1), f)
	return res, f.Digest
}

// TestDeliverStuck is what TestKilledDeliveryIsRemoved kills.
func TestDeliverStuck(t *testing.T) {
	root := os.Getenv("SBX_TEST_STUCK")
	if root == "" {
		return
	}
	store := newTestStore(t)
	res, stuck := draftResult(t, store)
	err := Deliver(t.Context(), stuckBlobs{store, stuck}, res, Workspace{Root: root})
	t.Errorf("went on: %v", err)
}

// startStuck starts a delivery into root that stops when it has drafts there.
func startStuck(t *testing.T, root string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDeliverStuck$")
	cmd.Env = append(os.Environ(), "SBX_TEST_STUCK="+root, "TMPDIR="+t.TempDir()) // which it cannot remove when it is killed
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "stuck\n" {
		t.Fatalf("a delivery said %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // killed
}

// drafts lists what of root looks like a draft.
func drafts(t *testing.T, root string) []string {
	t.Helper()
	list, err := filepath.Glob(root + "/.sbx-*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestKilledDeliveryIsRemoved(t *testing.T) {
	store := newTestStore(t)
	small := result(t, store, spec{"other/x": "x"}, "other")
	// What others call their files. One has a draft's name, and another kernel's.
	theirs := spec{}
	other := "012345"
	if bootID() == other {
		other = "012346"
	}
	for _, name := range []string{
		".sbx-notes", ".sbx-", ".sbx-cc", draftName(other, 5), draftName(noKernel, 6), draftName(bootID(), 0xabc) + "0",
		".sbx-" + bootID() + "0000ABCDEF", ".sbx-" + bootID() + "+000000001", ".sbx-" + bootID() + "000000000A", ".sbx-" + bootID() + "12345",
	} {
		theirs[name] = "keep"
	}
	root := fakeRoot(t, theirs)
	for range 5 {
		first, second := startStuck(t, root), startStuck(t, root)
		both := drafts(t, root)
		// The directory and all files; links come after.
		if got, want := len(both)-len(theirs), 2*(maxUnnamed+3); got != want {
			t.Fatalf("two deliveries have %d drafts, want %d", got, want)
		}
		// Both live: nothing of theirs is touched.
		if err := Deliver(t.Context(), store, small, Workspace{Root: root}); err != nil {
			t.Fatal(err)
		}
		if got := drafts(t, root); !slices.Equal(got, both) {
			t.Fatalf("beside two deliveries %d of %d drafts are left", len(got), len(both))
		}
		kill(t, first)
		if got := drafts(t, root); !slices.Equal(got, both) {
			t.Fatalf("a killed delivery has left %d of %d drafts", len(got), len(both))
		}
		if err := Deliver(t.Context(), store, small, Workspace{Root: root}); err != nil {
			t.Fatal(err)
		}
		if got, want := len(drafts(t, root))-len(theirs), (len(both)-len(theirs))/2; got != want {
			t.Fatalf("beside one delivery and after another that was killed, there are %d drafts, want %d", got, want)
		}
		kill(t, second)
		if err := Deliver(t.Context(), store, small, Workspace{Root: root}); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(theirs)
		want["other/x"] = "x"
		if got := readSpec(t, root); !maps.Equal(got, want) {
			t.Fatalf("got %q,\nwant %q", got, want)
		}
	}
}

// TestDeliverTogether delivers to one place from many sides at once: nobody removes a
// draft of another.
func TestDeliverTogether(t *testing.T) {
	store := newTestStore(t)
	res, _ := draftResult(t, store)
	root := fakeRoot(t, spec{})
	errs := make(chan error)
	const sides, times = 4, 10
	for range sides {
		go func() {
			var err error
			for i := 0; i < times && err == nil; i++ {
				err = Deliver(t.Context(), store, res, Workspace{Root: root})
			}
			errs <- err
		}()
	}
	for range sides {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if left := drafts(t, root); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
	if _, err := os.Stat(root + "/d/sub/b"); err != nil {
		t.Error(err)
	}
}

// TestDeliverWhereNothingCanBeListed delivers into a directory whose drafts can be
// neither seen nor locked, but by root.
func TestDeliverWhereNothingCanBeListed(t *testing.T) {
	store := newTestStore(t)
	res := result(t, store, spec{"d/a": "content", "link": "-> d/a"}, "d", "link")
	root := fakeRoot(t, spec{})
	if err := os.Chmod(root, 0o333); err != nil {
		t.Fatal(err)
	}
	err := Deliver(t.Context(), store, res, Workspace{Root: root})
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := readSpec(t, root), (spec{"d/a": "content", "link": "-> d/a"}); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
