package native

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sbx-action/sbx-action/backends"
)

// showCPUs returns spec with the files of /proc that tell of as many processors
// as spec.Vary says; the helper answers sched_getaffinity. Done removes them.
func showCPUs(spec *backends.Spec) (_ *backends.Spec, done func(), err error) {
	if spec.Vary == nil || spec.Vary.CPUs == 0 {
		return spec, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "sbx-cpus-")
	if err != nil {
		return spec, nil, fmt.Errorf("vary the processors: %w", err)
	}
	done = func() { os.RemoveAll(dir) }
	varied := *spec
	varied.Root.Binds = slices.Clone(spec.Root.Binds)
	for name, tell := range map[string]func([]byte, int) []byte{"stat": tellStat, "cpuinfo": tellInfo} {
		data, err := os.ReadFile("/proc/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), tell(data, spec.Vary.CPUs), 0o444)
		}
		if err != nil {
			done()
			return spec, nil, fmt.Errorf("vary the processors: %w", err)
		}
		varied.Root.Binds = append(varied.Root.Binds, backends.Bind{Source: filepath.Join(dir, name), Target: "/proc/" + name})
	}
	return &varied, done, nil
}

// tellStat returns a /proc/stat with a line for each of n processors, all alike.
func tellStat(data []byte, n int) []byte {
	var out, model []byte
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte("cpu")) || bytes.HasPrefix(line, []byte("cpu ")) {
			out = append(out, line...)
			continue
		}
		if model != nil {
			continue
		}
		_, model, _ = bytes.Cut(line, []byte(" "))
		for i := range n {
			out = append(append(append(append(out, "cpu"...), strconv.Itoa(i)...), ' '), model...)
		}
	}
	return out
}

// tellInfo returns a /proc/cpuinfo with the first block of data n times.
func tellInfo(data []byte, n int) []byte {
	block, _, _ := bytes.Cut(data, []byte("\n\n"))
	var out []byte
	for i := range n {
		for line := range bytes.Lines(block) {
			if bytes.HasPrefix(line, []byte("processor")) {
				line = fmt.Appendf(nil, "processor\t: %d\n", i)
			}
			out = append(out, line...)
		}
		out = append(out, "\n\n"...)
	}
	return out
}
