package reapi_test

//lint:file-ignore SA1019 what is deprecated is what this file is about

import (
	"os"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

func oldFileLinks(r *repb.ActionResult) []*repb.OutputSymlink { return r.OutputFileSymlinks }
func oldDirLinks(r *repb.ActionResult) []*repb.OutputSymlink  { return r.OutputDirectorySymlinks }

func setOldPlatform(c *repb.Command, name, value string) {
	c.Platform = &repb.Platform{Properties: []*repb.Platform_Property{{Name: name, Value: value}}}
}

func accessTime(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return time.Unix(st.Atim.Unix())
}
