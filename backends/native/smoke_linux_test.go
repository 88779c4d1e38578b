package native

import (
	"os"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

func hostRoot() backends.Root {
	r := backends.Root{}
	for _, d := range []string{"/usr", "/etc"} {
		r.Binds = append(r.Binds, backends.Bind{Source: d, Target: d})
	}
	r.Fill = func(dir *os.File) error {
		root, err := os.OpenRoot("/proc/self/fd/" + itoa(dir.Fd()))
		if err != nil {
			return err
		}
		defer root.Close()
		for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
			if err := root.Symlink("usr/"+d, d); err != nil {
				return err
			}
		}
		return root.Mkdir("build", 0o777)
	}
	return r
}

func itoa(n uintptr) string {
	s := ""
	for n > 0 {
		s = string(rune('0'+n%10)) + s
		n /= 10
	}
	return s
}

func TestSmoke(t *testing.T) {
	b, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 3 {
		st, err := b.Run(t.Context(), &backends.Spec{
			Root: hostRoot(), Dir: "/build", Stdout: os.Stdout, Stderr: os.Stderr,
			Env:  []string{"PATH=/usr/bin:/bin"},
			Args: []string{"sh", "-c", "id; pwd; ls -l /; ls -la /dev; cat /proc/self/mountinfo; grep -E 'Cap|NoNew|Secc|Sig' /proc/self/status; env; hostname; ls -l /proc/self/fd; cat /proc/net/dev; ulimit -a; exit 7"},
		})
		t.Logf("%+v %v", st, err)
	}
}
