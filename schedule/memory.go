package schedule

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is how many bytes this process and all that it starts can have together:
// those of the machine, or those that its control groups leave it, of either
// version. 0 if that is not known.
func Memory() int64 { return memory("/proc", "/sys/fs/cgroup") }

func memory(proc, groups string) int64 {
	most := int64(0)
	if data, err := os.ReadFile(filepath.Join(proc, "meminfo")); err == nil {
		if _, rest, ok := strings.Cut(string(data), "MemTotal:"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				kb, _ := strconv.ParseInt(fields[0], 10, 64)
				most = kb << 10
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(proc, "self/cgroup"))
	if err != nil {
		return most
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0" && f[1] == "":
			for _, mount := range []string{groups, filepath.Join(groups, "unified")} {
				most = least(most, mount, f[2], "memory.max")
			}
		case strings.Contains(","+f[1]+",", ",memory,"):
			most = least(most, filepath.Join(groups, "memory"), f[2], "memory.limit_in_bytes")
		}
	}
	return most
}

// least is the least of most and of the limits in the file of a control group and
// of all above it. In a container, what is mounted begins further down than the
// path says: then the last ones are there.
func least(most int64, mount, group, file string) int64 {
	for dir := filepath.Join("/", group); ; dir = filepath.Dir(dir) {
		if data, err := os.ReadFile(filepath.Join(mount, dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 && (most == 0 || n < most) {
				most = n
			}
		}
		if dir == "/" {
			return most
		}
	}
}
