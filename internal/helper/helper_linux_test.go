package helper

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/rebuildtest"
)

// TestRebuild makes the binaries from their source and compares.
func TestRebuild(t *testing.T) {
	rebuildtest.Test(t, "sbx-helper-amd64", "sbx-helper-arm64")
	if have, _ := os.ReadFile("sbx-helper-" + runtime.GOARCH); program != string(have) {
		t.Error("another binary is embedded")
	}
}

// TestNumbers compares the numbers that both languages write down.
func TestNumbers(t *testing.T) {
	var source []byte
	for _, f := range []string{"src/wire.h", "src/slot.h"} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, data...)
	}
	for name, want := range map[string]int{
		"WIRE_VERSION": Version, "FD_SOCKET": SocketFD, "FD_LIFE": LifeFD, "SANDBOXES": Sandboxes, "FDS_MAX": maxGroups,
		"REQUEST_KEEP_ROOT": int(KeepRoot), "REQUEST_OBSERVE": int(Observe), "REQUEST_FILL": int(FillRoot),
		"REQUEST_PREWARM": int(Prewarm), "REQUEST_BIG": int(bigRequest), "REQUEST_STDIN": int(hasStdin),
		"REQUEST_STDERR": int(hasStdin) << 2, "REQUEST_VARY": int(Vary), "REQUEST_TERMINAL": int(Terminal), "REPLY_TERMINAL": int(HasTerminal),
		"REQUEST_OWN_PID": int(OwnPID), "REQUEST_SET_NAME": int(SetName), "REQUEST_LO_UP": int(LoUp), "REQUEST_KEEP_CAPS": int(KeepCaps),
		"REQUEST_BEGIN": int(Begin), "REQUEST_BEGUN": int(Begun), "BEGUN_MAX": BeginMost,
		"REQUEST_FILTER": int(filtered), "USER_FILTER_MAX": backends.FilterMax,
		"VARY_SHIFT": int(VaryShift), "VARY_FREEZE": int(VaryFreeze), "VARY_ORDER": int(VaryOrder), "VARY_UMASK": int(VaryUmask),
		"VARY_LAYOUT": int(VaryLayout), "VARY_ONE_CPU": int(VaryOneCPU),
		"REPLY_DONE": int(Done), "REPLY_FILL": int(Fill), "REPLY_READY": int(Ready), "REPLY_ERROR": int(Failed), "REPLY_KILLED": int(Killed),
	} {
		m := regexp.MustCompile(name + ` = (\d+)`).FindSubmatch(source)
		if m == nil {
			t.Errorf("%s is not in the source", name)
			continue
		}
		if have, _ := strconv.Atoi(string(m[1])); have != want {
			t.Errorf("%s = %d in C, %d in Go", name, have, want)
		}
	}
}

// TestByHand shows that a user who finds the program learns what it is, on
// both machines where the other's programs can be run.
func TestByHand(t *testing.T) {
	for arch, emulator := range map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"} {
		args := []string{"./sbx-helper-" + arch}
		if arch != runtime.GOARCH {
			if _, err := exec.LookPath(emulator); err != nil {
				t.Logf("%s not tried: %v", arch, err)
				continue
			}
			args = append([]string{emulator}, args...)
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		code := -1
		if x, ok := err.(*exec.ExitError); ok {
			code = x.ExitCode()
		}
		if code != 125 || !bytes.Contains(out, []byte("started by sbx-action")) {
			t.Errorf("%s: exit %d, %q", arch, code, out)
		}
	}
}
