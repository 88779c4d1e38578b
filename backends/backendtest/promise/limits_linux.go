package promise

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func limitPromises() []Promise {
	return []Promise{
		{
			Name: "limits/memory", Says: "a command that uses more memory than its limit is stopped, and told apart where that is exact; what it writes to memory counts",
			needs: func(c backends.Capabilities) bool { return c.MemoryLimit != backends.Absent },
			asks:  func(s *backends.Spec) { s.Limits.Memory = 64 * mib },
			check: checkMemoryLimit,
		},
		{
			Name: "limits/memory-tree", Says: "the memory limit is for all processes together",
			needs: func(c backends.Capabilities) bool { return c.MemoryLimit == backends.Exact },
			check: checkMemoryTree,
		},
		{
			Name: "limits/processes", Says: "a command cannot have more processes than its limit, whatever runs beside it",
			needs: func(c backends.Capabilities) bool { return c.PidsLimit != backends.Absent },
			asks:  func(s *backends.Spec) { s.Limits.Pids = 64 },
			check: checkPidsLimit,
		},
		{
			Name: "limits/file-size", Says: "a file that grows beyond the limit ends its writer by SIGXFSZ",
			needs: func(c backends.Capabilities) bool { return c.FileLimit },
			asks:  func(s *backends.Spec) { s.Limits.FileSize = mib },
			check: checkFileLimit,
		},
		{
			Name: "limits/scratch", Says: "a command that fills its scratch, /tmp or /dev/shm gets ENOSPC, and what it wrote before is kept",
			needs: func(c backends.Capabilities) bool { return c.ScratchLimit },
			asks:  func(s *backends.Spec) { s.Limits.Scratch = 4 * mib },
			check: checkScratchLimit,
		},
		{Name: "limits/none", Says: "the limits of one command are not those of the next one", check: checkNoLimits},
	}
}

// answers runs a probe in spec and returns whether it said yes; any end other
// than an answer counts as no, with the outcome as the reason.
func (t *trial) answers(spec *backends.Spec) (bool, *outcome, error) {
	o, err := t.run(spec)
	if err != nil {
		return false, nil, err
	}
	return o.Code == 0 && strings.HasPrefix(o.out, "yes"), o, nil
}

func checkMemoryLimit(t *trial) error {
	// Go reserves hundreds of megabytes of addresses, and address space is
	// what a process has as its limit where there are no control groups.
	args, limit := []string{"reserve", "4096"}, int64(2048*mib)
	if t.caps.MemoryLimit == backends.Exact {
		args, limit = []string{"allocate", "160", "0"}, 64*mib
	}
	spec := t.spec(args...)
	if yes, o, err := t.answers(spec); err != nil || !yes {
		return fmt.Errorf("%w: without a limit: %v, error %v", errUnproven, o, err)
	}
	spec.Limits.Memory = limit
	yes, o, err := t.answers(spec)
	if err != nil {
		return err
	}
	if yes {
		return fmt.Errorf("with a limit of %d MiB, %q succeeded: %v", limit/mib, args, o)
	}
	if t.caps.MemoryLimit == backends.Exact && (!o.OutOfMemory || o.Code == 0 || o.TimedOut) {
		return fmt.Errorf("with a limit of %d MiB: %v; want out of memory", limit/mib, o)
	}
	// One that stays below does not notice.
	spec = t.spec("touch", "16")
	spec.Limits.Memory = limit
	if o, err = t.run(spec); err != nil || o.Code != 0 || o.OutOfMemory {
		return fmt.Errorf("16 MiB of %d: %v, error %v", limit/mib, o, err)
	}
	return t.checkWrittenMemory(limit)
}

// checkWrittenMemory looks at the limit of memory for what is written to file systems
// in memory, of backends that have them.
func (t *trial) checkWrittenMemory(limit int64) error {
	if !t.caps.ScratchLimit {
		return nil
	}
	places := []string{"/tmp", "/dev/shm", "/build"}
	if t.caps.MemoryLimit == backends.Exact {
		for _, dir := range places {
			spec := t.spec("fill", dir, strconv.FormatInt(limit/mib+16, 10))
			if yes, o, err := t.answers(spec); err != nil || !yes {
				return fmt.Errorf("%w: writing into %s without a limit: %v, error %v", errUnproven, dir, o, err)
			}
			spec.Limits.Memory = limit
			if yes, o, err := t.answers(spec); err != nil || yes {
				return fmt.Errorf("writing %d MiB more than the limit into %s: %v, error %v", 16, dir, o, err)
			}
		}
		return nil
	}
	// No process is charged for it, so each place is as large as the limit, which is too
	// large to be filled here. The helper may need a little for itself.
	fits := func(memory int64) (bool, string, error) {
		spec := t.spec(append([]string{"room"}, places...)...)
		spec.Limits.Memory = memory
		o, err := t.run(spec)
		if err != nil || o.Code != 0 {
			return false, "", fmt.Errorf("room: %v, error %v", o, err)
		}
		good, sizes := true, strings.Fields(o.out)
		for _, s := range sizes {
			n, err := strconv.ParseInt(s, 10, 64)
			good = good && err == nil && n >= limit && n <= limit+mib
		}
		return good && len(sizes) == len(places), o.out, nil
	}
	if !t.caps.OwnKernel { // which takes seconds to start
		if good, out, err := fits(0); err != nil || good {
			return fmt.Errorf("%w: without a limit %q have room for %q, error %v", errUnproven, places, out, err)
		}
	}
	if good, out, err := fits(limit); err != nil || !good {
		return fmt.Errorf("with a limit of %d bytes %q have room for %q, error %v", limit, places, out, err)
	}
	return nil
}

func checkMemoryTree(t *trial) error {
	spec := t.spec("allocate", "48", "3")
	if yes, o, err := t.answers(spec); err != nil || !yes {
		return fmt.Errorf("%w: without a limit: %v, error %v", errUnproven, o, err)
	}
	spec.Limits.Memory = 96 * mib
	yes, o, err := t.answers(spec)
	if err != nil {
		return err
	}
	if yes || !o.OutOfMemory {
		return fmt.Errorf("three times 48 MiB with a limit of 96: %v; want out of memory", o)
	}
	return nil
}

func checkPidsLimit(t *trial) error {
	spec := t.spec("spawn", "40")
	if yes, o, err := t.answers(spec); err != nil || !yes {
		return fmt.Errorf("%w: without a limit: %v, error %v", errUnproven, o, err)
	}
	spec.Limits.Pids = 30 // every sleeper has threads of its own, too
	spec.Limits.Wall = time.Minute
	yes, o, err := t.answers(spec)
	if err != nil {
		return err
	}
	if yes || o.TimedOut {
		return fmt.Errorf("40 processes with a limit of 30: %v", o)
	}
	spec = t.spec("spawn", "1")
	spec.Limits.Pids = 64
	if yes, o, err = t.answers(spec); err != nil || !yes {
		return fmt.Errorf("one process with a limit of 64: %v, error %v", o, err)
	}
	return nil
}

func checkFileLimit(t *trial) error {
	spec := t.spec("grow", "file", "4")
	if yes, o, err := t.answers(spec); err != nil || !yes {
		return fmt.Errorf("without a limit: %v, error %v", o, err)
	}
	spec.Limits.FileSize = 2 * mib
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Signal != int(unix.SIGXFSZ) && t.caps.ExactStatus || o.Code != 128+int(unix.SIGXFSZ) {
		return fmt.Errorf("4 MiB with a limit of 2: %v; want SIGXFSZ", o)
	}
	return nil
}

func checkScratchLimit(t *trial) error {
	spec := t.spec("fill", "/build", "24")
	if yes, o, err := t.answers(spec); err != nil || !yes {
		return fmt.Errorf("without a limit: %v, error %v", o, err)
	}
	spec.Limits.Scratch = 8 * mib
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	yes, o, err := t.answers(spec)
	if err != nil {
		return err
	}
	if yes || !strings.Contains(o.out, unix.ENOSPC.Error()) {
		return fmt.Errorf("24 MiB with a limit of 8: %v; want %v", o, unix.ENOSPC)
	}
	var st unix.Stat_t
	if err := unix.Stat(root+"/build/fill-0", &st); err != nil || st.Size != mib {
		return fmt.Errorf("the first file: %d bytes, error %v", st.Size, err)
	}
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		spec := t.spec("fill", dir, "24")
		if yes, o, err := t.answers(spec); err != nil || !yes {
			return fmt.Errorf("%w: writing into %s without a limit: %v, error %v", errUnproven, dir, o, err)
		}
		spec.Limits.Scratch = 8 * mib
		yes, o, err := t.answers(spec)
		if err != nil {
			return err
		}
		if yes || !strings.Contains(o.out, unix.ENOSPC.Error()) {
			return fmt.Errorf("24 MiB with a limit of 8 into %s: %v; want %v", dir, o, unix.ENOSPC)
		}
	}
	return nil
}

func checkNoLimits(t *trial) error {
	if t.caps.FileLimit {
		spec := t.spec("exit", "0")
		spec.Limits.FileSize = 4096
		if _, err := t.succeed(spec); err != nil {
			return err
		}
	}
	yes, o, err := t.answers(t.spec("grow", "file", "4"))
	if err != nil || !yes {
		return fmt.Errorf("a file of 4 MiB, after a command that may not make it: %v, error %v", o, err)
	}
	if yes, o, err = t.answers(t.spec("spawn", "20")); err != nil || !yes {
		return fmt.Errorf("20 processes, after a command that may not have them: %v, error %v", o, err)
	}
	return nil
}
