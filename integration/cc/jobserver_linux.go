package cc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Jobserver is make's: it holds a token for each job more that may run, and
// programs that work in parallel take one before each of theirs and put it back.
type Jobserver struct {
	tokens *os.File // for reading and writing
	named  bool     // a FIFO with a name, as make 4.4 has it; else a pipe
}

// FindJobserver returns the jobserver that MAKEFLAGS tells of, if it can be reached:
// make keeps it from recipes that it does not take for a make.
func FindJobserver(flags string) (*Jobserver, bool) {
	auth := ""
	for w := range strings.FieldsSeq(flags) {
		for _, name := range []string{"--jobserver-auth=", "--jobserver-fds="} {
			if v, ok := strings.CutPrefix(w, name); ok {
				auth = v // the last one counts
			}
		}
	}
	if path, ok := strings.CutPrefix(auth, "fifo:"); ok {
		f, err := openFIFO(path)
		return &Jobserver{f, true}, err == nil
	}
	r, w, ok := strings.Cut(auth, ",")
	from, err1 := strconv.Atoi(r)
	to, err2 := strconv.Atoi(w)
	if !ok || err1 != nil || err2 != nil || from < 3 || to < 3 || !isFIFO(from) || !isFIFO(to) {
		return nil, false
	}
	// One descriptor for both ends.
	f, err := openFIFO("/proc/self/fd/" + r)
	return &Jobserver{f, false}, err == nil
}

func openFIFO(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if !isFIFO(fd) {
		unix.Close(fd)
		return nil, unix.EINVAL
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "jobserver"), nil
}

func isFIFO(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// A sandbox has no descriptors but the first three. So the jobserver comes in as
// standard input, and a shell puts it where compilers look for it.
const passJobserver = `exec 8<&0 9>&0 0</dev/null; exec "$@"`

// Pass makes w a call that shares the work of make's jobserver. How many tokens there
// are is not in its key, because it does not matter for what comes out.
func (j *Jobserver) Pass(w *Want) {
	w.Source, w.Stdin = j.tokens, nil
	w.Front = []string{"/bin/sh", "-c", passJobserver, "sh"}
	auth := "8,9"
	if j.named {
		auth = "fifo:/dev/fd/8"
		w.Shared, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", j.tokens.Fd()))
	}
	// The number says nothing beside a jobserver. But where GCC before 13 starts make
	// with a FIFO, which it does not know, make 4.3 takes no -j without one.
	w.setEnv("MAKEFLAGS", " -j2 --jobserver-auth="+auth)
}
