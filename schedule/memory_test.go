package schedule

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMemory reads machines of both versions of control groups, a container, and
// none.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing":    {nil, 0},
		"machine":    {map[string]string{"proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\n"}, 1000 << 10},
		"version 2":  {map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/a/b/memory.max": "max\n", "sys/a/memory.max": "4096\n"}, 4096},
		"version 1":  {map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", "proc/self/cgroup": "4:cpu,memory:/a\n0::/\n", "sys/memory/a/memory.limit_in_bytes": "8192\n", "sys/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8192},
		"container":  {map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", "proc/self/cgroup": "3:memory:/docker/x\n", "sys/memory/memory.limit_in_bytes": "8192\n"}, 8192},
		"above it":   {map[string]string{"proc/meminfo": "MemTotal: 1 kB\n", "proc/self/cgroup": "0::/a\n", "sys/a/memory.max": "8192\n"}, 1024},
		"as a whole": {map[string]string{"proc/self/cgroup": "0::/a\nx\n", "sys/unified/a/memory.max": "77\n"}, 77},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			file = filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := memory(dir+"/proc", dir+"/sys"); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if Memory() <= 0 {
		t.Error("of this machine nothing is known")
	}
}
